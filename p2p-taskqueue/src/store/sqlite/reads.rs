use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::{
    cache,
    fault::{damaged, opening, reading, reading_row, task_named},
    find, line, list, route,
    row::RowError,
    schema, select, types,
};
use crate::{
    PeerId, QueueError,
    engine::{Lane, Phase, Record, Standing, Wall},
    store::{
        CacheRow, Reads, Seq, StoreError, TaskRow, TypeRow,
        paging::{Choosing, Filling, gather},
    },
    task::{Json, TaskId},
};

/// A connection that only reads.
#[derive(Debug)]
pub(super) struct SqliteReads {
    connection: Connection,
}

impl SqliteReads {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = schema::open_reader(path).map_err(|error| opening(path, error))?;
        Ok(Self { connection })
    }

    #[cfg(test)]
    pub(super) const fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Reads for SqliteReads {
    fn get(&mut self, ids: &[TaskId]) -> Result<Vec<Option<Record>>, QueueError> {
        let snapshot = self.connection.unchecked_transaction().map_err(|error| reading(&error))?;
        gather(ids, |id| get_one(&snapshot, id))
    }

    fn list_on(&mut self, page: &mut Filling) -> Result<bool, QueueError> {
        list::list(&self.connection, page)
    }

    fn select_on(&mut self, choosing: &mut Choosing) -> Result<bool, QueueError> {
        select::select(&self.connection, choosing)
    }

    fn types(&mut self, behind: Option<&str>, count_max: usize) -> Result<Vec<(String, TypeRow)>, QueueError> {
        types::some(&self.connection, behind, count_max)
            .map_err(|error| reading_row("the count of a task type", &error))
    }

    fn oldest_ready(&mut self) -> Result<Option<Wall>, QueueError> {
        let snapshot = self.connection.unchecked_transaction().map_err(|error| reading(&error))?;
        line::oldest_ready(&snapshot).map_err(|error| reading(&error))
    }

    fn route(&mut self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        route::find(&self.connection, task)
            .map_err(|error| reading_row(&format!("the note of who keeps task {task}"), &error))
    }

    fn cached(&mut self, key: &str) -> Result<Option<CacheRow>, QueueError> {
        cache::find(&self.connection, key).map_err(|error| reading_row(&format!("the cached value of {key:?}"), &error))
    }
}

fn get_one(snapshot: &Connection, id: TaskId) -> Result<Option<Record>, QueueError> {
    let failed = |error| reading_row(&task_named(id), &error);
    let Some(seq) = find::seq_of(snapshot, id).map_err(failed)? else { return Ok(None) };
    let record = record(snapshot, seq).map_err(failed)?.ok_or_else(|| damaged(&task_named(id)))?;
    if record.spec.id == id { Ok(Some(record)) } else { Err(damaged(&task_named(id))) }
}

/// Reads a record whose place is known, for an answer that must name what is damaged.
pub(super) fn record_at(snapshot: &Connection, seq: Seq) -> Result<Record, QueueError> {
    match record(snapshot, seq) {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(damaged(&named(snapshot, seq))),
        Err(error) => Err(reading_row(&named(snapshot, seq), &error)),
    }
}

/// How messages name the task of this number.
pub(super) fn named(snapshot: &Connection, seq: Seq) -> String {
    let id: Result<Option<[u8; 16]>, _> =
        snapshot.query_row("SELECT id FROM task WHERE seq=?", [seq], |row| row.get(0)).optional();
    match id {
        Ok(Some(id)) => task_named(TaskId::from_bytes(id)),
        _ => format!("the task that was accepted as number {seq}"),
    }
}

/// Reads the rows of a task and sees that they agree: it stands in exactly one way.
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
            // It would also look fresh if the row that says otherwise were lost.
            in_line(snapshot, &row, row.ready_at)?;
            (Standing::Live(row.fresh()), None)
        }
        _ => return Err(RowError::Damaged),
    };
    let TaskRow { spec, payload, .. } = row;
    let payload = Json::parse(payload).map_err(|_| RowError::Damaged)?;
    Ok(Some(Record { spec, payload, standing, result }))
}

fn in_line(snapshot: &Connection, row: &TaskRow, ready_at: Wall) -> Result<(), RowError> {
    let place = line::place_of(row, ready_at);
    let stands = line::stands(snapshot, &Lane::of(&row.spec).to_text(), &place)?;
    if stands { Ok(()) } else { Err(RowError::Damaged) }
}
