use std::time::Duration;

use super::{
    command::{Command, Work, storage_error, storage_full},
    parked::answer,
    schema,
    writer::{Synchronous, Trouble, Writer},
};
use crate::{QueueError, api::ErrorCode, engine::Now};

impl Writer {
    /// One of the commands or chores cannot be done: find out which, so that it does not fail the others.
    pub(super) fn one_by_one(&mut self, commands: Vec<Command>, first_error: &rusqlite::Error, now: Now) {
        tracing::warn!(error = %first_error, "a transaction of the store failed; trying its parts one by one");
        if first_error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) {
            // Each further try would wait as long again.
            self.pace.hold_until = Some(now.monotonic + HOLD);
            let error = storage_error(first_error);
            return commands.into_iter().for_each(|command| answer(command, Err(error.clone())));
        }
        self.note_full(first_error, now);
        match self.attempt(&[], true, now) {
            Ok(done) => self.settle(Vec::new(), done, now),
            Err(Trouble::Before(error)) => {
                tracing::error!(%error, "leases, delays and retention of the store are held up");
                self.pace.hold_until = Some(now.monotonic + HOLD);
            }
            Err(Trouble::Commit(error)) => self.commit_failed(Vec::new(), &error, now),
        }
        for command in commands {
            if self.pace.full_until.is_some() && command.work.adds() {
                answer(command, Err(storage_full()));
                continue;
            }
            let mut one = vec![command];
            match self.attempt(&one, false, now) {
                Ok(done) => self.settle(one, done, now),
                Err(Trouble::Before(error)) => {
                    self.note_full(&error, now);
                    one.drain(..).for_each(|command| answer(command, Err(storage_error(&error))));
                }
                Err(Trouble::Commit(error)) => self.commit_failed(one, &error, now),
            }
        }
    }

    /// A commit failed. Its sync is not tried again: what the system still holds in memory may not be what is on the
    /// disk. The file is opened anew and what it then shows is the truth.
    pub(super) fn commit_failed(&mut self, commands: Vec<Command>, error: &rusqlite::Error, now: Now) {
        tracing::error!(%error, "a commit of the store failed; opening it again");
        self.note_full(error, now);
        let attempted = self.memory.tally.batch + 1;
        self.connection = None;
        self.pace.hold_until = Some(now.monotonic + HOLD);
        let reopened = self.reopen(now);
        let applied = !reopened || self.memory.tally.batch >= attempted;
        for command in commands {
            let error = match self.pace.full_until {
                Some(_) if !applied => storage_full(),
                _ => QueueError { code: ErrorCode::StorageError, ..storage_error(error) },
            };
            if matches!(&command.work, Work::Claim(_)) {
                // No fence of it was told to anybody.
                answer(command, Err(error));
            } else {
                answer(command, Err(if applied { error.with_unknown_outcome() } else { error }));
            }
        }
    }

    fn note_full(&mut self, error: &rusqlite::Error, now: Now) {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            tracing::error!("the store's disk is full: new tasks are refused until there is room");
            self.reserve.spend();
            #[cfg(test)]
            self.faults.reserve_spent();
            self.pace.full_until = Some(now.monotonic + FULL_RECHECK);
        }
    }

    /// While the disk is full, what adds is refused; from time to time the reserve shows whether there is room again.
    pub(super) fn refuse_when_full(&mut self, commands: &mut Vec<Command>, now: Now) {
        let Some(until) = self.pace.full_until else { return };
        if until <= now.monotonic && commands.iter().any(|command| command.work.adds()) {
            let filled = self.reserve.fill().is_ok();
            #[cfg(test)]
            let filled = filled && self.faults.has_room();
            self.pace.full_until = (!filled).then_some(now.monotonic + FULL_RECHECK);
        }
        if self.pace.full_until.is_some() {
            for command in commands.extract_if(.., |command| command.work.adds()) {
                answer(command, Err(storage_full()));
            }
        }
    }

    pub(super) fn reopen_if_needed(&mut self, now: Now) -> bool {
        self.connection.is_some() || (self.pace.hold_until.is_none() && self.reopen(now))
    }

    fn reopen(&mut self, now: Now) -> bool {
        let opened = schema::open_writer(&self.path).and_then(|connection| {
            // Copying the log writes what is in it anew, and waits for that: then it is on the disk.
            if !schema::checkpoint(&connection, "TRUNCATE")? {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    None,
                ));
            }
            self.memory.reload(&connection, now)?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => {
                self.connection = Some(connection);
                self.pace.synchronous = Synchronous::Full;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the store could not be opened again");
                self.pace.hold_until = Some(now.monotonic + HOLD);
                false
            }
        }
    }
}

/// After a failure, unasked work and repairs wait this long.
const HOLD: Duration = Duration::from_secs(1);

/// How often a full disk is looked at again.
const FULL_RECHECK: Duration = Duration::from_secs(1);
