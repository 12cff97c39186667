use std::time::Duration;

use taskqueue_api::ErrorCode;

use super::{
    room::adds,
    syncer::{Batch, refuse, unknown},
    work::{Command, storage_error, storage_full},
    writer::{Trouble, Writer},
};
use crate::{backend::Fault, engine::Now};

/// What to do with a command that was not applied because there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Try it once more, unless it adds rows.
    Try,
    /// Refuse it: this was the second try.
    Refuse,
}

impl Writer {
    /// Finds out which of the commands or chores cannot be done, so that it does not fail the others.
    pub(super) fn one_by_one(&mut self, commands: Vec<Command>, first: &Fault, now: Now) {
        tracing::warn!(fault = %first, "a transaction of the store failed; trying its parts one by one");
        if matches!(first, Fault::Busy(_)) {
            // Each further try would wait just as long.
            self.pace.hold_until = Some(now.monotonic + HOLD);
            let error = storage_error(first);
            return commands.into_iter().for_each(|command| command.reply_to.answer(Err(error.clone())));
        }
        self.note_full(first, adds(&commands), now);
        match self.attempt(&mut [], true, now) {
            Ok(committed) => self.settle(Vec::new(), committed, now),
            Err(Trouble::Before(fault)) => {
                tracing::error!(%fault, "leases, delays and retention of the store are held up");
                self.pace.hold_until = Some(now.monotonic + HOLD);
            }
            Err(Trouble::Commit(fault)) => self.commit_failed(Vec::new(), &fault, Again::Refuse, now),
        }
        for command in commands {
            self.one(command, now);
        }
    }

    fn one(&mut self, command: Command, now: Now) {
        let mut one = vec![command];
        self.refuse_when_full(&mut one, now);
        if one.is_empty() {
            return;
        }
        match self.attempt(&mut one, false, now) {
            Ok(committed) => self.settle(one, committed, now),
            Err(Trouble::Before(fault)) => {
                self.note_full(&fault, adds(&one), now);
                one.drain(..).for_each(|command| command.reply_to.answer(Err(storage_error(&fault))));
            }
            Err(Trouble::Commit(fault)) => self.commit_failed(one, &fault, Again::Refuse, now),
        }
    }

    /// Recovers from a failed commit. The rows are opened anew, and what they then show is the truth. If the commit
    /// failed for want of room and is not in the rows, commands that add rows are refused. The other commands are tried
    /// again with the room of the reserve, which was given up.
    pub(super) fn commit_failed(&mut self, commands: Vec<Command>, fault: &Fault, again: Again, now: Now) {
        tracing::error!(%fault, "a commit of the store failed; opening it again");
        self.note_full(fault, adds(&commands), now);
        let attempted = self.memory.meta.batch;
        let reopened = self.open_again(now);
        let applied = !reopened || self.memory.meta.batch >= attempted;
        for command in commands {
            let error = match fault {
                Fault::Full(_) if !applied && again == Again::Try && !command.demand.adds => {
                    self.one(command, now);
                    continue;
                }
                Fault::Full(_) if !applied => storage_full(),
                fault => storage_error(fault).with_code(ErrorCode::StorageError),
            };
            // Nobody has been told a fence of a claim, so a claim needs no unknown outcome.
            let is_unknown = applied && command.demand.needs_sync;
            command.reply_to.answer(Err(if is_unknown { error.with_unknown_outcome() } else { error }));
        }
    }

    /// Recovers from a failed sync. It is not tried again, because the data that the system holds in memory may not be
    /// on the disk. The rows are opened anew instead, which writes what they show once more.
    pub(super) fn sync_failed(&mut self, batches: Vec<Batch>, why: &str, now: Now) {
        tracing::error!(why, "a sync of the store failed; opening it again");
        let error = unknown(why);
        self.open_again(now);
        // The completions of these claims may be among the commits that were not synced.
        self.parked.take_all().into_iter().for_each(|(reply_to, _)| reply_to.answer(Err(error.clone())));
        batches.into_iter().for_each(|batch| refuse(batch, &error));
    }

    pub(super) fn open_again(&mut self, now: Now) -> bool {
        self.rows = None;
        self.recent.hold_all();
        self.syncer.when_idle();
        let failed = self.syncer.take_failed();
        self.pace.hold_until = Some(now.monotonic + HOLD);
        let reopened = self.reopen(now);
        if let Some((batches, why)) = failed {
            batches.into_iter().for_each(|batch| refuse(batch, &unknown(&why)));
        }
        reopened
    }

    pub(super) fn reopen_if_needed(&mut self, now: Now) -> bool {
        self.rows.is_some() || (self.pace.hold_until.is_none() && self.reopen(now))
    }

    pub(super) fn reopen(&mut self, now: Now) -> bool {
        let opened = self.backend.open_rows().and_then(|mut rows| {
            let failed = |error: std::io::Error| Fault::Failed(error.to_string());
            let logs = (self.backend.open_log().map_err(failed)?, self.backend.open_log().map_err(failed)?);
            self.memory.reload(&mut *rows, now)?;
            Ok((rows, logs))
        });
        match opened {
            Ok((rows, (log, threads_log))) => {
                self.rows = Some(rows);
                self.show_holds();
                self.syncer.reopened(log, threads_log);
                self.recent.release();
                true
            }
            Err(fault) => {
                tracing::error!(%fault, "the store could not be opened again");
                self.pace.hold_until = Some(now.monotonic + HOLD);
                false
            }
        }
    }
}

/// How long chores and repairs wait after a failure.
const HOLD: Duration = Duration::from_secs(1);
