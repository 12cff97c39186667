use rusqlite::{Connection, Row};
use taskqueue_api::{OnParentFailure, PeerId, TaskId};

use super::{
    Checksum, Columns, RowError,
    checksum::{real, real_if_any},
    columns::feed_policy,
};
use crate::{
    TaskRow,
    engine::{Spec, Wall},
};

/// Reads a row of `task`.
pub(crate) fn read_task(row: &Row<'_>) -> Result<TaskRow, RowError> {
    let mut columns = Columns::new(row);
    let seq = columns.take()?;
    let id = columns.id()?;
    let (task_type, model_name, priority) = (columns.take()?, columns.take()?, columns.take()?);
    let (created_at, ready_at, not_before) = (columns.wall()?, columns.elapsed()?, columns.wall_if_any()?);
    let mut spec = Spec {
        id,
        submitter: None,
        submitted_by: None,
        task_type,
        model_name,
        priority,
        created_at,
        deadline_s: columns.take()?,
        labels: columns.words()?,
        requires: columns.words()?,
        session: columns.take()?,
        pin_to: peer(columns.take()?)?,
        after: ids(columns.take()?)?,
        on_parent_failure: if columns.take()? { OnParentFailure::Run } else { OnParentFailure::Fail },
        concurrency_key: columns.take()?,
        policy: columns.policy()?,
    };
    let sum = columns.sum()?;
    let payload = columns.take()?;
    spec.submitter = columns.take()?;
    spec.submitted_by = peer(columns.added()?)?;
    let row = TaskRow { seq, spec, ready_at, not_before, payload };
    if sum == i64::from(task_sum(&row).finish_with(Some(&row.payload))) { Ok(row) } else { Err(RowError::Damaged) }
}

/// Writes a row of `task`. It stays as long as the task.
pub(crate) fn insert_task(connection: &Connection, row: &TaskRow) -> rusqlite::Result<()> {
    let spec = &row.spec;
    let mut statement =
        connection.prepare_cached("INSERT INTO task VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?;
    statement.raw_bind_parameter(1, row.seq)?;
    statement.raw_bind_parameter(2, spec.id.as_bytes().as_slice())?;
    statement.raw_bind_parameter(3, &spec.task_type)?;
    statement.raw_bind_parameter(4, &spec.model_name)?;
    statement.raw_bind_parameter(5, spec.priority)?;
    statement.raw_bind_parameter(6, spec.created_at.as_micros())?;
    statement.raw_bind_parameter(7, row.ready_at.as_micros())?;
    statement.raw_bind_parameter(8, row.not_before.map(Wall::as_micros))?;
    statement.raw_bind_parameter(9, real_if_any(spec.deadline_s))?;
    statement.raw_bind_parameter(10, words(&spec.labels))?;
    statement.raw_bind_parameter(11, words(&spec.requires))?;
    statement.raw_bind_parameter(12, &spec.session)?;
    statement.raw_bind_parameter(13, spec.pin_to.map(PeerId::to_bytes))?;
    statement.raw_bind_parameter(14, joined(&spec.after))?;
    statement.raw_bind_parameter(15, spec.on_parent_failure == OnParentFailure::Run)?;
    statement.raw_bind_parameter(16, &spec.concurrency_key)?;
    statement.raw_bind_parameter(17, spec.policy.max_attempts)?;
    statement.raw_bind_parameter(18, real(spec.policy.backoff_s))?;
    statement.raw_bind_parameter(19, real(spec.policy.result_ttl_s))?;
    statement.raw_bind_parameter(20, task_sum(row).finish_with(Some(&row.payload)))?;
    statement.raw_bind_parameter(21, &row.payload)?;
    statement.raw_bind_parameter(22, &spec.submitter)?;
    statement.raw_bind_parameter(23, spec.submitted_by.map(PeerId::to_bytes))?;
    statement.raw_execute()?;
    Ok(())
}

/// Returns the checksum of all fields except the payload, which comes last.
fn task_sum(row: &TaskRow) -> Checksum {
    let spec = &row.spec;
    let mut sum = Checksum::new();
    sum.int(row.seq).bytes(Some(spec.id.as_bytes())).text(&spec.task_type).text(&spec.model_name);
    sum.int(spec.priority).wall(spec.created_at).elapsed(row.ready_at).wall_if_any(row.not_before);
    sum.real_if_any(spec.deadline_s).words(&spec.labels).words(&spec.requires).text_if_any(spec.session.as_ref());
    sum.bytes(spec.pin_to.map(PeerId::to_bytes).as_deref()).bytes(joined(&spec.after).as_deref());
    sum.int(spec.on_parent_failure == OnParentFailure::Run).text_if_any(spec.concurrency_key.as_ref());
    feed_policy(&mut sum, spec.policy);
    // Fields that were added later are fed only where they are present, so that the checksums of older rows stay valid.
    spec.submitter.iter().for_each(|submitter| _ = sum.text(submitter));
    // The name tells the field from the one before it, which may be absent.
    spec.submitted_by.iter().for_each(|peer| _ = sum.text("submitted_by").bytes(Some(&peer.to_bytes())));
    sum
}

fn peer(bytes: Option<Vec<u8>>) -> Result<Option<PeerId>, RowError> {
    bytes.map(|bytes| PeerId::from_bytes(&bytes)).transpose().map_err(|_| RowError::Damaged)
}

fn ids(bytes: Option<Vec<u8>>) -> Result<Vec<TaskId>, RowError> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    let (ids, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(RowError::Damaged);
    }
    Ok(ids.iter().copied().map(TaskId::from_bytes).collect())
}

fn joined(ids: &[TaskId]) -> Option<Vec<u8>> {
    (!ids.is_empty()).then(|| ids.iter().flat_map(TaskId::as_bytes).copied().collect())
}

fn words(words: &[String]) -> Option<String> {
    // A text can always be written as JSON.
    if words.is_empty() { None } else { serde_json::to_string(words).ok() }
}
