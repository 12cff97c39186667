use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use crate::store::StoreError;

/// The tables of schema version 1.
///
/// `task` has one row from submit to removal and is never changed; `live` is small and hot; `finished` is apart, so that
/// a claim never meets what is done. All three share `seq`, the order of acceptance, so one index finds a task by its id.
/// Rows carry a checksum over what the engine reads of them.
const TABLES: &str = "
CREATE TABLE meta (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  epoch INTEGER NOT NULL, batch INTEGER NOT NULL, next_seq INTEGER NOT NULL,
  queued INTEGER NOT NULL, running INTEGER NOT NULL,
  completed INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (0, 0, 0, 1, 0, 0, 0, 0, 0);

CREATE TABLE task (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL, task_type TEXT NOT NULL, model_name TEXT NOT NULL,
  priority INTEGER NOT NULL, created_at INTEGER NOT NULL, deadline INTEGER,
  labels TEXT, requires TEXT, session TEXT, pin_to BLOB,
  max_attempts INTEGER NOT NULL, backoff_s REAL NOT NULL, result_ttl_s REAL NOT NULL,
  crc INTEGER NOT NULL, payload TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX task_id ON task (id);

CREATE TABLE live (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL, lane TEXT NOT NULL, priority INTEGER NOT NULL,
  phase INTEGER NOT NULL, ready_at INTEGER NOT NULL, not_before INTEGER, attempt INTEGER NOT NULL,
  fence_epoch INTEGER, fence_counter INTEGER, worker TEXT, lease_s REAL NOT NULL, lease_until INTEGER,
  cancel TEXT, progress REAL, status_message TEXT, error TEXT, updated_at INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL, backoff_s REAL NOT NULL, result_ttl_s REAL NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
CREATE INDEX live_ready ON live (lane, priority DESC, ready_at, id) WHERE phase = 0;
CREATE INDEX live_delayed ON live (ready_at) WHERE phase = 1;
CREATE INDEX live_running ON live (seq) WHERE phase = 2;

CREATE TABLE finished (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL, status INTEGER NOT NULL, at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  not_before INTEGER, attempt INTEGER NOT NULL, fence_epoch INTEGER, fence_counter INTEGER, worker TEXT,
  progress REAL, status_message TEXT, error TEXT, dead INTEGER NOT NULL,
  crc INTEGER NOT NULL, result TEXT
) STRICT;
CREATE INDEX finished_expires ON finished (expires_at);
CREATE INDEX finished_badly ON finished (seq) WHERE status <> 3;

CREATE TABLE idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL, id BLOB NOT NULL, expires_at INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires_at);

CREATE TABLE route (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, owner BLOB NOT NULL
) STRICT;
";

/// The lock that shows that the file has an owner. It is apart from the database because closing any handle of that
/// would drop the locks that SQLite has on it.
pub(super) fn take_ownership(path: &Path) -> Result<File, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let lock = private_file(&companion(path, "-owner")).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Makes sure that the file is a store of a version known here, with every table.
pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    {
        let mut header = Vec::new();
        let file = private_file(path).map_err(io)?;
        file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut header).map_err(io)?;
        if !header.is_empty() && header != SQLITE_MAGIC {
            return Err(StoreError::NotAStore { path: path.to_owned() });
        }
    }
    let connection = open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| opening(path, error))?;
    let (application, version) = versions(&connection).map_err(|error| opening(path, error))?;
    match (application, version) {
        (0, 0) if is_empty(&connection).map_err(|error| opening(path, error))? => {
            create(&connection).map_err(|error| opening(path, error))
        }
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => {
            Err(StoreError::Newer { path: path.to_owned(), found, supported: SCHEMA_VERSION })
        }
        _ => Err(StoreError::NotAStore { path: path.to_owned() }),
    }
}

/// The connection that writes.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", WRITER_CACHE_KIB_NEGATIVE)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES_MAX, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

/// A connection that reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_plain(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

/// Copies the log into the file and empties it; `true` when all of it was copied.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (busy, log, copied): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == copied)
    })
}

/// What an error of SQLite means for somebody who opens the file.
pub(super) fn opening(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, source },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
        _ => StoreError::Sqlite { path, source },
    }
}

/// Another file of the store, beside it.
pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens or makes a file that only its owner may read. SQLite gives its own companions the mode of the database.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

fn open_plain(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Plans do not depend on the values bound to them: without this, statements are planned anew for new values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

fn versions(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    Ok((read("application_id")?, read("user_version")?))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    ))
}

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Marks the file as a task store of this project: the letters `tmsh`.
pub(super) const APPLICATION_ID: i64 = 0x746d_7368;

/// Raised by every change of the tables; each released version opens here.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// Only a program that is not ours (a shell, a backup) can hold the file: wait a moment, then say so.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// In SQLite's unit, negative KiB: the hot pages of a million queued tasks; taken as it is needed.
const WRITER_CACHE_KIB_NEGATIVE: i64 = -16 * 1024;

/// Under load the log is copied into the file at this many pages (16 MB): copying stalls one commit in some hundreds,
/// which keeps it out of the 99th percentile. When the writer is idle it is copied at once.
const LOG_PAGES_MAX: i64 = 4_000;

/// More than there are statements.
const STATEMENTS_CACHED: usize = 64;
