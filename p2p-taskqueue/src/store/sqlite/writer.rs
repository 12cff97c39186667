use std::{
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    batch::{self, apply},
    chores,
    command::{Answer, ClaimWork, Command, Message, Returns, Work},
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
    pub(super) hold_until: Option<Duration>,
    /// The disk is full: refuse what adds, and look again then.
    pub(super) full_until: Option<Duration>,
    pub(super) synchronous: Synchronous,
    /// How many commands the last two batches had.
    lately: [usize; 2],
}

/// What the connection does at a commit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synchronous {
    /// Waits for stable storage.
    #[default]
    Full,
    /// Leaves it to the next commit that waits.
    Normal,
}

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Before or in it: it was rolled back, and nothing of it is there.
    Before(rusqlite::Error),
    /// At its commit: whether it took effect is not known.
    Commit(rusqlite::Error),
}

/// A transaction that was committed.
pub(super) struct Done {
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
    ///
    /// Callers that were just answered tend to come back together, one by one within some microseconds. To start with
    /// the first of them would leave the others to the next sync, so a busy writer waits a moment for as many as came
    /// lately; a single caller never waits.
    fn receive(&mut self) -> (Vec<Command>, bool) {
        let mut commands = Vec::new();
        let expected = self.pace.lately.into_iter().max().unwrap_or(0);
        let mut gather_until = None;
        let mut next = self.wait();
        while let Some(message) = next {
            match message {
                Message::Do(command) => commands.push(command),
                Message::Wake => {}
                Message::Close => return (commands, true),
            }
            next = if commands.len() < BATCH_MAX { self.messages.try_recv().ok() } else { None };
            if next.is_none() && !commands.is_empty() && commands.len() < expected {
                let until = *gather_until.get_or_insert_with(|| Instant::now() + GATHER_MAX);
                next = self.messages.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
            }
        }
        if !commands.is_empty() {
            let [last, _] = self.pace.lately;
            self.pace.lately = [commands.len(), last];
        }
        (commands, false)
    }

    fn wait(&self) -> Option<Message> {
        let Some(due) = self.next_due() else { return self.messages.recv().ok() };
        match self.clock.block_for(due) {
            // The channel does not close while the writer holds a sender of it in `returns`.
            None if due > self.clock.now().monotonic => self.messages.recv().ok(),
            None => self.messages.try_recv().ok(),
            Some(timeout) => self.messages.recv_timeout(timeout).ok(),
        }
    }

    /// The next moment at which something is to be done unasked.
    fn next_due(&self) -> Option<Duration> {
        let now = self.clock.now();
        let delayed = self.memory.delayed_at.map(|at| now.wall.until(at));
        let sweep = self.memory.sweep_at.map(|at| self.memory.retention(now).until(at));
        // The wall clock may be set meanwhile: look again before long.
        let scheduled = [delayed, sweep].into_iter().flatten().min();
        let scheduled = scheduled.map(|wait| now.monotonic + wait.min(SCHEDULE_RECHECK));
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
        self.memory.follow(now);
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
    pub(super) fn attempt(&mut self, commands: &[Command], chores: bool, now: Now) -> Result<Done, Trouble> {
        let ends_leases = self.memory.leases.first_end().is_some_and(|end| end <= now.monotonic);
        let sync = ends_leases || commands.iter().any(|command| command.work.needs_sync());
        self.set_synchronous(if sync { Synchronous::Full } else { Synchronous::Normal }).map_err(Trouble::Before)?;
        let Some(connection) = &self.connection else { return Err(Trouble::Before(rusqlite::Error::InvalidQuery)) };
        #[cfg(test)]
        self.faults.before_begin(connection).map_err(Trouble::Before)?;
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
                self.memory.reload(connection, now).map_err(Trouble::Commit)?;
                Err(Trouble::Before(error))
            }
        }
    }

    /// What follows a commit: wake, answer, let wait.
    pub(super) fn settle(&mut self, commands: Vec<Command>, done: Done, now: Now) {
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
                Ok(Answer::Claimed(None)) => self.parked.park(command),
                result => answer(command, result),
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
        chores::take_back(turn, given_out)?;
        chores::expire_leases(turn)?;
        unrefused(chores::ready_delayed(turn))?;
    }
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        answers.push(answered(apply(turn, &command.work, returns))?);
    }
    let mut served = Vec::new();
    if turn.effects.readied {
        for (place, claim) in parked.open() {
            match claimed(turn, claim, returns)? {
                Ok(Answer::Claimed(None)) => {}
                answer => served.push((place, answer)),
            }
        }
        // A claim of this very transaction may have come before what it is to wait for.
        for (command, result) in commands.iter().zip(&mut answers) {
            if let (Work::Claim(claim), Ok(Answer::Claimed(None))) = (&command.work, &result) {
                *result = claimed(turn, claim, returns)?;
            }
        }
    }
    if chores.is_some() {
        unrefused(chores::sweep(turn))?;
    }
    if turn.effects.wrote {
        turn.effects.tally.batch += 1;
        turn.effects.tally.save(turn.connection)?;
    }
    Ok((answers, served))
}

fn claimed(
    turn: &mut Turn<'_>,
    claim: &ClaimWork,
    returns: &Arc<Returns>,
) -> rusqlite::Result<Result<Answer, QueueError>> {
    answered(batch::claim_one(turn, claim, returns).map(Answer::Claimed))
}

/// A refusal is an answer; only a failed statement ends the transaction.
fn answered(result: Result<Answer, Halt>) -> rusqlite::Result<Result<Answer, QueueError>> {
    match result {
        Ok(answer) => Ok(Ok(answer)),
        Err(Halt::Refused(error)) => Ok(Err(error)),
        Err(Halt::Failed(error)) => Err(error),
    }
}

/// A chore that is refused has met damage: like a failed statement, it is tried again after a while.
fn unrefused(result: Result<(), Halt>) -> rusqlite::Result<()> {
    result.map_err(|halt| match halt {
        Halt::Refused(error) => rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
        Halt::Failed(error) => error,
    })
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Commands of one transaction: a burst shares one sync, and its first command waits for no more than some milliseconds.
const BATCH_MAX: usize = 512;

/// A tenth to a third of a sync: what waiting for company may cost.
const GATHER_MAX: Duration = Duration::from_micros(60);

/// With schedules on wall time, a clock that was set is noticed after this long.
const SCHEDULE_RECHECK: Duration = Duration::from_secs(30);

/// The log is copied into the file after this long without a command: what is not copied is the part of the file that a
/// damaged log would lose.
const CHECKPOINT_AFTER: Duration = Duration::from_millis(250);
