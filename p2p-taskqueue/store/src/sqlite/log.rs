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

/// The write-ahead log, as the one that waits for the disk has it.
///
/// A commit only writes to the log (`synchronous=NORMAL`); it is durable once this has synced the log's file. SQLite
/// locks the database and the index of the log, never the log itself, so a handle of ours can come and go. The file is
/// written over from its start again and again, is never shortened or removed while the store is open, and is as long as
/// it gets from the start: then a sync writes data only, which takes half the time of one that must also note a longer
/// file.
///
/// SQLite itself syncs the log's new start when it begins to write over it, and the log and the database when it copies
/// one into the other: what is written over is safe elsewhere.
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

/// Gives the log its length, while nobody has it open. What is behind its last commit is not read.
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

/// Makes a log that was copied into the database an empty one, of the same length: from here on the database is all there
/// is, and another one put in its place, such as a backup, does not meet a log that is not its own.
pub(super) fn blank(path: &Path) -> io::Result<()> {
    let mut file = open(path)?;
    file.write_all(&[0; LOG_HEADER_BYTES])?;
    file.sync_data()
}

/// Writes the log's content anew and waits for it. After a failed sync the system takes what it has in memory for
/// written; this makes it write all of that again. Nobody else may write meanwhile.
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

/// Writes a log anew that was not left empty: whoever had the store before may have ended after a failed sync. What is
/// committed from here on stands behind what is there, and would be lost with it.
pub(super) fn rewrite_if_left(path: &Path) -> io::Result<()> {
    let mut header = Vec::new();
    match File::open(companion(path, LOG)) {
        Ok(log) => log.take(LOG_HEADER_BYTES as u64).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if header.iter().any(|byte| *byte != 0) { rewrite(path) } else { Ok(()) }
}

/// Copies all of the log into the database once more, and waits for both.
///
/// When the sync of the database fails, the system takes pages of it for written that are not. SQLite keeps the log then,
/// but the next time it copies only what it has not copied before, and takes the log for done with when that is synced:
/// what an earlier, partial copy had written would be nowhere. On a connection that has the file to itself it does not know
/// of earlier copies, so every page is written again. Nobody else may have the file open.
pub(super) fn copy_anew(path: &Path) -> Result<(), Fault> {
    let connection = schema::open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    // A copy by itself would not say that another program has the file.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    if copy(&connection)? { Ok(()) } else { Err(Fault::Busy("the log cannot be copied".to_owned())) }
}

/// Copies the log into the database whenever it has grown by so much; the file begins anew when all of it is copied and
/// nobody reads it. Unlike SQLite's own way of doing this, a copy that fails is heard of: the commit answers an error,
/// though it holds.
pub(super) fn copy_under_load(connection: &mut Connection) -> rusqlite::Result<()> {
    let mut next = LOG_PAGES_MAX;
    connection.wal_hook(Some(move |log: &mut rusqlite::hooks::Wal, pages| {
        if pages < next - LOG_PAGES_MORE {
            next = LOG_PAGES_MAX;
        }
        if pages < next {
            return Ok(());
        }
        // Somebody reads what is to be written over: look again when there is enough more to copy.
        next = pages + LOG_PAGES_MORE;
        match log.checkpoint().map_err(|error| (error.sqlite_error_code(), error)) {
            // Nor does a full disk undo the commit. The next one finds out that the log cannot grow, before it holds.
            Ok(()) | Err((Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }))
}

/// Copies the log into the database; whether all of it was copied.
pub(super) fn copy(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, copied): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == copied)
    })
}

/// Copies the log into the database and cuts it off if it has become much longer than it need be, as it does when a
/// reader held on to it. Only while nobody else has it open.
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

/// Under load the log is copied into the database at this many pages (14 MB): copying stalls one commit in some
/// hundreds, which keeps it out of the 99th percentile. When the writer is idle it is copied at once.
const LOG_PAGES_MAX: i32 = if cfg!(test) { 100 } else { 3_500 };

/// A log that could not begin anew is copied again after so many more.
const LOG_PAGES_MORE: i32 = 1_000;

/// How long the log's file is from the start: [`LOG_PAGES_MAX`] with room for the batch that passes it. Writing it takes
/// some 20 ms, once in the life of a store.
/// The tests of this crate open thousands of stores, and none of them needs a long log.
const LOG_BYTES: u64 = if cfg!(test) { 512 * 1024 } else { 16 * 1024 * 1024 };

/// SQLite takes a log without this for an empty one.
const LOG_HEADER_BYTES: usize = 32;

/// A log that has become longer than this is cut off at the next start.
const LOG_BYTES_KEPT_MAX: u64 = 4 * LOG_BYTES;

/// Written at once.
const LENGTHEN_BYTES: usize = 1024 * 1024;
