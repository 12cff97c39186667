use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use rusqlite::Connection;

use super::{
    batch::{self, apply},
    command::{Answer, Command, Message, Returns, Work, storage_error, storage_full},
    leases::Leases,
    parked::{Parked, answer},
    reserve::Reserve,
    schema,
    turn::{Effects, Halt, Memory, Turn},
};
use crate::{
    QueueError,
    api::ErrorCode,
    engine::Now,
    store::{Clock, Watches},
    task::{Fence, TaskId},
};

/// The thread that owns the only connection that writes. It is also the timer of leases, delays, waits and retention.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    /// Callers hold the other end; it does not close, `Message::Close` ends the thread.
    pub(super) messages: Receiver<Message>,
    pub(super) returns: Arc<Returns>,
    pub(super) watches: Arc<Watches>,
    pub(super) reserve: Reserve,
    /// `None` after a failed commit until the file could be opened again.
    pub(super) connection: Option<Connection>,
    pub(super) memory: Memory,
    pub(super) parked: Parked,
    /// Given out to callers that had gone, and not yet taken back.
    pub(super) given_out: Vec<(TaskId, Fence)>,
    pub(super) pace: Pace,
    #[cfg(test)]
    pub(super) faults: Arc<super::tests::Faults>,
}

/// When the writer does what nobody asked for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Copy the log into the file then, if nothing happens before.
    checkpoint_at: Option<Duration>,
    /// Something went wrong: leave chores and repairs until then.
    hold_until: Option<Duration>,
    /// The disk is full: refuse what adds, and look again then.
    full_until: Option<Duration>,
    synchronous: Synchronous,
}

/// What the connection does at a commit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Synchronous {
    /// Waits for stable storage.
    #[default]
    Full,
    /// Leaves it to the next commit that waits.
    Normal,
}

/// Why a transaction came to nothing.
#[derive(Debug)]
enum Trouble {
    /// Before or in it: it was rolled back, and nothing of it is there.
    Before(rusqlite::Error),
    /// At its commit: whether it took effect is not known.
    Commit(rusqlite::Error),
}

/// A transaction that was committed.
struct Done {
    answers: Vec<Result<Answer, QueueError>>,
    served: Vec<(usize, Result<Answer, QueueError>)>,
    effects: Effects,
}

impl Writer {
    /// Works until it is told to close.
    pub(super) fn run(mut self) {
        let mut closing = false;
        while !closing {
            let (commands, close) = self.receive();
            closing = close;
            self.turn(commands);
        }
        self.shut_down();
    }

    /// Waits for something to do, and takes all that is there, up to a bound.
    fn receive(&mut self) -> (Vec<Command>, bool) {
        let mut commands = Vec::new();
        let mut next = self.wait();
        while let Some(message) = next {
            match message {
                Message::Do(command) => commands.push(command),
                Message::Wake => {}
                Message::Close => return (commands, true),
            }
            next = if commands.len() < BATCH_MAX { self.messages.try_recv().ok() } else { None };
        }
        (commands, false)
    }

    fn wait(&mut self) -> Option<Message> {
        let Some(due) = self.next_due() else { return self.messages.recv().ok() };
        match self.clock.block_for(due) {
            // The channel does not close while the writer holds a sender of it in `returns`.
            None if due > self.clock.now().monotonic => self.messages.recv().ok(),
            None => self.messages.try_recv().ok(),
            Some(timeout) => match self.messages.recv_timeout(timeout) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
            },
        }
    }

    /// The next moment at which something is to be done unasked.
    fn next_due(&self) -> Option<Duration> {
        let now = self.clock.now();
        let scheduled = [self.memory.delayed_at, self.memory.sweep_at].into_iter().flatten().min();
        // The wall clock may be set meanwhile: look again before long.
        let scheduled = scheduled.map(|at| now.monotonic + now.wall.until(at).min(SCHEDULE_RECHECK));
        let returned = (!self.given_out.is_empty()).then_some(now.monotonic);
        let chores = [scheduled, self.memory.leases.first_end(), returned].into_iter().flatten().min();
        let chores = match (chores, self.pace.hold_until) {
            (Some(chores), Some(hold)) => Some(chores.max(hold)),
            (chores, _) => chores,
        };
        [chores, self.parked.first_deadline(), self.pace.checkpoint_at].into_iter().flatten().min()
    }

    fn turn(&mut self, mut commands: Vec<Command>) {
        let now = self.clock.now();
        self.given_out.append(&mut self.returns.take());
        if self.pace.hold_until.is_some_and(|hold| hold <= now.monotonic) {
            self.pace.hold_until = None;
        }
        if !self.reopen_if_needed(now) {
            let down = QueueError::new(ErrorCode::StorageError, "the store failed and could not be opened again yet");
            commands.into_iter().for_each(|command| answer(command, Err(down.clone())));
            self.parked.end_waits(now.monotonic);
            return;
        }
        self.refuse_when_full(&mut commands, now);
        let chores = self.pace.hold_until.is_none();
        match self.attempt(&commands, chores, now) {
            Ok(done) => self.settle(commands, done, now),
            Err(Trouble::Before(error)) => self.one_by_one(commands, &error, now),
            Err(Trouble::Commit(error)) => self.commit_failed(commands, &error, now),
        }
        self.parked.end_waits(now.monotonic);
        if self.pace.checkpoint_at.is_some_and(|at| at <= now.monotonic) {
            self.checkpoint();
        }
    }

    /// Runs commands, chores and waiting claims in one transaction.
    fn attempt(&mut self, commands: &[Command], chores: bool, now: Now) -> Result<Done, Trouble> {
        let ends_leases = self.memory.leases.first_end().is_some_and(|end| end <= now.monotonic);
        let sync = ends_leases || commands.iter().any(|command| command.work.needs_sync());
        self.set_synchronous(if sync { Synchronous::Full } else { Synchronous::Normal }).map_err(Trouble::Before)?;
        let Some(connection) = &self.connection else { return Err(Trouble::Before(rusqlite::Error::InvalidQuery)) };
        execute(connection, "BEGIN IMMEDIATE").map_err(Trouble::Before)?;
        let mut turn = Turn::new(connection, &mut self.memory, now);
        let given_out: &[_] = if chores { &self.given_out } else { &[] };
        let ran = run(&mut turn, commands, chores.then_some(given_out), &self.parked, &self.returns);
        let effects = turn.effects;
        match ran {
            Ok((answers, served)) => {
                #[cfg(test)]
                self.faults.before_commit(connection).map_err(Trouble::Commit)?;
                execute(connection, "COMMIT").map_err(Trouble::Commit)?;
                if chores {
                    self.given_out.clear();
                }
                Ok(Done { answers, served, effects })
            }
            Err(error) => {
                // What failed may have rolled it back already.
                if !connection.is_autocommit() {
                    execute(connection, "ROLLBACK").map_err(Trouble::Commit)?;
                }
                let known = std::mem::take(&mut self.memory.leases);
                self.memory = Memory::load(connection, self.memory.fence(), &known, now).map_err(Trouble::Commit)?;
                Err(Trouble::Before(error))
            }
        }
    }

    /// What follows a commit: wake, answer, let wait.
    fn settle(&mut self, commands: Vec<Command>, done: Done, now: Now) {
        let Done { answers, served, effects } = done;
        self.memory.tally = effects.tally;
        for (id, lease) in effects.leases {
            match lease {
                Some(lease) => self.memory.leases.set(id, lease),
                None => self.memory.leases.remove(id),
            }
        }
        if effects.wrote {
            self.pace.checkpoint_at = Some(now.monotonic + CHECKPOINT_AFTER);
        }
        self.watches.ended(&effects.ended);
        self.parked.answer(served);
        for (command, result) in commands.into_iter().zip(answers) {
            match result {
                Ok(Answer::Claimed(None)) => self.parked.park(command, now.monotonic),
                result => answer(command, result),
            }
        }
    }

    /// One of the commands or chores cannot be done: find out which, so that it does not fail the others.
    fn one_by_one(&mut self, commands: Vec<Command>, first_error: &rusqlite::Error, now: Now) {
        tracing::warn!(error = %first_error, "a transaction of the store failed; trying its parts one by one");
        self.note_full(first_error, now);
        if let Err(Trouble::Before(error) | Trouble::Commit(error)) = self.attempt(&[], true, now).map(|done| {
            self.settle(Vec::new(), done, now);
        }) {
            tracing::error!(%error, "leases, delays and retention of the store are held up");
            self.pace.hold_until = Some(now.monotonic + HOLD);
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
    fn commit_failed(&mut self, commands: Vec<Command>, error: &rusqlite::Error, now: Now) {
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
            self.pace.full_until = Some(now.monotonic + FULL_RECHECK);
        }
    }

    /// While the disk is full, what adds is refused; from time to time the reserve shows whether there is room again.
    fn refuse_when_full(&mut self, commands: &mut Vec<Command>, now: Now) {
        let Some(until) = self.pace.full_until else { return };
        if until <= now.monotonic && commands.iter().any(|command| command.work.adds()) {
            self.pace.full_until = self.reserve.fill().is_err().then_some(now.monotonic + FULL_RECHECK);
        }
        if self.pace.full_until.is_some() {
            for command in commands.extract_if(.., |command| command.work.adds()) {
                answer(command, Err(storage_full()));
            }
        }
    }

    fn reopen_if_needed(&mut self, now: Now) -> bool {
        self.connection.is_some() || (self.pace.hold_until.is_none() && self.reopen(now))
    }

    fn reopen(&mut self, now: Now) -> bool {
        let known = std::mem::replace(&mut self.memory.leases, Leases::default());
        let opened = schema::open_writer(&self.path).and_then(|connection| {
            // Copying the log writes what is in it anew, and waits for that: then it is on the disk.
            if !schema::checkpoint(&connection, "TRUNCATE")? {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    None,
                ));
            }
            let memory = Memory::load(&connection, self.memory.fence(), &known, now)?;
            Ok((connection, memory))
        });
        match opened {
            Ok((connection, memory)) => {
                self.memory = memory;
                self.connection = Some(connection);
                self.pace.synchronous = Synchronous::Full;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the store could not be opened again");
                self.memory.leases = known;
                self.pace.hold_until = Some(now.monotonic + HOLD);
                false
            }
        }
    }

    fn set_synchronous(&mut self, to: Synchronous) -> rusqlite::Result<()> {
        if let Some(connection) = &self.connection
            && self.pace.synchronous != to
        {
            let name = match to {
                Synchronous::Full => "FULL",
                Synchronous::Normal => "NORMAL",
            };
            connection.pragma_update(None, "synchronous", name)?;
            self.pace.synchronous = to;
        }
        Ok(())
    }

    fn checkpoint(&mut self) {
        self.pace.checkpoint_at = None;
        if let Some(connection) = &self.connection
            && let Err(error) = schema::checkpoint(connection, "PASSIVE")
        {
            // The log keeps what was committed; the next checkpoint tries again.
            tracing::warn!(%error, "failed to copy the log into the store's file");
        }
    }

    fn shut_down(mut self) {
        let closed = QueueError::new(ErrorCode::ShuttingDown, "the store is closed");
        self.parked.refuse(&closed);
        while let Ok(message) = self.messages.try_recv() {
            if let Message::Do(command) = message {
                answer(command, Err(closed.clone()));
            }
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = schema::checkpoint(&connection, "TRUNCATE")
        {
            tracing::warn!(%error, "failed to copy the log into the store's file at the end");
        }
    }
}

type Ran = (Vec<Result<Answer, QueueError>>, Vec<(usize, Result<Answer, QueueError>)>);

/// The content of one transaction.
fn run(
    turn: &mut Turn<'_>,
    commands: &[Command],
    chores: Option<&[(TaskId, Fence)]>,
    parked: &Parked,
    returns: &Arc<Returns>,
) -> rusqlite::Result<Ran> {
    if let Some(given_out) = chores {
        batch::take_back(turn, given_out)?;
        batch::expire_leases(turn)?;
        unrefused(batch::ready_delayed(turn))?;
    }
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        answers.push(match apply(turn, &command.work, returns) {
            Ok(answer) => Ok(answer),
            Err(Halt::Refused(error)) => Err(error),
            Err(Halt::Failed(error)) => return Err(error),
        });
    }
    let mut served = Vec::new();
    if turn.effects.readied {
        for (place, claim) in parked.open() {
            match batch::claim_one(turn, claim, returns) {
                Ok(None) => {}
                Ok(given_out) => served.push((place, Ok(Answer::Claimed(given_out)))),
                Err(Halt::Refused(error)) => served.push((place, Err(error))),
                Err(Halt::Failed(error)) => return Err(error),
            }
        }
    }
    if chores.is_some() {
        unrefused(batch::sweep(turn))?;
    }
    if turn.effects.wrote {
        turn.effects.tally.batch += 1;
        turn.effects.tally.save(turn.connection)?;
    }
    Ok((answers, served))
}

/// A chore asks nobody's leave; a refusal is only worth a note.
fn unrefused(result: Result<(), Halt>) -> rusqlite::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(Halt::Refused(error)) => {
            tracing::error!(%error, "a chore of the store was refused");
            Ok(())
        }
        Err(Halt::Failed(error)) => Err(error),
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Commands of one transaction: a burst shares one sync, and its first command waits for no more than some milliseconds.
const BATCH_MAX: usize = 512;

/// With schedules on wall time, a clock that was set is noticed after this long.
const SCHEDULE_RECHECK: Duration = Duration::from_secs(30);

/// The log is copied into the file after this long without a command: what is not copied is the part of the file that a
/// damaged log would lose.
const CHECKPOINT_AFTER: Duration = Duration::from_millis(250);

/// After a failure, unasked work and repairs wait this long.
const HOLD: Duration = Duration::from_secs(1);

/// How often a full disk is looked at again.
const FULL_RECHECK: Duration = Duration::from_secs(1);
