use std::{path::Path, sync::Arc};

use rusqlite::Connection;

use super::{
    line::Blocks,
    log,
    meta::{self, StoreName},
    note::Note,
    route::Routes,
    schema,
};
use crate::{Fault, FileRoom, Meta, Rows, Seq};

/// The one connection that writes, and its transactions. The operations on each table are in a file of their own.
#[derive(Debug)]
pub(super) struct SqliteRows {
    pub(super) connection: Connection,
    name: StoreName,
    note: Arc<Note>,
    pub(super) blocks: Blocks,
    pub(super) routes: Routes,
    /// The last task whose row in `live` was looked for, and the key at which it was found. So the next write of the
    /// task need not look under its other key.
    pub(super) found: Option<(Seq, Option<i64>)>,
    /// Whether the whole log has been copied into the file.
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

    /// Limits the number of pages in the file.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) -> rusqlite::Result<()> {
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
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
