use std::sync::Arc;

use rusqlite::{Connection, Row};
use taskqueue_api::TaskId;

use super::{
    Checksum, Columns, RowError, attempts,
    checksum::{real, real_if_any},
    columns::{feed_policy, fence_columns},
};
use crate::{
    Seq,
    engine::{Attempts, Elapsed, Live, Phase, Wall},
};

/// A row of `live`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LiveRow {
    pub(crate) seq: Seq,
    pub(crate) id: TaskId,
    pub(crate) live: Live,
}

/// Returns the key of a row: the sequence number for a running task, its complement, which is negative, for all others.
/// So each kind is found without the other, and no index is needed.
pub(crate) const fn live_key(seq: Seq, phase: Phase) -> i64 {
    match phase {
        Phase::Running => seq,
        Phase::Ready | Phase::Delayed | Phase::Scheduled | Phase::Blocked => !seq,
    }
}

/// Reads a row of `live`.
pub(crate) fn read_live(row: &Row<'_>) -> Result<LiveRow, RowError> {
    let mut columns = Columns::new(row);
    let key: i64 = columns.take()?;
    let id = columns.id()?;
    let phase = match columns.take::<i64>()? {
        PHASE_READY => Phase::Ready,
        PHASE_DELAYED => Phase::Delayed,
        PHASE_RUNNING => Phase::Running,
        PHASE_BLOCKED => Phase::Blocked,
        PHASE_SCHEDULED => Phase::Scheduled,
        _ => return Err(RowError::Damaged),
    };
    let seq = if key < 0 { !key } else { key };
    let mut live = Live {
        phase,
        ready_at: columns.elapsed()?,
        not_before: columns.wall_if_any()?,
        deadline: columns.elapsed_if_any()?,
        waiting: columns.take()?,
        attempt: columns.take()?,
        fence: columns.fence()?,
        worker: columns.take()?,
        lease_s: columns.take()?,
        lease_until: columns.wall_if_any()?,
        kept_until: None,
        cancel: columns.take()?,
        progress: columns.take()?,
        status_message: columns.take()?,
        error: columns.take()?,
        inputs: None,
        attempts: Attempts::NONE,
        updated_at: columns.wall()?,
        policy: columns.policy()?,
    };
    let sum = columns.sum()?;
    let inputs: Option<String> = columns.take()?;
    live.kept_until = columns.elapsed_if_any()?;
    let attempts: Option<Vec<u8>> = columns.added()?;
    let is_sound = sum == i64::from(live_sum(seq, id, &live, inputs.as_deref(), attempts.as_deref()).finish())
        && key == live_key(seq, phase)
        && (phase != Phase::Scheduled || live.not_before.is_some());
    if let Some(text) = inputs.filter(|_| is_sound) {
        live.inputs = Some(Arc::new(serde_json::from_str(&text).map_err(|_| RowError::Damaged)?));
    }
    if is_sound {
        live.attempts = attempts::read(attempts.as_deref())?;
    }
    if is_sound { Ok(LiveRow { seq, id, live }) } else { Err(RowError::Damaged) }
}

/// Writes a row of `live`, in place of a row with the same key.
pub(crate) fn put_live(connection: &Connection, seq: Seq, id: TaskId, live: &Live) -> rusqlite::Result<()> {
    let (fence_epoch, fence_counter) = fence_columns(live.fence);
    // A text can always be written as JSON.
    let inputs = live.inputs.as_deref().and_then(|inputs| serde_json::to_string(inputs).ok());
    let attempts = attempts::written(&live.attempts);
    let mut statement =
        connection.prepare_cached("REPLACE INTO live VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?;
    statement.raw_bind_parameter(1, live_key(seq, live.phase))?;
    statement.raw_bind_parameter(2, id.as_bytes().as_slice())?;
    statement.raw_bind_parameter(3, phase_number(live.phase))?;
    statement.raw_bind_parameter(4, live.ready_at.as_micros())?;
    statement.raw_bind_parameter(5, live.not_before.map(Wall::as_micros))?;
    statement.raw_bind_parameter(6, live.deadline.map(Elapsed::as_micros))?;
    statement.raw_bind_parameter(7, live.waiting)?;
    statement.raw_bind_parameter(8, live.attempt)?;
    statement.raw_bind_parameter(9, fence_epoch)?;
    statement.raw_bind_parameter(10, fence_counter)?;
    statement.raw_bind_parameter(11, &live.worker)?;
    statement.raw_bind_parameter(12, real(live.lease_s))?;
    statement.raw_bind_parameter(13, live.lease_until.map(Wall::as_micros))?;
    statement.raw_bind_parameter(14, &live.cancel)?;
    statement.raw_bind_parameter(15, real_if_any(live.progress))?;
    statement.raw_bind_parameter(16, &live.status_message)?;
    statement.raw_bind_parameter(17, &live.error)?;
    statement.raw_bind_parameter(18, live.updated_at.as_micros())?;
    statement.raw_bind_parameter(19, live.policy.max_attempts)?;
    statement.raw_bind_parameter(20, real(live.policy.backoff_s))?;
    statement.raw_bind_parameter(21, real(live.policy.result_ttl_s))?;
    statement.raw_bind_parameter(22, live_sum(seq, id, live, inputs.as_deref(), attempts.as_deref()).finish())?;
    statement.raw_bind_parameter(23, inputs)?;
    statement.raw_bind_parameter(24, live.kept_until.map(Elapsed::as_micros))?;
    statement.raw_bind_parameter(25, attempts)?;
    statement.raw_execute()?;
    Ok(())
}

fn live_sum(seq: Seq, id: TaskId, live: &Live, inputs: Option<&str>, attempts: Option<&[u8]>) -> Checksum {
    let mut sum = Checksum::new();
    sum.int(seq).bytes(Some(id.as_bytes())).int(phase_number(live.phase)).elapsed(live.ready_at);
    sum.wall_if_any(live.not_before).elapsed_if_any(live.deadline).int(live.waiting).int(live.attempt);
    sum.fence(live.fence).text_if_any(live.worker.as_ref()).real(live.lease_s).wall_if_any(live.lease_until);
    sum.text_if_any(live.cancel.as_ref()).real_if_any(live.progress).text_if_any(live.status_message.as_ref());
    sum.text_if_any(live.error.as_ref()).wall(live.updated_at);
    feed_policy(&mut sum, live.policy);
    // Fields that were added later are fed only where they are present, so that the checksums of older rows stay valid.
    inputs.into_iter().for_each(|inputs| _ = sum.text(inputs));
    live.kept_until.into_iter().for_each(|until| _ = sum.elapsed(until));
    attempts::feed(&mut sum, attempts);
    sum
}

const fn phase_number(phase: Phase) -> i64 {
    match phase {
        Phase::Ready => PHASE_READY,
        Phase::Delayed => PHASE_DELAYED,
        Phase::Running => PHASE_RUNNING,
        Phase::Blocked => PHASE_BLOCKED,
        Phase::Scheduled => PHASE_SCHEDULED,
    }
}

const PHASE_READY: i64 = 0;
const PHASE_DELAYED: i64 = 1;
const PHASE_RUNNING: i64 = 2;
const PHASE_BLOCKED: i64 = 3;
const PHASE_SCHEDULED: i64 = 4;
