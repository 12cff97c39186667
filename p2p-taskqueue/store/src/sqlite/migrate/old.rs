//! The rows of schema version 1, as that version read them.

use rusqlite::Row;
use taskqueue_api::{Fence, OnParentFailure, PeerId, TaskId, TaskStatus};

use super::super::row::{Checksum, Columns, RowError};
use crate::{
    Seq,
    engine::{Elapsed, Ended, Live, Phase, Spec, Terms, Wall},
};

/// Reads a row of `old_task`: what the submit fixed, and the payload's text.
pub(super) fn read_task(row: &Row<'_>) -> Result<(Spec, String), RowError> {
    let mut columns = Columns::new(row);
    let seq: Seq = columns.take()?;
    let id = columns.id()?;
    let (task_type, model_name, priority) = (columns.take()?, columns.take()?, columns.take()?);
    let created_at = columns.wall()?;
    // Reserved, and never filled in.
    let _deadline: Option<i64> = columns.take()?;
    let spec = Spec {
        id,
        submitter: None,
        task_type,
        model_name,
        priority,
        created_at,
        deadline_s: None,
        labels: columns.words()?,
        requires: columns.words()?,
        session: columns.take()?,
        pin_to: match columns.take::<Option<Vec<u8>>>()? {
            Some(bytes) => Some(PeerId::from_bytes(&bytes).map_err(|_| RowError::Damaged)?),
            None => None,
        },
        after: Vec::new(),
        on_parent_failure: OnParentFailure::Fail,
        concurrency_key: None,
        terms: columns.terms()?,
    };
    let stored: i64 = columns.take()?;
    let payload: String = columns.take()?;
    if task_sum(seq, &spec, &payload).is(stored) { Ok((spec, payload)) } else { Err(RowError::Damaged) }
}

/// Reads a row of `old_live`.
pub(super) fn read_live(row: &Row<'_>) -> Result<(TaskId, Live), RowError> {
    let mut columns = Columns::new(row);
    let (seq, id, lane, priority): (Seq, _, String, u8) =
        (columns.take()?, columns.id()?, columns.take()?, columns.take()?);
    let number: i64 = columns.take()?;
    let phase = match number {
        0 => Phase::Ready,
        1 => Phase::Delayed,
        2 => Phase::Running,
        // Found damaged then, and set aside.
        _ => return Err(RowError::Damaged),
    };
    let live = Live {
        phase,
        ready_at: columns.elapsed()?,
        not_before: columns.wall_if_any()?,
        deadline: None,
        waiting: 0,
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
        updated_at: columns.wall()?,
        terms: columns.terms()?,
    };
    let mut sum = Checksum::new();
    sum.int(seq).bytes(Some(id.as_bytes())).text(&lane).int(priority).int(number);
    feed_live(&mut sum, &live);
    let stored = columns.sum()?;
    if sum.is(stored) { Ok((id, live)) } else { Err(RowError::Damaged) }
}

/// Reads a row of `old_finished`: whose it is, how the task ended, and its result's text.
pub(super) fn read_ended(row: &Row<'_>) -> Result<(TaskId, Ended, Option<String>), RowError> {
    let mut columns = Columns::new(row);
    let (seq, id): (Seq, _) = (columns.take()?, columns.id()?);
    let number: i64 = columns.take()?;
    let ended = Ended {
        status: match number {
            3 => TaskStatus::Completed,
            4 => TaskStatus::Failed,
            5 => TaskStatus::Cancelled,
            _ => return Err(RowError::Damaged),
        },
        at: columns.wall()?,
        expires_at: columns.elapsed()?,
        not_before: columns.wall_if_any()?,
        deadline: None,
        attempt: columns.take()?,
        fence: columns.fence()?,
        worker: columns.take()?,
        progress: columns.take()?,
        status_message: columns.take()?,
        error: columns.take()?,
        dead: columns.take()?,
        failed_by: None,
    };
    let stored: i64 = columns.take()?;
    let result: Option<String> = columns.take()?;
    let mut sum = Checksum::new();
    sum.int(seq).bytes(Some(id.as_bytes())).int(number);
    sum.wall_if_any(Some(ended.at)).elapsed_if_any(Some(ended.expires_at)).wall_if_any(ended.not_before);
    sum.int(ended.attempt);
    feed_fence(&mut sum, ended.fence);
    sum.text_if_any(ended.worker.as_ref()).real_if_any(ended.progress).text_if_any(ended.status_message.as_ref());
    sum.text_if_any(ended.error.as_ref()).int(ended.dead).text_if_any(result.as_ref());
    if sum.is(stored) { Ok((id, ended, result)) } else { Err(RowError::Damaged) }
}

/// Elapsed time began as wall time: see [`Elapsed`].
pub(super) const fn elapsed(wall: Wall) -> Elapsed {
    Elapsed::from_micros(wall.as_micros())
}

fn task_sum(seq: Seq, spec: &Spec, payload: &str) -> Checksum {
    let mut sum = Checksum::new();
    sum.int(seq).bytes(Some(spec.id.as_bytes())).text(&spec.task_type).text(&spec.model_name);
    sum.int(spec.priority).wall_if_any(Some(spec.created_at)).wall_if_any(None);
    sum.words(&spec.labels);
    spec.requires.iter().for_each(|label| _ = sum.text(label));
    sum.text_if_any(spec.session.as_ref()).bytes(spec.pin_to.map(PeerId::to_bytes).as_deref());
    feed_terms(&mut sum, spec.terms);
    sum.text(payload);
    sum
}

fn feed_live(sum: &mut Checksum, live: &Live) {
    sum.elapsed_if_any(Some(live.ready_at)).wall_if_any(live.not_before).int(live.attempt);
    feed_fence(sum, live.fence);
    sum.text_if_any(live.worker.as_ref()).real(live.lease_s).wall_if_any(live.lease_until);
    sum.text_if_any(live.cancel.as_ref()).real_if_any(live.progress).text_if_any(live.status_message.as_ref());
    sum.text_if_any(live.error.as_ref()).wall_if_any(Some(live.updated_at));
    feed_terms(sum, live.terms);
}

fn feed_fence(sum: &mut Checksum, fence: Option<Fence>) {
    match fence {
        Some(fence) => sum.unsigned(fence.epoch).unsigned(fence.counter),
        None => sum.int(-1).int(-1),
    };
}

fn feed_terms(sum: &mut Checksum, terms: Terms) {
    sum.int(terms.max_attempts).real(terms.backoff_s).real(terms.result_ttl_s);
}
