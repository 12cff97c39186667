use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    files::{LOG, companion, private_file},
    note::Note,
    schema,
};
use crate::{Fault, Log};

/// The write-ahead log, as the thread that syncs it uses it.
///
/// A commit only writes to the log (`synchronous=NORMAL`). It is durable once this type has synced the log's file.
/// SQLite locks the database and the index of the log, never the log itself, so our own handle can be opened and closed
/// at any time. The log has its full length from the start. It is written over from its start again and again, and
/// never shortened or removed while the store is open. So a sync writes data only, which takes half the time of a sync
/// that must also note a longer file.
///
/// SQLite itself syncs the new start of the log when it begins to write over it, and both files when it copies the log
/// into the database. So what is written over is safe elsewhere.
#[derive(Debug)]
pub(super) struct SqliteLog {
    file: File,
    note: Arc<Note>,
}

impl SqliteLog {
    pub(super) fn open(path: &Path, note: Arc<Note>) -> io::Result<Self> {
        Ok(Self { file: open(path)?, note })
    }
}

impl Log for SqliteLog {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn note_synced(&mut self, batch: u64) {
        self.note.synced(batch);
    }
}

/// Gives the log its full length. Nobody may have it open. Bytes behind its last commit are not read.
pub(super) fn lengthen(path: &Path) -> io::Result<()> {
    let mut file = private_file(&companion(path, LOG))?;
    let mut length = file.seek(SeekFrom::End(0))?;
    let zeros = vec![0; LENGTHEN_BYTES];
    while length < LOG_BYTES {
        let missing = usize::try_from(LOG_BYTES - length).unwrap_or(LENGTHEN_BYTES).min(LENGTHEN_BYTES);
        file.write_all(zeros.get(..missing).unwrap_or(&zeros))?;
        length += missing as u64;
    }
    file.sync_all()
}

/// Makes a log empty that was copied into the database, and keeps its length. From here on everything is in the
/// database. If another file takes its place, such as a backup, it does not meet a log that belongs to another
/// database.
pub(super) fn blank(path: &Path) -> io::Result<()> {
    let mut file = open(path)?;
    file.write_all(&[0; LOG_HEADER_BYTES])?;
    file.sync_data()
}

/// Writes the log's content again and syncs it. After a failed sync, the system treats the data in its memory as
/// written. This makes it write all of that again. Nobody else may write in the meantime.
pub(super) fn rewrite(path: &Path) -> io::Result<()> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    let mut buffer = vec![0; LENGTHEN_BYTES];
    let mut at = 0;
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(buffer.get(..read).unwrap_or_default())?;
        at += read as u64;
    }
    file.sync_all()
}

/// Writes a log again that was not left empty, because the last owner of the store may have ended after a failed sync.
/// New commits are appended to the old content, and would be lost with it.
pub(super) fn rewrite_if_left(path: &Path) -> io::Result<()> {
    let mut header = Vec::new();
    match File::open(companion(path, LOG)) {
        Ok(log) => log.take(LOG_HEADER_BYTES as u64).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if header.iter().any(|byte| *byte != 0) { rewrite(path) } else { Ok(()) }
}

/// Copies the whole log into the database once more, and syncs both.
///
/// When the sync of the database fails, the system treats pages as written that are not. SQLite keeps the log then. But
/// the next time it copies only what it has not copied before, and regards the log as finished when that is synced.
/// Pages of the earlier, partial copy would then be nowhere. A connection that has the file to itself knows nothing of
/// earlier copies, so it writes every page again. Nobody else may have the file open.
pub(super) fn copy_anew(path: &Path) -> Result<(), Fault> {
    let connection = schema::open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    // A copy alone would not report that another program has the file open.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    if copy(&connection)? { Ok(()) } else { Err(Fault::Busy("the log cannot be copied".to_owned())) }
}

/// Copies the log into the database whenever it has grown by enough pages. The log begins anew when all of it has been
/// copied and nobody reads it. Unlike SQLite's automatic copy, this one reports a failure: the commit then answers an
/// error, although it holds.
pub(super) fn copy_under_load(connection: &mut Connection) -> rusqlite::Result<()> {
    let mut next = LOG_PAGES_MAX;
    connection.wal_hook(Some(move |log: &mut rusqlite::hooks::Wal, pages| {
        if pages < next - LOG_PAGES_MORE {
            next = LOG_PAGES_MAX;
        }
        if pages < next {
            return Ok(());
        }
        // A reader still uses what would be written over. Try again when there are enough more pages to copy.
        next = pages + LOG_PAGES_MORE;
        match log.checkpoint().map_err(|error| (error.sqlite_error_code(), error)) {
            // A full disk does not undo the commit either. The next commit notices that the log cannot grow, before it
            // takes effect.
            Ok(()) | Err((Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }))
}

/// Copies the log into the database. Returns whether all of it was copied.
pub(super) fn copy(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, copied): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == copied)
    })
}

/// Copies the log into the database and cuts it off if it is much longer than necessary, as after a reader that held on
/// to it. Nobody else may have it open.
pub(super) fn shorten(path: &Path, connection: &Connection) -> rusqlite::Result<()> {
    let length = companion(path, LOG).metadata().map_or(0, |log| log.len());
    if length > LOG_BYTES_KEPT_MAX {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(companion(path, LOG))
}

/// Under load the log is copied into the database at this many pages (14 MB). Copying stalls one commit in some
/// hundreds, which keeps it out of the 99th percentile. When the writer is idle, the log is copied at once.
const LOG_PAGES_MAX: i32 = if cfg!(test) { 100 } else { 3_500 };

/// A log that could not begin anew is copied again after this many more pages.
const LOG_PAGES_MORE: i32 = 1_000;

/// The length of the log's file from the start: [`LOG_PAGES_MAX`] with room for the batch that exceeds it. Writing it
/// takes some 20 ms, once in the life of a store. It is small in the tests of this crate, which open thousands of
/// stores and need no long log.
const LOG_BYTES: u64 = if cfg!(test) { 512 * 1024 } else { 16 * 1024 * 1024 };

/// The length of the log's header in bytes. SQLite regards a log without it as empty.
const LOG_HEADER_BYTES: usize = 32;

/// A log that is longer than this, in bytes, is cut off at the next start.
const LOG_BYTES_KEPT_MAX: u64 = 4 * LOG_BYTES;

/// The bytes that are written at once.
const LENGTHEN_BYTES: usize = 1024 * 1024;
