use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use taskqueue_api::{Json, PeerId, TaskId, TaskStatus};

use super::{
    super::{
        key, line,
        line::Blocks,
        meta,
        route::Routes,
        row::{RowError, insert_ended, insert_place, insert_task, put_live},
        timer, types,
    },
    old,
};
use crate::{
    Due, KeyRow, Meta, Seq, TaskRow, TypeRow,
    engine::{Elapsed, Ended, Lane, Live, Phase, Spec},
};

/// Copies every row of the old tables into the new ones.
pub(super) fn everything(connection: &Connection) -> rusqlite::Result<()> {
    let mut copy = Copy { connection, blocks: Blocks::default(), counts: BTreeMap::new() };
    copy.tasks()?;
    copy.blocks.save(connection)?;
    for (name, counts) in &copy.counts {
        types::put(connection, name, &TypeRow { counts: *counts, ..TypeRow::default() })?;
    }
    keys(connection)?;
    routes(connection)?;
    let numbers = connection.query_row("SELECT epoch, batch, next_seq FROM old_meta", [], |row| {
        let (epoch, batch): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (epoch, batch) = (epoch.cast_unsigned(), batch.cast_unsigned());
        Ok(Meta { epoch, batch, next_seq: row.get(2)?, clocks: None })
    })?;
    meta::insert(connection, &numbers)
}

struct Copy<'a> {
    connection: &'a Connection,
    blocks: Blocks,
    counts: BTreeMap<String, [u64; TaskStatus::ALL.len()]>,
}

/// How a task stood.
enum Stood {
    Live(Live),
    Ended(Ended, Option<Json>),
}

/// What became of looking for a row.
enum Found<T> {
    Row(T),
    Damaged,
    Nothing,
}

impl Copy<'_> {
    fn tasks(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT * FROM old_task ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            match usable(old::read_task(row))? {
                Some((spec, payload)) => self.task(seq, spec, payload)?,
                None => self.damaged(seq, DAMAGED_TASK)?,
            }
        }
        Ok(())
    }

    fn task(&mut self, seq: Seq, spec: Spec, payload: String) -> rusqlite::Result<()> {
        let stood = self.stood(seq, spec.id)?;
        let live = match &stood {
            Some(Stood::Live(live)) => Some(live),
            _ => None,
        };
        let ready_at = live.map_or_else(|| old::elapsed(spec.created_at), |live| live.ready_at);
        let row = TaskRow { seq, ready_at, not_before: live.and_then(|live| live.not_before), spec, payload };
        insert_task(self.connection, &row)?;
        let status = match stood {
            Some(Stood::Live(live)) => {
                self.live(&row, &live)?;
                live.status()
            }
            Some(Stood::Ended(ended, result)) => {
                insert_ended(self.connection, seq, row.spec.id, &ended, result.as_ref())?;
                timer::set(self.connection, Due::Removal(ended.expires_at), seq)?;
                ended.status
            }
            None => {
                self.damaged(seq, DAMAGED_LIVE)?;
                return self.damaged(seq, DAMAGED_FINISHED);
            }
        };
        self.count(&row.spec.task_type, status);
        Ok(())
    }

    /// How the task stood; `None` when the row that says so is damaged.
    fn stood(&self, seq: Seq, id: TaskId) -> rusqlite::Result<Option<Stood>> {
        match self.find("SELECT * FROM old_live WHERE seq=?", seq, old::read_live)? {
            Found::Row((of, live)) if of == id => return Ok(Some(Stood::Live(live))),
            Found::Row(_) | Found::Damaged => return Ok(None),
            Found::Nothing => {}
        }
        match self.find("SELECT * FROM old_finished WHERE seq=?", seq, old::read_ended)? {
            Found::Row((of, ended, result)) if of == id => {
                let result = result.map(Json::parse).transpose();
                Ok(result.ok().map(|result| Stood::Ended(ended, result)))
            }
            Found::Row(_) | Found::Damaged | Found::Nothing => Ok(None),
        }
    }

    fn find<T>(&self, sql: &str, seq: Seq, read: fn(&Row<'_>) -> Result<T, RowError>) -> rusqlite::Result<Found<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { return Ok(Found::Nothing) };
        Ok(usable(read(row))?.map_or(Found::Damaged, Found::Row))
    }

    fn live(&mut self, row: &TaskRow, live: &Live) -> rusqlite::Result<()> {
        let (seq, id) = (row.seq, row.spec.id);
        if *live != row.fresh() {
            put_live(self.connection, seq, id, live)?;
        }
        match live.phase {
            Phase::Ready => {
                let place = line::place_of(row, live.ready_at);
                insert_place(self.connection, &Lane::of(&row.spec).to_text(), &place)?;
                self.blocks.joined(seq);
            }
            Phase::Delayed => timer::set(self.connection, Due::Ready(live.ready_at), seq)?,
            Phase::Scheduled | Phase::Running | Phase::Blocked => {}
        }
        Ok(())
    }

    /// Keeps a damaged row as it is, with a checksum that no row has.
    fn damaged(&self, seq: Seq, sql: &str) -> rusqlite::Result<()> {
        tracing::error!(seq, "a task's stored record is damaged; it is kept as it is");
        self.connection.execute(sql, [seq])?;
        Ok(())
    }

    fn count(&mut self, task_type: &str, status: TaskStatus) {
        let counts = self.counts.entry(task_type.to_owned()).or_default();
        for (counted, count) in TaskStatus::ALL.into_iter().zip(counts) {
            *count += u64::from(counted == status);
        }
    }
}

fn keys(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT scope, key, content, id, expires_at FROM old_idempotency")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (scope, key): (String, String) = (row.get(0)?, row.get(1)?);
        let (id, expires_at) = (TaskId::from_bytes(row.get(3)?), Elapsed::from_micros(row.get(4)?));
        key::put(connection, &scope, &key, &KeyRow { content: row.get(2)?, id, expires_at })?;
    }
    Ok(())
}

fn routes(connection: &Connection) -> rusqlite::Result<()> {
    let mut copied = Routes::default();
    let mut statement = connection.prepare("SELECT id, owner FROM old_route ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, owner): (_, Vec<u8>) = (TaskId::from_bytes(row.get(0)?), row.get(1)?);
        // A note that cannot be read only makes its task be asked for by name.
        if let Ok(owner) = PeerId::from_bytes(&owner) {
            copied.put(connection, id, owner, i64::MAX)?;
        }
    }
    Ok(())
}

fn usable<T>(read: Result<T, RowError>) -> rusqlite::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(RowError::Damaged) => Ok(None),
        Err(RowError::Sqlite(error)) => Err(error),
    }
}

const DAMAGED_TASK: &str = "
INSERT OR IGNORE INTO task SELECT seq, id, task_type, model_name, priority, created_at, created_at, NULL, NULL, labels,
  requires, session, pin_to, NULL, 0, NULL, max_attempts, backoff_s, result_ttl_s, -1, payload, NULL
FROM old_task WHERE seq = ?";
const DAMAGED_LIVE: &str = "
INSERT OR IGNORE INTO live SELECT ~seq, id, phase, ready_at, not_before, NULL, 0, attempt, fence_epoch, fence_counter,
  worker, lease_s, lease_until, cancel, progress, status_message, error, updated_at, max_attempts, backoff_s,
  result_ttl_s, -1, NULL, NULL
FROM old_live WHERE seq = ?";
const DAMAGED_FINISHED: &str = "
INSERT OR IGNORE INTO finished SELECT seq, id, status, at, expires_at, not_before, NULL, attempt, fence_epoch,
  fence_counter, worker, progress, status_message, error, dead, -1, result
FROM old_finished WHERE seq = ?";
