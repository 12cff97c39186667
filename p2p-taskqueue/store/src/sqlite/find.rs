use rusqlite::{Connection, OptionalExtension};
use taskqueue_api::{Json, TaskId};

use super::row::{LiveRow, RowError, live_key, read_ended, read_live, read_task};
use crate::{
    Seq, TaskRow,
    engine::{Ended, Phase},
};

/// Finds a task by its id. The row found is compared with the id, because an index entry has no checksum of its own.
pub(super) fn seq_of(connection: &Connection, id: TaskId) -> Result<Option<Seq>, RowError> {
    let found: Option<(Seq, Option<[u8; 16]>)> = connection
        .prepare_cached("SELECT i.seq,(SELECT id FROM task WHERE seq=i.seq) FROM task i WHERE i.id=?")?
        .query_row([id.as_bytes().as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((seq, Some(of))) if of == *id.as_bytes() => Ok(Some(seq)),
        Some(_) => Err(RowError::Damaged),
        None => Ok(None),
    }
}

/// Reads the part of a task that its submit fixed.
pub(super) fn task(connection: &Connection, seq: Seq) -> Result<Option<TaskRow>, RowError> {
    let mut statement = connection.prepare_cached("SELECT * FROM task WHERE seq=?")?;
    let mut rows = statement.query([seq])?;
    rows.next()?.map(read_task).transpose()
}

/// Reads how a task ended.
pub(super) fn ended(connection: &Connection, seq: Seq) -> Result<Option<(TaskId, Ended, Option<Json>)>, RowError> {
    let mut statement = connection.prepare_cached("SELECT * FROM finished WHERE seq=?")?;
    let mut rows = statement.query([seq])?;
    rows.next()?.map(read_ended).transpose()
}

/// Reads the state of a task that has not ended.
pub(super) fn live(connection: &Connection, seq: Seq) -> Result<Option<LiveRow>, RowError> {
    let mut statement = connection.prepare_cached("SELECT * FROM live WHERE key=?")?;
    for key in [live_key(seq, Phase::Running), live_key(seq, Phase::Ready)] {
        let mut rows = statement.query([key])?;
        if let Some(row) = rows.next()? {
            return read_live(row).map(Some);
        }
    }
    Ok(None)
}
