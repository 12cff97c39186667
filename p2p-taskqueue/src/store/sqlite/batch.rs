use std::sync::Arc;

use rusqlite::OptionalExtension;

use super::{
    command::{Answer, ClaimWork, GivenOut, Returns, Work},
    leases::Lease,
    routes,
    rows::{self, LiveRow, RowError},
    turn::{Halt, Turn, lease_end, not_found},
};
use crate::{
    PeerId, QueueError,
    api::{Cancel, Cancelled, Complete, Completed, ErrorCode, Fail, Failed, Release, Released, Renew, Renewed},
    engine::{self, Admission, Completion, Grant, Lane, Phase, Spec, Step},
    store::Submission,
    task::{TaskId, TaskStatus},
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
    let now = turn.memory.retention(turn.now);
    let known = turn
        .connection
        .prepare_cached("SELECT content, id FROM idempotency WHERE scope = ?1 AND key = ?2 AND expires_at > ?3")?
        .query_row((&idempotency.scope, &idempotency.key, now.as_micros()), |row| {
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
    Ok(Completed { task_id: request.task_id, status, repeated, submitted: Vec::new(), next: None })
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
pub(super) fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / (f64::from(u32::MAX) + 1.0))
}

/// Damaged rows that one claim passes over.
const SET_ASIDE_MAX: usize = 16;

/// Lines whose heads are held in memory, at about 500 bytes each. Far above what types, worker labels, peers and sessions in
/// use come to.
const LANES_MAX: usize = 100_000;

/// Lines go away as their tasks are claimed.
const LANES_RETRY_AFTER_S: f64 = 5.0;
