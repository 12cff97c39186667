use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use taskqueue_api::{Json, PeerId, TaskId};

use super::{
    cache, edge, find, key, line,
    line::Blocks,
    log,
    meta::{self, StoreName},
    note::Note,
    route::Routes,
    row::{RowError, insert_ended, insert_task, live_key, put_live, read_live},
    schema, timer, types,
};
use crate::{
    CacheRow, CacheTable, Due, EdgeTable, Fault, FileRoom, KeyRow, KeyTable, LineTable, Meta, Place, RouteTable, Rows,
    Seq, TaskRow, TaskTable, Timer, TimerTable, TypeRow, TypeTable,
    engine::{Elapsed, Ended, Live, Phase},
};

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct SqliteRows {
    connection: Connection,
    name: StoreName,
    note: Arc<Note>,
    blocks: Blocks,
    routes: Routes,
    /// Where the row of `live` was that was looked for last; so a write of it does not look in the other place.
    found: Option<(Seq, Option<i64>)>,
    /// Whether the log has what has not been copied.
    tidied: bool,
}

impl SqliteRows {
    /// Opens the connection that writes to the store of this name.
    pub(super) fn open(path: &Path, name: StoreName, note: Arc<Note>) -> rusqlite::Result<Self> {
        let mut connection = schema::open_writer(path)?;
        log::copy_under_load(&mut connection)?;
        let (blocks, routes) = (Blocks::default(), Routes::default());
        Ok(Self { connection, name, note, blocks, routes, found: None, tidied: false })
    }

    /// Lets the file have no more pages than these.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) -> rusqlite::Result<()> {
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    fn remove_live_at(&self, key: i64) -> rusqlite::Result<bool> {
        Ok(self.connection.prepare_cached("DELETE FROM live WHERE key=?")?.execute([key])? > 0)
    }

    fn run(&self, sql: &str) -> Result<(), Fault> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

impl Rows for SqliteRows {
    fn begin(&mut self) -> Result<(), Fault> {
        self.run("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.blocks.save(&self.connection)?;
        self.found = None;
        self.tidied = false;
        self.run("COMMIT")
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        self.blocks.forget();
        self.routes.forget();
        self.found = None;
        // SQLite ends some transactions by itself when a statement fails.
        if self.connection.is_autocommit() { Ok(()) } else { self.run("ROLLBACK") }
    }

    fn tidy(&mut self, closing: bool) -> Result<(), Fault> {
        if !self.tidied {
            self.tidied = log::copy(&self.connection)?;
        }
        if closing {
            let (_, meta) = meta::read(&self.connection)?;
            if self.tidied
                && let Some(path) = self.connection.path()
            {
                log::blank(Path::new(path)).map_err(|error| Fault::Failed(error.to_string()))?;
            }
            self.note.closed(meta.batch);
        }
        Ok(())
    }

    fn file_room(&mut self) -> Result<FileRoom, Fault> {
        let (pages, free, page_bytes): (i64, i64, i64) = self
            .connection
            .prepare_cached(
                "SELECT page_count,freelist_count,page_size FROM pragma_page_count,pragma_freelist_count,pragma_page_size",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let in_bytes = |pages: i64| pages.saturating_mul(page_bytes).cast_unsigned();
        let (bytes, free) = (in_bytes(pages), in_bytes(free));
        let length =
            self.connection.path().and_then(|path| Path::new(path).metadata().ok()).map_or(0, |file| file.len());
        Ok(FileRoom { bytes, free, to_grow: bytes.saturating_sub(length) })
    }

    fn meta(&mut self) -> Result<Meta, Fault> {
        Ok(meta::read(&self.connection)?.1)
    }

    fn save_meta(&mut self, meta: &Meta) -> Result<(), Fault> {
        Ok(meta::write(&self.connection, self.name, meta)?)
    }
}

impl TaskTable for SqliteRows {
    fn seq_of(&mut self, id: TaskId) -> Result<Option<Seq>, Fault> {
        Ok(find::seq_of(&self.connection, id)?)
    }

    fn task(&mut self, seq: Seq) -> Result<Option<TaskRow>, Fault> {
        Ok(find::task(&self.connection, seq)?)
    }

    fn insert_task(&mut self, row: &TaskRow) -> Result<(), Fault> {
        Ok(insert_task(&self.connection, row)?)
    }

    fn remove_task(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM task WHERE seq=?")?.execute([seq])?;
        Ok(())
    }

    fn live(&mut self, seq: Seq) -> Result<Option<Live>, Fault> {
        self.found = None;
        let row = find::live(&self.connection, seq)?;
        self.found = Some((seq, row.as_ref().map(|row| live_key(seq, row.live.phase))));
        Ok(row.map(|row| row.live))
    }

    fn put_live(&mut self, seq: Seq, id: TaskId, live: &Live) -> Result<(), Fault> {
        let key = live_key(seq, live.phase);
        match self.found.take() {
            Some((found, at)) if found == seq => {
                if let Some(old) = at.filter(|old| *old != key) {
                    self.remove_live_at(old)?;
                }
            }
            _ => _ = self.remove_live_at(!key)?,
        }
        Ok(put_live(&self.connection, seq, id, live)?)
    }

    fn remove_live(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.found = None;
        if !self.remove_live_at(live_key(seq, Phase::Running))? {
            self.remove_live_at(live_key(seq, Phase::Ready))?;
        }
        Ok(())
    }

    fn running(&mut self) -> Result<Vec<(Seq, TaskId, Live)>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT * FROM live WHERE key>=0 ORDER BY key")?;
        let mut rows = statement.query([])?;
        let mut running = Vec::new();
        while let Some(row) = rows.next()? {
            match read_live(row) {
                Ok(row) => running.push((row.seq, row.id, row.live)),
                Err(RowError::Damaged) => {
                    let seq: Option<Seq> = row.get(0).ok();
                    tracing::error!(seq, "the record of a running task is damaged");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(running)
    }

    fn ended(&mut self, seq: Seq) -> Result<Option<(TaskId, Ended, Option<Json>)>, Fault> {
        Ok(find::ended(&self.connection, seq)?)
    }

    fn insert_ended(&mut self, seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
        Ok(insert_ended(&self.connection, seq, id, ended, result)?)
    }

    fn remove_ended(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM finished WHERE seq=?")?.execute([seq])?;
        Ok(())
    }
}

impl LineTable for SqliteRows {
    fn join_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        line::join(&self.connection, lane, place)?;
        self.blocks.joined(place.seq);
        Ok(())
    }

    fn leave_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        if line::leave(&self.connection, lane, place)? {
            self.blocks.left(place.seq);
        }
        Ok(())
    }

    fn line(&mut self, lane: &str, behind: Option<&Place>, count_max: usize) -> Result<Vec<Place>, Fault> {
        line::places(&self.connection, lane, behind, count_max)
    }

    fn next_lane(&mut self, behind: Option<&str>) -> Result<Option<String>, Fault> {
        line::next_lane(&self.connection, behind)
    }
}

impl TimerTable for SqliteRows {
    fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        Ok(timer::set(&self.connection, due, seq)?)
    }

    fn clear_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        Ok(timer::clear(&self.connection, due, seq)?)
    }

    fn due(&mut self, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault> {
        timer::due(&self.connection, by, count_max)
    }

    fn first_due(&mut self, timer: Timer) -> Result<Option<Due>, Fault> {
        timer::first_due(&self.connection, timer)
    }
}

impl EdgeTable for SqliteRows {
    fn add_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        Ok(edge::add(&self.connection, parent, child)?)
    }

    fn remove_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        Ok(edge::remove(&self.connection, parent, child)?)
    }

    fn has_edge(&mut self, parent: Seq, child: Seq) -> Result<bool, Fault> {
        Ok(edge::is_there(&self.connection, parent, child)?)
    }

    fn children(&mut self, parent: Seq, count_max: usize) -> Result<Vec<Seq>, Fault> {
        edge::children(&self.connection, parent, count_max)
    }

    fn unsettled(&mut self) -> Result<Vec<Seq>, Fault> {
        Ok(edge::unsettled(&self.connection)?)
    }
}

impl KeyTable for SqliteRows {
    fn key(&mut self, scope: &str, key: &str) -> Result<Option<KeyRow>, Fault> {
        Ok(key::find(&self.connection, scope, key)?)
    }

    fn put_key(&mut self, scope: &str, key: &str, row: &KeyRow) -> Result<(), Fault> {
        Ok(key::put(&self.connection, scope, key, row)?)
    }

    fn remove_keys(&mut self, by: Elapsed, count_max: usize) -> Result<usize, Fault> {
        Ok(key::remove(&self.connection, by, count_max)?)
    }

    fn first_key_expiry(&mut self) -> Result<Option<Elapsed>, Fault> {
        Ok(key::first_expiry(&self.connection)?)
    }
}

impl TypeTable for SqliteRows {
    fn types(&mut self) -> Result<Vec<(String, TypeRow)>, Fault> {
        Ok(types::all(&self.connection)?)
    }

    fn put_type(&mut self, task_type: &str, row: &TypeRow) -> Result<(), Fault> {
        Ok(types::put(&self.connection, task_type, row)?)
    }

    fn key_limits(&mut self) -> Result<Vec<(String, u32)>, Fault> {
        Ok(types::key_limits(&self.connection)?)
    }

    fn put_key_limit(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Fault> {
        Ok(types::put_key_limit(&self.connection, key, running_max)?)
    }
}

impl RouteTable for SqliteRows {
    fn put_route(&mut self, task: TaskId, owner: PeerId, count_max: i64) -> Result<(), Fault> {
        Ok(self.routes.put(&self.connection, task, owner, count_max)?)
    }
}

impl CacheTable for SqliteRows {
    fn cache_bytes(&mut self) -> Result<u64, Fault> {
        Ok(cache::bytes(&self.connection)?)
    }

    fn cache_size(&mut self, key: &str) -> Result<Option<u64>, Fault> {
        Ok(cache::size(&self.connection, key)?)
    }

    fn put_cached(&mut self, key: &str, row: &CacheRow) -> Result<(), Fault> {
        Ok(cache::put(&self.connection, key, row)?)
    }

    fn touch_cached(&mut self, key: &str, used_at: Elapsed) -> Result<(), Fault> {
        Ok(cache::touch(&self.connection, key, used_at)?)
    }

    fn remove_cached(&mut self, key: &str) -> Result<(), Fault> {
        Ok(cache::remove(&self.connection, key)?)
    }

    fn cache_least_used(&mut self, count_max: usize) -> Result<Vec<(String, u64)>, Fault> {
        Ok(cache::least_used(&self.connection, count_max)?)
    }

    fn cache_expired(&mut self, by: Elapsed, count_max: usize) -> Result<Vec<(String, u64)>, Fault> {
        Ok(cache::expired(&self.connection, by, count_max)?)
    }

    fn first_cache_expiry(&mut self) -> Result<Option<Elapsed>, Fault> {
        Ok(cache::first_expiry(&self.connection)?)
    }
}
