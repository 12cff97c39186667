use std::{fs::File, io::Read, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    fault::opening,
    files::{JOURNAL, companion, private_file},
    log, migrate, note,
};
use crate::StoreError;

/// The tables of the current schema version. Each version adds columns and tables at the end, so that a migrated table
/// equals a new one.
///
/// A submit writes `task` and `line`. A claim moves the place in `line` to a row of `live`, and the end moves that row
/// to `finished`. Each writes two or three trees, and all of them except the index on `task.id` grow at one end. `seq`,
/// the order of acceptance, joins the tables. Rows carry a checksum over the content that is read.
///
/// A fresh task has no row in `live`. [`live_key`](super::row::live_key) explains the key of `live`. `block` counts the
/// entries of `line` for each range of sequence numbers, so that a list of queued tasks can skip tasks that have ended.
pub(super) const TABLES: &str = "
CREATE TABLE meta (
  only INTEGER PRIMARY KEY CHECK (only = 0), store BLOB NOT NULL,
  epoch INTEGER NOT NULL, batch INTEGER NOT NULL, next_seq INTEGER NOT NULL, crc INTEGER NOT NULL,
  elapsed INTEGER, wall INTEGER, uptime INTEGER, boot BLOB
) STRICT;

CREATE TABLE task (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL, task_type TEXT NOT NULL, model_name TEXT NOT NULL,
  priority INTEGER NOT NULL, created_at INTEGER NOT NULL, ready_at INTEGER NOT NULL, not_before INTEGER,
  deadline_s REAL, labels TEXT, requires TEXT, session TEXT, pin_to BLOB, after BLOB,
  run_anyway INTEGER NOT NULL, concurrency_key TEXT,
  max_attempts INTEGER NOT NULL, backoff_s REAL NOT NULL, result_ttl_s REAL NOT NULL,
  crc INTEGER NOT NULL, payload TEXT NOT NULL, submitter TEXT, submitted_by BLOB
) STRICT;
CREATE UNIQUE INDEX task_id ON task (id);

CREATE TABLE live (
  key INTEGER PRIMARY KEY, id BLOB NOT NULL, phase INTEGER NOT NULL, ready_at INTEGER NOT NULL, not_before INTEGER,
  deadline INTEGER, waiting INTEGER NOT NULL, attempt INTEGER NOT NULL, fence_epoch INTEGER, fence_counter INTEGER,
  worker TEXT, lease_s REAL NOT NULL, lease_until INTEGER, cancel TEXT, progress REAL, status_message TEXT, error TEXT,
  updated_at INTEGER NOT NULL, max_attempts INTEGER NOT NULL, backoff_s REAL NOT NULL, result_ttl_s REAL NOT NULL,
  crc INTEGER NOT NULL, inputs TEXT, kept_until INTEGER, attempts BLOB
) STRICT;

CREATE TABLE finished (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL, status INTEGER NOT NULL, at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  not_before INTEGER, deadline INTEGER, attempt INTEGER NOT NULL, fence_epoch INTEGER, fence_counter INTEGER,
  worker TEXT, progress REAL, status_message TEXT, error TEXT, dead INTEGER NOT NULL,
  crc INTEGER NOT NULL, result TEXT, attempts BLOB
) STRICT;
CREATE INDEX finished_badly ON finished (seq) WHERE status <> 3;

CREATE TABLE line (
  lane TEXT NOT NULL, priority INTEGER NOT NULL, ready_at INTEGER NOT NULL, id BLOB NOT NULL,
  seq INTEGER NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY (lane, priority DESC, ready_at, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE block (
  number INTEGER PRIMARY KEY, ready INTEGER NOT NULL, crc INTEGER NOT NULL
) STRICT;

CREATE TABLE timer (
  kind INTEGER NOT NULL, at INTEGER NOT NULL, seq INTEGER NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY (kind, at, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE edge (
  parent INTEGER NOT NULL, child INTEGER NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL, id BLOB NOT NULL, expires_at INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires_at);

CREATE TABLE type (
  name TEXT PRIMARY KEY, queued INTEGER NOT NULL, running INTEGER NOT NULL, completed INTEGER NOT NULL,
  failed INTEGER NOT NULL, cancelled INTEGER NOT NULL, paused INTEGER NOT NULL, draining INTEGER NOT NULL,
  running_max INTEGER, crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE key_limit (
  key TEXT PRIMARY KEY, running_max INTEGER NOT NULL, crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE route (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, owner BLOB NOT NULL, crc INTEGER NOT NULL
) STRICT;

CREATE TABLE cache (
  key TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, expires_at INTEGER, used_at INTEGER NOT NULL,
  crc INTEGER NOT NULL, value TEXT NOT NULL
) STRICT;
CREATE INDEX cache_used ON cache (used_at, bytes);
CREATE INDEX cache_expires ON cache (expires_at) WHERE expires_at IS NOT NULL;
";

/// What to do about an empty file that has the note of a store beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// Refuse it: it held a store, and all of it is missing.
    Refuse,
    /// Start a new store.
    Accept,
}

/// Makes sure that the file is a store of the current version with all tables: creates or migrates it where needed.
pub(super) fn prepare(path: &Path, empty: Empty) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    drop(private_file(path).map_err(io)?);
    if companion(path, JOURNAL).exists() {
        undo(path);
    }
    {
        let mut header = Vec::new();
        let file = File::open(path).map_err(io)?;
        file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut header).map_err(io)?;
        if !header.is_empty() && header != SQLITE_MAGIC {
            return Err(StoreError::NotAStore { path: path.to_owned() });
        }
    }
    let failed = |error| opening(path, error);
    let connection = open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    match versions(&connection).map_err(failed)? {
        (0, 0) if is_empty(&connection).map_err(failed)? => match note::batch_of_any(path).map_err(io)? {
            Some(missing) if empty == Empty::Refuse => Err(StoreError::LostTail { path: path.to_owned(), missing }),
            _ => create(&connection).map_err(failed),
        },
        (APPLICATION_ID, SCHEMA_VERSION) => log_ahead(&connection).map_err(failed),
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => {
            Err(StoreError::Newer { path: path.to_owned(), found, supported: SCHEMA_VERSION })
        }
        (APPLICATION_ID, found) if found > 0 => {
            log_ahead(&connection).map_err(failed)?;
            migrate::migrate(&connection, found, migrate::STEPS).map_err(failed)
        }
        (UNRELEASED_ID, found) => Err(StoreError::Unreleased { path: path.to_owned(), found }),
        _ => Err(StoreError::NotAStore { path: path.to_owned() }),
    }
}

/// Lets SQLite undo a creation of the file that a power cut interrupted. Before that, the first page may be torn, and
/// the file may not look like a database.
fn undo(path: &Path) {
    let read = open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|connection| versions(&connection));
    if let Err(error) = read {
        // The cause shows when the file is opened.
        tracing::debug!(%error, path = %path.display(), "a file with a journal cannot be read");
    }
}

/// Creates the tables in an empty file.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    log_ahead(connection)?;
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    super::meta::insert_first(&transaction)?;
    mark(&transaction, SCHEMA_VERSION)?;
    transaction.commit()?;
    // The log is copied, so that the file is recognized as a store even if the log is lost.
    log::copy(connection).map(drop)
}

/// Makes sure that the file uses a log, because a file that another program restored may not. Also makes commits on
/// this connection wait for the disk.
fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Marks the file as a store of this schema version.
pub(super) fn mark(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", version)
}

/// Opens the connection that writes. Its commits do not wait for the disk: see [`SqliteLog`](super::log::SqliteLog).
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", WRITER_CACHE_KIB_NEGATIVE)?;
    Ok(connection)
}

/// Opens a connection that reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_plain(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Opens a connection with the settings that all connections share. Closing it leaves the log as it is.
pub(super) fn open_plain(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Query plans do not depend on bound values. Without this setting, SQLite would plan statements again for new
    // values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The log keeps its length and its open handles stay valid when the last connection closes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Pages are checked more closely when they are read, so that damage causes an error rather than a wrong answer.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

fn versions(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    Ok((read("application_id")?, read("user_version")?))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Marks the file as a task store of this project: the letters `tskm`.
const APPLICATION_ID: i64 = 0x7473_6b6d;

/// The mark of files from before the first release: the letters `tmsh`. Their schema versions were counted separately.
const UNRELEASED_ID: i64 = 0x746d_7368;

/// The current schema version. Each change of the tables raises it, with a step in [`migrate::STEPS`], so that the
/// files of each release can be opened.
pub(super) const SCHEMA_VERSION: i64 = 2;

/// How long to wait when the file is locked. Only a foreign program, such as a shell or a backup, can hold it; after
/// this wait the error says so.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// The writer's page cache, in SQLite's unit of negative KiB: the hot pages of a million queued tasks. The memory is
/// taken as it is needed.
const WRITER_CACHE_KIB_NEGATIVE: i64 = -16 * 1024;

/// The capacity of the statement cache: more than there are statements.
const STATEMENTS_CACHED: usize = 96;
