use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    fault::{opening, opening_row},
    files::{sync_folder, take_ownership},
    log::{self, SqliteLog},
    meta::{self, StoreName},
    note::{Note, Noted},
    readings::Readings,
    reads::SqliteReads,
    repair,
    reserve::Reserve,
    rows::SqliteRows,
    schema, types,
};
use crate::{Backend, Fault, FileRoom, Log, Meta, Reads, Room, Rows, StoreError};

/// A store's rows in one SQLite file. This object owns the file as long as it exists.
#[derive(Debug)]
pub(crate) struct SqliteBackend {
    path: PathBuf,
    note: Arc<Note>,
    reserve: Reserve,
    readings: Readings,
    _ownership: File,
}

/// The result of opening the file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) backend: SqliteBackend,
    pub(crate) rows: Box<dyn Rows>,
    /// Whether the store was closed in order. If not, [`scrub`](super::scrub::scrub) checks the rows.
    pub(crate) clean: bool,
}

impl SqliteBackend {
    /// Opens the file, or creates it. It leaves raising the epoch to the store that issues fences.
    ///
    /// # Errors
    ///
    /// [`StoreError`], which says what to do: the file is newer, foreign, damaged or in use, its last commits are
    /// missing, or the system answered an error.
    pub(crate) fn open(path: &Path) -> Result<OpenFile, StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let ownership = take_ownership(path)?;
        repair::finish(path).map_err(io)?;
        log::rewrite_if_left(path).map_err(io)?;
        schema::prepare(path, schema::Empty::Refuse)?;
        let (name, meta, note, noted) = look(path)?;
        log::lengthen(path).map_err(io)?;
        note.opened(noted.batch.max(meta.batch));
        let note = Arc::new(note);
        let rows = SqliteRows::open(path, name, Arc::clone(&note)).map_err(|error| opening(path, error))?;
        sync_folder(path).map_err(io)?;
        let (reserve, readings) = (Reserve::new(path), Readings::new(path));
        let backend = Self { path: path.to_owned(), note, reserve, readings, _ownership: ownership };
        Ok(OpenFile { backend, rows: Box::new(rows), clean: noted.clean && noted.batch == meta.batch })
    }

    /// Returns the connections that read the file.
    pub(super) fn readings(&self) -> Readings {
        self.readings.clone()
    }
}

/// Checks that nothing is missing from the file, before anything is written to it. Nobody may have the file open.
fn look(path: &Path) -> Result<(StoreName, Meta, Note, Noted), StoreError> {
    let failed = |error| opening(path, error);
    let connection = schema::open_writer(path).map_err(failed)?;
    let (name, meta) = meta::read(&connection).map_err(|error| opening_row(path, META, error))?;
    let (note, noted) = Note::open(path, name).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
    match noted.batch.checked_sub(meta.batch) {
        Some(missing) if missing > 0 => return Err(StoreError::LostTail { path: path.to_owned(), missing }),
        _ => {}
    }
    types::all(&connection).map_err(|error| opening_row(path, "the counts of task types", error))?;
    types::key_limits(&connection).map_err(|error| opening_row(path, "the limits of concurrency keys", error))?;
    log::shorten(path, &connection).map_err(failed)?;
    Ok((name, meta, note, noted))
}

impl Backend for SqliteBackend {
    fn open_rows(&self) -> Result<Box<dyn Rows>, Fault> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => Fault::Full(error.to_string()),
            _ => Fault::Failed(error.to_string()),
        };
        self.readings.closed(|| {
            // Data that a failed sync left in memory may not be on the disk, and would not be written again by itself.
            log::rewrite(&self.path).map_err(failed)?;
            match log::copy_anew(&self.path) {
                // A full disk stops the copy before any sync. The next copy starts from the beginning, because all
                // connections were closed.
                Ok(()) | Err(Fault::Full(_)) => {}
                Err(fault) => return Err(fault),
            }
            let rows = SqliteRows::open(&self.path, self.note.name(), Arc::clone(&self.note))?;
            Ok::<Box<dyn Rows>, Fault>(Box::new(rows))
        })
    }

    fn open_log(&self) -> io::Result<Option<Box<dyn Log>>> {
        Ok(Some(Box::new(SqliteLog::open(&self.path, Arc::clone(&self.note))?)))
    }

    fn open_reads(&self) -> Result<Box<dyn Reads>, StoreError> {
        let reading = self.readings.open().map_err(|error| opening(&self.path, error))?;
        Ok(Box::new(SqliteReads::new(reading)))
    }

    fn spend_reserve(&self) {
        self.reserve.spend();
    }

    fn set_aside(&self, file: FileRoom) -> Room {
        self.reserve.set_aside(file)
    }

    fn room(&self, file: FileRoom) -> Room {
        self.reserve.room(file)
    }
}

/// The name of the running numbers in messages.
const META: &str = "the store's running numbers";
