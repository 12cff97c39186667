//! Builds a sound store from the intact parts of a damaged one.
//!
//! Everything that can be read is written to a new file. Its lines, timers and counts are computed from the tasks. Then
//! the new file takes the place of the old one, and an exact copy of the old one is kept beside it.

mod rebuild;
mod salvage;
mod switch;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

pub(super) use switch::finish;

use super::{
    fault::opening,
    files::{LOG, companion, free_on_disk, private_file, remove_if_any, take_ownership},
    meta, note,
    row::RowError,
    schema,
};
use crate::{Meta, StoreError};

/// The outcome of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// The number of tasks that are intact and have kept their state.
    pub tasks: u64,
    /// The tasks that cannot be kept, because their content or their state cannot be read.
    pub lost: Vec<String>,
    /// The number of lost tasks. It is higher than the number in the list when there are very many.
    pub lost_count: u64,
    /// Other things that were lost or computed anew.
    pub remarks: Vec<String>,
    /// The number of acknowledged commits that are missing from the end of the log, as far as that is known.
    pub missing_commits: u64,
    /// The path of the old file. Remove it and its companions when nothing in it is needed.
    pub kept_at: PathBuf,
}

impl RepairReport {
    fn lose(&mut self, what: String) {
        self.lost_count += 1;
        if self.lost.len() < LOST_MAX {
            self.lost.push(what);
        }
    }

    fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }
}

/// Builds a sound store from what is intact in this file. Nobody may have the file open.
///
/// # Errors
///
/// [`StoreError`] when the file cannot be read at all, is not a store or is a newer one, or is in use, when the disk
/// has no room for two more copies of it, or when the system refuses. The file is then as it was, and no new files are
/// beside it.
pub(crate) fn repair(path: &Path) -> Result<RepairReport, StoreError> {
    let _ownership = take_ownership(path)?;
    let bytes = bytes_of(path).saturating_add(bytes_of(&companion(path, LOG)));
    let no_room = || StoreError::NoRoom {
        path: path.to_owned(),
        needed: bytes.saturating_mul(2),
        free: free_on_disk(path).unwrap_or(0),
    };
    // The copy of the old file alone needs that much. A repair that cannot succeed should not fill the disk for others.
    if free_on_disk(path).is_some_and(|free| free < bytes) {
        return Err(no_room());
    }
    make_sound(path).map_err(|error| if error.is_full() { no_room() } else { error })
}

fn bytes_of(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

fn make_sound(path: &Path) -> Result<RepairReport, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let failed = |error| beyond(path, true, opening(path, error));
    finish(path).map_err(io)?;
    // The last batch that is known to have been on stable storage.
    let noted = note::batch_of_any(path).map_err(io)?;
    schema::prepare(path, schema::Empty::Accept).map_err(|error| beyond(path, noted.is_some(), error))?;
    let noted = noted.unwrap_or(0);
    let mut report = RepairReport::default();
    let old = soundest(path, &mut report).map_err(failed)?;
    let numbers = read_numbers(&old, &mut report).map_err(failed)?;
    report.missing_commits = noted.saturating_sub(numbers.batch);

    let making = companion(path, MAKING);
    remove_with_log(&making).map_err(io)?;
    let batch = noted.max(numbers.batch);
    let made = make(&making, &old, Meta { batch, ..numbers }, &mut report);
    drop(old);
    if made.is_err() {
        // The disk may be full.
        remove_with_log(&making).map_err(io)?;
    }
    made?;
    report.kept_at = switch::switch(path, &making).map_err(io)?;
    Ok(report)
}

/// Returns the error that a caller who repairs the file gets for an error of opening it. `is_store` says that the file
/// was a store, whatever it looks like now.
fn beyond(path: &Path, is_store: bool, error: StoreError) -> StoreError {
    let path = path.to_owned();
    match error {
        StoreError::Damaged { source, .. } => StoreError::BeyondRepair { path, source: Some(source) },
        StoreError::NotAStore { .. } if is_store => StoreError::BeyondRepair { path, source: None },
        error => error,
    }
}

/// Writes the new file.
fn make(making: &Path, old: &Connection, numbers: Meta, report: &mut RepairReport) -> Result<(), StoreError> {
    let failed = |error| opening(making, error);
    drop(private_file(making).map_err(|source| StoreError::Io { path: making.to_owned(), source })?);
    let new = schema::open_plain(making, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    rebuild::rebuild(old, &new, numbers, report).map_err(failed)
}

/// Opens the file for reading. The log is left out where the file alone has later commits: a log that is damaged before
/// its end hides commits that have already been copied into the file.
fn soundest(path: &Path, report: &mut RepairReport) -> rusqlite::Result<Connection> {
    let with_log = schema::open_plain(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    with_log.pragma_update(None, "query_only", true)?;
    let Some(alone) = open_alone(path) else { return Ok(with_log) };
    let batch = |connection| meta::read(connection).map_or(0, |(_, meta)| meta.batch);
    if batch(&alone) <= batch(&with_log) || !is_sound(&alone) {
        return Ok(with_log);
    }
    report.remark("the log is damaged and was left out: all that it had is in the file");
    Ok(alone)
}

/// Opens the file without its log.
fn open_alone(path: &Path) -> Option<Connection> {
    let escaped = path.to_str()?.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    schema::open_plain(Path::new(&format!("file:{escaped}?immutable=1")), flags).ok()
}

fn is_sound(connection: &Connection) -> bool {
    connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
        .is_ok_and(|found| found == "ok")
}

fn read_numbers(connection: &Connection, report: &mut RepairReport) -> rusqlite::Result<Meta> {
    match meta::read(connection) {
        Ok((_, numbers)) => Ok(numbers),
        Err(RowError::Damaged) => {
            report.remark("the store's running numbers were damaged and are worked out anew");
            Ok(Meta::default())
        }
        Err(RowError::Sqlite(error)) => Err(error),
    }
}

fn remove_with_log(path: &Path) -> std::io::Result<()> {
    for file in [path.to_owned(), companion(path, LOG), companion(path, super::files::LOG_INDEX)] {
        remove_if_any(&file)?;
    }
    Ok(())
}

const MAKING: &str = "-repairing";

/// The most lost tasks that are listed: as many as a person reads.
const LOST_MAX: usize = 1_000;
