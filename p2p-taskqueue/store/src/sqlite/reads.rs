use rusqlite::{Connection, OptionalExtension};
use taskqueue_api::{Json, PeerId, QueueError, TaskId};

use super::{
    cache,
    fault::{damaged, reading, reading_row, task_named},
    find, line, list,
    readings::Reading,
    route,
    row::RowError,
    select, types,
};
use crate::{
    CacheRow, Reads, Seq, TaskRow, TypeRow,
    engine::{Elapsed, Lane, Phase, Record, Standing},
    paging::{Choosing, Filling, gather},
};

/// A connection that only reads.
#[derive(Debug)]
pub(super) struct SqliteReads(Reading);

impl SqliteReads {
    pub(super) const fn new(reading: Reading) -> Self {
        Self(reading)
    }

    pub(super) fn with<T>(&self, read: impl FnOnce(&mut Connection) -> Result<T, QueueError>) -> Result<T, QueueError> {
        self.0.with(read).map_err(|error| reading(&error))?
    }
}

impl Reads for SqliteReads {
    fn get(&mut self, ids: &[TaskId]) -> Result<Vec<Option<Record>>, QueueError> {
        self.with(|connection| {
            let snapshot = connection.unchecked_transaction().map_err(|error| reading(&error))?;
            gather(ids, |id| get_one(&snapshot, id))
        })
    }

    fn list_on(&mut self, page: &mut Filling) -> Result<bool, QueueError> {
        self.with(|connection| list::list(connection, page))
    }

    fn select_on(&mut self, choosing: &mut Choosing) -> Result<bool, QueueError> {
        self.with(|connection| select::select(connection, choosing))
    }

    fn types(&mut self, behind: Option<&str>, count_max: usize) -> Result<Vec<(String, TypeRow)>, QueueError> {
        let failed = |error| reading_row("the count of a task type", &error);
        self.with(|connection| types::some(connection, behind, count_max).map_err(failed))
    }

    fn oldest_ready(&mut self) -> Result<Option<Elapsed>, QueueError> {
        self.with(|connection| {
            let snapshot = connection.unchecked_transaction().map_err(|error| reading(&error))?;
            line::oldest_ready(&snapshot).map_err(|error| reading(&error))
        })
    }

    fn route(&mut self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        let failed = |error| reading_row(&format!("the note of who keeps task {task}"), &error);
        self.with(|connection| route::find(connection, task).map_err(failed))
    }

    fn cached(&mut self, key: &str) -> Result<Option<CacheRow>, QueueError> {
        let failed = |error| reading_row(&format!("the cached value of {key:?}"), &error);
        self.with(|connection| cache::find(connection, key).map_err(failed))
    }
}

fn get_one(snapshot: &Connection, id: TaskId) -> Result<Option<Record>, QueueError> {
    let failed = |error| reading_row(&task_named(id), &error);
    let Some(seq) = find::seq_of(snapshot, id).map_err(failed)? else { return Ok(None) };
    let record = record(snapshot, seq).map_err(failed)?.ok_or_else(|| damaged(&task_named(id)))?;
    if record.spec.id == id { Ok(Some(record)) } else { Err(damaged(&task_named(id))) }
}

/// Reads a record by its number. An error names the task that is damaged.
pub(super) fn record_at(snapshot: &Connection, seq: Seq) -> Result<Record, QueueError> {
    match record(snapshot, seq) {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(damaged(&named(snapshot, seq))),
        Err(error) => Err(reading_row(&named(snapshot, seq), &error)),
    }
}

/// Returns the name of the task with this number in messages.
pub(super) fn named(snapshot: &Connection, seq: Seq) -> String {
    let id: Result<Option<[u8; 16]>, _> =
        snapshot.query_row("SELECT id FROM task WHERE seq=?", [seq], |row| row.get(0)).optional();
    match id {
        Ok(Some(id)) => task_named(TaskId::from_bytes(id)),
        _ => format!("the task that was accepted as number {seq}"),
    }
}

/// Reads the rows of a task and checks that they agree: exactly one state follows from them.
pub(super) fn record(snapshot: &Connection, seq: Seq) -> Result<Option<Record>, RowError> {
    let Some(row) = find::task(snapshot, seq)? else { return Ok(None) };
    let ended = find::ended(snapshot, seq)?;
    let live = find::live(snapshot, seq)?;
    let (standing, result) = match (live, ended) {
        (None, Some((id, ended, result))) if id == row.spec.id => (Standing::Ended(ended), result),
        (Some(live), None) if live.id == row.spec.id => {
            if live.live.phase == Phase::Ready {
                in_line(snapshot, &row, live.live.ready_at)?;
            }
            (Standing::Live(live.live), None)
        }
        (None, None) => {
            // A task whose other row was lost would also look fresh.
            in_line(snapshot, &row, row.ready_at)?;
            (Standing::Live(row.fresh()), None)
        }
        _ => return Err(RowError::Damaged),
    };
    let TaskRow { spec, payload, .. } = row;
    let payload = Json::parse(payload).map_err(|_| RowError::Damaged)?;
    Ok(Some(Record { spec, payload, standing, result }))
}

fn in_line(snapshot: &Connection, row: &TaskRow, ready_at: Elapsed) -> Result<(), RowError> {
    let place = line::place_of(row, ready_at);
    let stands = line::stands(snapshot, &Lane::of(&row.spec).to_text(), &place)?;
    if stands { Ok(()) } else { Err(RowError::Damaged) }
}
