use std::sync::Arc;

use rusqlite::OptionalExtension;

use super::{
    command::{Answer, ClaimWork, GivenOut, Returns, Work},
    leases::Lease,
    routes,
    rows::{self, LiveRow, RowError},
    turn::{Found, Halt, Turn, lease_end, not_found},
};
use crate::{
    PeerId, QueueError,
    api::{Cancel, Cancelled, Complete, Completed, ErrorCode, Fail, Failed, Release, Released, Renew, Renewed},
    engine::{self, Admission, Completion, Grant, Lane, Phase, Spec, Standing, Step, Wall},
    store::Submission,
    task::{Fence, TaskId, TaskStatus},
};

/// Makes one change. All reading and deciding comes before the first write, so that a refusal leaves nothing behind.
pub(super) fn apply(turn: &mut Turn<'_>, work: &Work, returns: &Arc<Returns>) -> Result<Answer, Halt> {
    match work {
        Work::Submit(admission) => submit(turn, admission).map(Answer::Submitted),
        Work::Claim(claim) => claim_one(turn, claim, returns).map(Answer::Claimed),
        Work::Renew(request) => renew(turn, request).map(Answer::Renewed),
        Work::Complete(request) => complete(turn, request).map(Answer::Completed),
        Work::Fail(request) => fail(turn, request).map(Answer::Failed),
        Work::Release(request) => release(turn, request).map(Answer::Released),
        Work::Cancel(request) => cancel(turn, request).map(Answer::Cancelled),
        Work::Remember(task, owner) => {
            remember(turn, *task, *owner)?;
            Ok(Answer::Remembered)
        }
    }
}

fn submit(turn: &mut Turn<'_>, admission: &Admission) -> Result<Submission, Halt> {
    if let Some(first) = first_submit(turn, admission)? {
        return Ok(Submission { task_id: first, duplicate: true });
    }
    let lane = rows::lane_key(&Lane::of(&admission.spec));
    if turn.memory.lanes.len() >= LANES_MAX && !turn.memory.lanes.contains(&lane) {
        let message = format!("more than {LANES_MAX} combinations of type, requires, session and pin_to are queued");
        return Err(QueueError::new(ErrorCode::Overloaded, message).with_retry_after_s(LANES_RETRY_AFTER_S).into());
    }
    let seq = turn.effects.tally.next_seq;
    turn.effects.tally.next_seq += 1;
    let mut live = admission.live.clone();
    if live.phase == Phase::Ready {
        live.ready_at = turn.next_place(live.ready_at);
    }
    let row = LiveRow { seq, id: admission.spec.id, lane, priority: admission.spec.priority, live };
    rows::insert_spec(turn.connection, seq, &admission.spec, admission.payload.get())?;
    rows::insert_live(turn.connection, &row)?;
    if let Some(idempotency) = &admission.idempotency {
        turn.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO idempotency (scope, key, content, id, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                &idempotency.scope,
                &idempotency.key,
                idempotency.content.as_slice(),
                admission.spec.id.as_bytes().as_slice(),
                idempotency.expires_at.as_micros(),
            ))?;
        turn.sweep_by(idempotency.expires_at);
    }
    turn.effects.wrote = true;
    turn.enter(&row);
    Ok(Submission { task_id: admission.spec.id, duplicate: false })
}

/// The task of an earlier submit with the same key (clause T7).
fn first_submit(turn: &Turn<'_>, admission: &Admission) -> Result<Option<TaskId>, Halt> {
    let Some(idempotency) = &admission.idempotency else { return Ok(None) };
    let known = turn
        .connection
        .prepare_cached("SELECT content, id FROM idempotency WHERE scope = ?1 AND key = ?2 AND expires_at > ?3")?
        .query_row((&idempotency.scope, &idempotency.key, turn.now.wall.as_micros()), |row| {
            Ok((row.get::<_, [u8; 32]>(0)?, TaskId::from_bytes(row.get(1)?)))
        })
        .optional()?;
    match known {
        Some((content, id)) if content == idempotency.content => Ok(Some(id)),
        Some((_, id)) => {
            let message = format!("this idempotency key was used with other content, for task {id}");
            Err(QueueError::new(ErrorCode::Conflict, message).into())
        }
        None => Ok(None),
    }
}

/// Gives out the first task that the worker may take, if there is one.
pub(super) fn claim_one(
    turn: &mut Turn<'_>,
    claim: &ClaimWork,
    returns: &Arc<Returns>,
) -> Result<Option<Box<GivenOut>>, Halt> {
    for _ in 0..=SET_ASIDE_MAX {
        let Some((head, lane)) = turn.memory.lanes.first_for(&claim.claimant) else { return Ok(None) };
        let (row, spec, payload) = match candidate(turn, head.seq) {
            Ok(found) => found,
            Err(RowError::Damaged) => {
                turn.set_aside(&lane, head.seq)?;
                continue;
            }
            Err(RowError::Sqlite(error)) => return Err(error.into()),
        };
        let fence = turn.next_fence();
        let grant = Grant { fence, worker: claim.worker.clone(), lease_s: claim.lease_s };
        let live = engine::grant(&row.live, grant, turn.now);
        turn.stay(row, live.clone())?;
        return Ok(Some(Box::new(GivenOut::new(spec, live, payload, fence, Arc::clone(returns)))));
    }
    Err(QueueError::new(ErrorCode::StorageError, "too many damaged records in a row; restore a backup").into())
}

fn candidate(turn: &Turn<'_>, seq: i64) -> Result<(LiveRow, Spec, String), RowError> {
    let row = turn.live_row(seq)?.filter(|row| row.live.phase == Phase::Ready).ok_or(RowError::Damaged)?;
    let (spec, payload) = turn.spec(seq)?.filter(|(spec, _)| spec.id == row.id).ok_or(RowError::Damaged)?;
    Ok((row, spec, payload))
}

fn renew(turn: &mut Turn<'_>, request: &Renew) -> Result<Renewed, Halt> {
    let (standing, _, row) = turn.find(request.task_id)?.split();
    let lease_end = turn.memory.leases.get(request.task_id).map(|lease| lease.end);
    let (live, renewed) = engine::renew(standing, lease_end, request, turn.now)?;
    let row = LiveRow { live, ..living(row, request.task_id)? };
    rows::update_lease(turn.connection, &row)?;
    turn.effects.wrote = true;
    let lease = Lease { end: self::lease_end(turn.now, request.lease_s), seq: row.seq };
    turn.effects.leases.push((row.id, Some(lease)));
    Ok(renewed)
}

fn complete(turn: &mut Turn<'_>, request: &Complete) -> Result<Completed, Halt> {
    let (standing, stored, row) = turn.find(request.task_id)?.split();
    let lease_end = turn.memory.leases.get(request.task_id).map(|lease| lease.end);
    let (status, repeated) = match engine::complete(standing, stored.as_ref(), lease_end, request, turn.now)? {
        Completion::Repeated(status) => (status, true),
        Completion::End(ended) => {
            turn.end(&living(row, request.task_id)?, &ended, request.result.as_ref())?;
            (ended.status, false)
        }
    };
    Ok(Completed { task_id: request.task_id, status, repeated })
}

fn fail(turn: &mut Turn<'_>, request: &Fail) -> Result<Failed, Halt> {
    let (standing, _, row) = turn.find(request.task_id)?.split();
    let lease_end = turn.memory.leases.get(request.task_id).map(|lease| lease.end);
    let step = engine::fail(standing, lease_end, request, chance(), turn.now)?;
    let row = living(row, request.task_id)?;
    let failed = Failed { status: status_of(&step), attempt: row.live.attempt };
    turn.take_step(row, step)?;
    Ok(failed)
}

fn release(turn: &mut Turn<'_>, request: &Release) -> Result<Released, Halt> {
    let (standing, _, row) = turn.find(request.task_id)?.split();
    let lease_end = turn.memory.leases.get(request.task_id).map(|lease| lease.end);
    let step = engine::release(standing, lease_end, request, turn.now)?;
    let status = status_of(&step);
    turn.take_step(living(row, request.task_id)?, step)?;
    Ok(Released { status })
}

fn cancel(turn: &mut Turn<'_>, request: &Cancel) -> Result<Cancelled, Halt> {
    let (standing, _, row) = turn.find(request.task_id)?.split();
    let Some(step) = engine::cancel(standing, request, turn.now)? else {
        return Ok(Cancelled { cancelled: true, cancel_requested: false, status: TaskStatus::Cancelled });
    };
    let status = status_of(&step);
    match (step, living(row, request.task_id)?) {
        // Only a note for the worker: the lease stays as it is.
        (Step::Stay(live), row) => {
            rows::update_live(turn.connection, &LiveRow { live, ..row })?;
            turn.effects.wrote = true;
        }
        (step, row) => turn.take_step(row, step)?,
    }
    let cancelled = status == TaskStatus::Cancelled;
    Ok(Cancelled { cancelled, cancel_requested: !cancelled, status })
}

fn remember(turn: &mut Turn<'_>, task: TaskId, owner: PeerId) -> Result<(), Halt> {
    routes::insert(turn.connection, task, owner)?;
    turn.effects.wrote = true;
    Ok(())
}

/// Takes back what was given out to callers that had gone away.
pub(super) fn take_back(turn: &mut Turn<'_>, given_out: &[(TaskId, Fence)]) -> rusqlite::Result<()> {
    for (id, fence) in given_out {
        let row = match turn.find(*id) {
            Ok(Found::Live(row)) => row,
            Ok(Found::Ended(..)) | Err(Halt::Refused(_)) => continue,
            Err(Halt::Failed(error)) => return Err(error),
        };
        if let Some(step) = engine::give_back(Standing::Live(row.live.clone()), *id, *fence, turn.now) {
            turn.take_step(row, step)?;
        }
    }
    Ok(())
}

/// Ends the leases that were not renewed in time (clause T4).
pub(super) fn expire_leases(turn: &mut Turn<'_>) -> rusqlite::Result<()> {
    for (id, _) in turn.memory.leases.ended_by(turn.now.monotonic, CHORES_MAX) {
        match turn.find(id) {
            Ok(Found::Live(row)) if row.live.phase == Phase::Running => {
                let step = engine::expire(row.live.clone(), chance(), turn.now);
                turn.take_step(row, step)?;
            }
            Ok(_) => turn.effects.leases.push((id, None)),
            Err(Halt::Refused(error)) => {
                tracing::error!(task = %id, %error, "a running task cannot be read; its lease is forgotten");
                turn.effects.leases.push((id, None));
            }
            Err(Halt::Failed(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Makes delayed tasks claimable whose time has come.
pub(super) fn ready_delayed(turn: &mut Turn<'_>) -> Result<(), Halt> {
    if turn.memory.delayed_at.is_none_or(|at| at > turn.now.wall) {
        return Ok(());
    }
    let due: Vec<i64> = turn
        .connection
        .prepare_cached(
            "SELECT seq FROM live INDEXED BY live_delayed WHERE phase = 1 AND ready_at <= ?1 ORDER BY ready_at LIMIT ?2",
        )?
        .query_map((turn.now.wall.as_micros(), CHORES_MAX as i64), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in &due {
        match turn.live_row(*seq) {
            Ok(Some(row)) => {
                let live = engine::Live { phase: Phase::Ready, updated_at: turn.now.wall, ..row.live.clone() };
                turn.stay(row, live)?;
            }
            Ok(None) | Err(RowError::Damaged) => turn.set_aside("", *seq)?,
            Err(RowError::Sqlite(error)) => return Err(error.into()),
        }
    }
    if due.len() < CHORES_MAX {
        let sql = "SELECT min(ready_at) FROM live INDEXED BY live_delayed WHERE phase = 1";
        let next: Option<i64> = turn.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        turn.memory.delayed_at = next.map(Wall::from_micros);
    }
    Ok(())
}

/// Removes a few of the finished tasks and idempotency keys whose time is over (clause T11).
pub(super) fn sweep(turn: &mut Turn<'_>) -> Result<(), Halt> {
    if turn.memory.sweep_at.is_none_or(|at| at > turn.now.wall) {
        return Ok(());
    }
    let now = turn.now.wall.as_micros();
    let due: Vec<(i64, i64, i64)> = turn
        .connection
        .prepare_cached(
            "SELECT f.seq, f.status, octet_length(t.payload) + ifnull(octet_length(f.result), 0) \
             FROM finished f JOIN task t ON t.seq = f.seq WHERE f.expires_at <= ?1 ORDER BY f.expires_at LIMIT ?2",
        )?
        .query_map((now, SWEEP_MAX), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut bytes = 0;
    for (seq, status, size) in &due {
        turn.connection.prepare_cached("DELETE FROM finished WHERE seq = ?1")?.execute([seq])?;
        turn.connection.prepare_cached("DELETE FROM task WHERE seq = ?1")?.execute([seq])?;
        if let Some(status) = TaskStatus::ALL.into_iter().find(|known| rows::status_number(*known) == Some(*status)) {
            turn.effects.tally.leave(status);
        }
        turn.effects.wrote = true;
        bytes += size;
        if bytes > SWEEP_BYTES_MAX {
            return Ok(());
        }
    }
    let keys = "DELETE FROM idempotency WHERE (scope, key) IN \
                (SELECT scope, key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    let keys = turn.connection.prepare_cached(keys)?.execute((now, SWEEP_MAX))?;
    turn.effects.wrote |= keys > 0;
    if (due.len() as i64) < SWEEP_MAX && (keys as i64) < SWEEP_MAX {
        turn.memory.sweep_at = next_sweep(turn)?;
    }
    Ok(())
}

fn next_sweep(turn: &Turn<'_>) -> rusqlite::Result<Option<Wall>> {
    let earliest = |sql| turn.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0));
    let finished = earliest("SELECT min(expires_at) FROM finished")?;
    let keys = earliest("SELECT min(expires_at) FROM idempotency")?;
    Ok(finished.into_iter().chain(keys).min().map(Wall::from_micros))
}

fn living(row: Option<LiveRow>, id: TaskId) -> Result<LiveRow, QueueError> {
    row.ok_or_else(|| not_found(id))
}

const fn status_of(step: &Step) -> TaskStatus {
    match step {
        Step::Stay(live) => live.status(),
        Step::End(ended) => ended.status,
    }
}

/// For the jitter of a backoff, 0 up to 1; the middle when the system has no randomness to give.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / (f64::from(u32::MAX) + 1.0))
}

/// Leases ended and delayed tasks readied in one transaction: a few milliseconds of work, then commands have their turn.
const CHORES_MAX: usize = 256;

/// Rows removed in one transaction, well under a millisecond of work unless they are large.
const SWEEP_MAX: i64 = 32;

/// Removing a large row walks all its pages: stop the chunk after this many bytes.
const SWEEP_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// Damaged rows that one claim passes over.
const SET_ASIDE_MAX: usize = 16;

/// Lines whose heads are held in memory, at about 500 bytes each. Far above what types, worker labels, peers and sessions in
/// use come to.
const LANES_MAX: usize = 100_000;

/// Lines go away as their tasks are claimed.
const LANES_RETRY_AFTER_S: f64 = 5.0;
