use rusqlite::{Connection, Row};
use taskqueue_api::{FailedBy, Json, TaskId, TaskStatus};

use super::{Checksum, Columns, RowError, attempts, checksum::real_if_any, columns::fence_columns};
use crate::{
    Seq,
    engine::{Attempts, Elapsed, Ended, Wall},
};

/// Reads a row of `finished`: the id of the task, how it ended, and its result.
pub(crate) fn read_ended(row: &Row<'_>) -> Result<(TaskId, Ended, Option<Json>), RowError> {
    let mut columns = Columns::new(row);
    let (seq, id) = (columns.take()?, columns.id()?);
    let mut ended = Ended {
        status: match columns.take::<i64>()? {
            STATUS_COMPLETED => TaskStatus::Completed,
            STATUS_FAILED => TaskStatus::Failed,
            STATUS_CANCELLED => TaskStatus::Cancelled,
            _ => return Err(RowError::Damaged),
        },
        at: columns.wall()?,
        expires_at: columns.elapsed()?,
        not_before: columns.wall_if_any()?,
        deadline: columns.elapsed_if_any()?,
        attempt: columns.take()?,
        fence: columns.fence()?,
        worker: columns.take()?,
        progress: columns.take()?,
        status_message: columns.take()?,
        error: columns.take()?,
        dead: false,
        failed_by: None,
        attempts: Attempts::NONE,
    };
    (ended.dead, ended.failed_by) = match columns.take::<i64>()? {
        NOT_DEAD => (false, None),
        DEAD => (true, None),
        FAILED_BY_WORKER => (true, Some(FailedBy::Worker)),
        FAILED_BY_QUEUE => (true, Some(FailedBy::Queue)),
        _ => return Err(RowError::Damaged),
    };
    let sum = columns.sum()?;
    let result = columns.json_if_any()?;
    let attempts: Option<Vec<u8>> = columns.added()?;
    let found = ended_sum(seq, id, &ended, attempts.as_deref()).finish_with(result.as_ref().map(Json::get));
    if sum == i64::from(found) {
        ended.attempts = attempts::read(attempts.as_deref())?;
        Ok((id, ended, result))
    } else {
        Err(RowError::Damaged)
    }
}

/// Writes a row of `finished`.
pub(crate) fn insert_ended(
    connection: &Connection,
    seq: Seq,
    id: TaskId,
    ended: &Ended,
    result: Option<&Json>,
) -> rusqlite::Result<()> {
    let (fence_epoch, fence_counter) = fence_columns(ended.fence);
    let attempts = attempts::written(&ended.attempts);
    let mut statement =
        connection.prepare_cached("INSERT INTO finished VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?;
    statement.raw_bind_parameter(1, seq)?;
    statement.raw_bind_parameter(2, id.as_bytes().as_slice())?;
    statement.raw_bind_parameter(3, status_number(ended.status))?;
    statement.raw_bind_parameter(4, ended.at.as_micros())?;
    statement.raw_bind_parameter(5, ended.expires_at.as_micros())?;
    statement.raw_bind_parameter(6, ended.not_before.map(Wall::as_micros))?;
    statement.raw_bind_parameter(7, ended.deadline.map(Elapsed::as_micros))?;
    statement.raw_bind_parameter(8, ended.attempt)?;
    statement.raw_bind_parameter(9, fence_epoch)?;
    statement.raw_bind_parameter(10, fence_counter)?;
    statement.raw_bind_parameter(11, &ended.worker)?;
    statement.raw_bind_parameter(12, real_if_any(ended.progress))?;
    statement.raw_bind_parameter(13, &ended.status_message)?;
    statement.raw_bind_parameter(14, &ended.error)?;
    statement.raw_bind_parameter(15, death_number(ended))?;
    let result = result.map(Json::get);
    statement.raw_bind_parameter(16, ended_sum(seq, id, ended, attempts.as_deref()).finish_with(result))?;
    statement.raw_bind_parameter(17, result)?;
    statement.raw_bind_parameter(18, attempts)?;
    statement.raw_execute()?;
    Ok(())
}

/// Returns the checksum of all fields except the result, which comes last.
fn ended_sum(seq: Seq, id: TaskId, ended: &Ended, attempts: Option<&[u8]>) -> Checksum {
    let mut sum = Checksum::new();
    sum.int(seq).bytes(Some(id.as_bytes())).int(status_number(ended.status).unwrap_or(-1));
    sum.wall(ended.at).elapsed(ended.expires_at).wall_if_any(ended.not_before).elapsed_if_any(ended.deadline);
    sum.int(ended.attempt).fence(ended.fence).text_if_any(ended.worker.as_ref()).real_if_any(ended.progress);
    sum.text_if_any(ended.status_message.as_ref()).text_if_any(ended.error.as_ref()).int(death_number(ended));
    // Older rows have no attempts, and their checksums stay valid.
    attempts::feed(&mut sum, attempts);
    sum
}

/// Returns the number of a state in `finished`; `None` for a task that has not ended.
pub(crate) const fn status_number(status: TaskStatus) -> Option<i64> {
    match status {
        TaskStatus::Queued | TaskStatus::Running => None,
        TaskStatus::Completed => Some(STATUS_COMPLETED),
        TaskStatus::Failed => Some(STATUS_FAILED),
        TaskStatus::Cancelled => Some(STATUS_CANCELLED),
    }
}

/// Returns the number that says whether a task is a dead letter, and who failed it, if that is known.
const fn death_number(ended: &Ended) -> i64 {
    match (ended.dead, ended.failed_by) {
        (false, _) => NOT_DEAD,
        (true, None) => DEAD,
        (true, Some(FailedBy::Worker)) => FAILED_BY_WORKER,
        (true, Some(FailedBy::Queue)) => FAILED_BY_QUEUE,
    }
}

const NOT_DEAD: i64 = 0;
/// It is not known who failed it.
const DEAD: i64 = 1;
const FAILED_BY_WORKER: i64 = 2;
const FAILED_BY_QUEUE: i64 = 3;

const STATUS_COMPLETED: i64 = 3;
const STATUS_FAILED: i64 = 4;
const STATUS_CANCELLED: i64 = 5;
