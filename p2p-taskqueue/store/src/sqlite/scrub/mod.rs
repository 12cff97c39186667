//! Checks a whole store: every row, and whether the rows agree.

mod tables;
mod tasks;

#[cfg(test)]
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, ErrorCode};

#[cfg(test)]
use super::{fault::opening, schema};
use super::{meta, row::RowError};
#[cfg(test)]
use crate::StoreError;

/// The findings of a check of a whole store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// The number of tasks that were checked.
    pub tasks: u64,
    /// The problems that were found; empty when there are none.
    pub problems: Vec<String>,
    /// The number of problems. It is higher than the number in the list when there are very many.
    pub problem_count: u64,
    /// Whether everything was checked; `false` when the check was stopped.
    pub completed: bool,
}

impl ScrubReport {
    /// Returns whether no problem was found.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problem_count == 0
    }
}

/// Checks the store behind this connection, which only reads, until it is done or `stopped` returns true. It checks the
/// structure of the file, the checksum of every row, that every task stands where its rows say, and that every entry
/// has its task. Others may read and write in the meantime.
///
/// # Errors
///
/// SQLite's error, when the handler that stops the check cannot be set. Problems of the store are in the report.
pub(super) fn look_over(
    connection: &mut Connection,
    stopped: impl FnMut() -> bool + Send + 'static,
) -> rusqlite::Result<ScrubReport> {
    connection.progress_handler(STEPS_PER_LOOK, Some(stopped))?;
    Ok(Scrub { connection, report: ScrubReport::default() }.run())
}

/// Checks the store in this file on a connection of its own.
#[cfg(test)]
pub(crate) fn scrub(path: &Path, stop: &Arc<AtomicBool>) -> Result<ScrubReport, StoreError> {
    let stop = Arc::clone(stop);
    let report = schema::open_reader(path)
        .and_then(|mut connection| look_over(&mut connection, move || stop.load(Ordering::Relaxed)));
    report.map_err(|error| opening(path, error))
}

struct Scrub<'a> {
    connection: &'a Connection,
    report: ScrubReport,
}

/// The check was told to stop.
struct Stopped;

impl Scrub<'_> {
    fn run(mut self) -> ScrubReport {
        self.report.completed = self.everything().is_ok();
        self.report
    }

    fn everything(&mut self) -> Result<(), Stopped> {
        self.numbers()?;
        self.tasks()?;
        self.checksums()?;
        self.leftovers()?;
        self.counts()?;
        self.structure()
    }

    fn numbers(&mut self) -> Result<(), Stopped> {
        match meta::read(self.connection) {
            Ok(_) => Ok(()),
            Err(error) => self.unreadable("the store's running numbers", error),
        }
    }

    /// Runs SQLite's own check of the trees in the file.
    fn structure(&mut self) -> Result<(), Stopped> {
        let found = self.connection.prepare("PRAGMA integrity_check").and_then(|mut check| {
            check.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        });
        match found {
            Ok(found) => {
                found.into_iter().filter(|line| line != "ok").for_each(|line| self.problem(line));
                Ok(())
            }
            Err(error) => self.unreadable("the file", error.into()),
        }
    }

    /// Notes that something cannot be read.
    fn unreadable(&mut self, what: &str, error: RowError) -> Result<(), Stopped> {
        match error {
            RowError::Damaged => self.problem(format!("{what}: damaged")),
            RowError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                return Err(Stopped);
            }
            RowError::Sqlite(error) => self.problem(format!("{what}: {error}")),
        }
        Ok(())
    }

    fn problem(&mut self, problem: String) {
        self.report.problem_count += 1;
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(problem);
        }
    }
}

/// The number of steps of SQLite's virtual machine between two calls of `stopped`: under a millisecond.
const STEPS_PER_LOOK: i32 = 10_000;

/// The most problems that are listed: as many as a person reads.
const PROBLEMS_MAX: usize = 100;
