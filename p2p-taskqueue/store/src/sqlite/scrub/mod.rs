//! Looking over a whole store: every row, and whether the rows agree.

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

/// What a look over a whole store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Tasks that were looked at.
    pub tasks: u64,
    /// What is wrong; empty when all is well.
    pub problems: Vec<String>,
    /// How many problems there are; more than are listed when there are very many.
    pub problem_count: u64,
    /// Whether everything was looked at: not when it was stopped.
    pub completed: bool,
}

impl ScrubReport {
    /// Whether nothing is wrong with what was looked at.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problem_count == 0
    }
}

/// Looks over the store behind this connection, which only reads, until it is done or `stopped` says so: the file's
/// structure, every row's checksum, and whether every task stands where its rows say and every entry has its task. Others
/// may read and write meanwhile.
///
/// # Errors
///
/// SQLite's, when it cannot be stopped. What is wrong in the store is in the report.
pub(super) fn look_over(
    connection: &mut Connection,
    stopped: impl FnMut() -> bool + Send + 'static,
) -> rusqlite::Result<ScrubReport> {
    connection.progress_handler(STEPS_PER_LOOK, Some(stopped))?;
    Ok(Scrub { connection, report: ScrubReport::default() }.run())
}

/// Looks over the store in this file on a connection of its own.
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

/// It was told to stop.
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

    /// SQLite's own look at the trees of the file.
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

/// Steps of SQLite's machine between two looks at whether to stop: under a millisecond.
const STEPS_PER_LOOK: i32 = 10_000;

/// Problems that are listed: as many as a person reads.
const PROBLEMS_MAX: usize = 100;
