use super::{
    batch::chance,
    rows::{self, RowError},
    turn::{Found, Halt, Turn},
};
use crate::{
    engine::{self, Phase, Standing, Wall},
    task::{Fence, TaskId, TaskStatus},
};

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
    let now = turn.memory.retention(turn.now);
    if turn.memory.sweep_at.is_none_or(|at| at > now) {
        return Ok(());
    }
    let now = now.as_micros();
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

/// Leases ended and delayed tasks readied in one transaction: a few milliseconds of work, then commands have their turn.
const CHORES_MAX: usize = 256;

/// Rows removed in one transaction, well under a millisecond of work unless they are large.
const SWEEP_MAX: i64 = 32;

/// Removing a large row walks all its pages: stop the chunk after this many bytes.
const SWEEP_BYTES_MAX: i64 = 4 * 1024 * 1024;
