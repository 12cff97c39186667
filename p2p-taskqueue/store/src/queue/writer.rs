use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool, mpsc::Receiver},
    time::{Duration, Instant},
};

use taskqueue_api::{Durability, ErrorCode, Fence, QueueError, TaskId};

use super::{
    batch::Run,
    chores::CHORES_MAX,
    explain::Question,
    parked::{Parked, Unparked, nothing},
    recent::Recent,
    recorder::Written,
    recovery::Again,
    room::Scarcity,
    store::Setup,
    syncer::{Batch, Durable, Syncer, unknown},
    timeline,
    turn::{Memory, Turn},
    work::{ClaimWork, Command, Done, Message, Reply, ReplyTo, Returns, Work},
};
use crate::{
    Watches,
    backend::{Backend, Fault, Meta, Rows, Timer},
    engine::Now,
};

/// The thread that makes every change. It is also the timer of leases, delays, deadlines, waits and retention.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) backend: Box<dyn Backend>,
    pub(super) setup: Setup,
    /// Callers hold the other end. It does not close; `Message::Close` ends the thread.
    pub(super) messages: Receiver<Message>,
    pub(super) returns: Arc<Returns>,
    pub(super) durable: Arc<Durable>,
    pub(super) recent: Arc<Recent>,
    pub(super) watches: Arc<Watches>,
    pub(super) syncer: Syncer,
    /// `None` after a failed commit, until the rows have been opened again.
    pub(super) rows: Option<Box<dyn Rows>>,
    pub(super) memory: Memory,
    pub(super) parked: Parked,
    /// Tasks that were given out to callers that had gone away, and have not been taken back yet.
    pub(super) given_out: Vec<(TaskId, Fence)>,
    /// Messages that were received and are not in a batch yet.
    pub(super) waiting: VecDeque<Message>,
    /// Questions that were received and are not answered yet.
    pub(super) questions: Vec<Question>,
    /// Whether anything was paused or limited at the last commit. Readers look at it.
    pub(super) holds: Arc<AtomicBool>,
    pub(super) pace: Pace,
}

/// The times at which the writer does what nobody asked for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When to tidy up, if no command comes before.
    pub(super) tidy_at: Option<Duration>,
    /// When to sync batches that were committed without a sync.
    pub(super) sync_at: Option<Duration>,
    /// After a failure: chores and repairs wait until then.
    pub(super) hold_until: Option<Duration>,
    /// `Some` while the disk is full: commands that add rows are accepted only as far as there is room.
    pub(super) scarcity: Option<Scarcity>,
    /// The number of commands in each of the last two batches.
    lately: [usize; 2],
    #[cfg(test)]
    pub(super) looks: Vec<super::vitals::Look>,
}

impl Pace {
    pub(super) fn new(scarcity: Option<Scarcity>) -> Self {
        Self { scarcity, ..Self::default() }
    }
}

/// The reason why a transaction failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It failed before its commit, and was rolled back without effect.
    Before(Fault),
    /// It failed at its commit. Whether it took effect is not known.
    Commit(Fault),
}

/// A transaction that was committed.
pub(super) struct Committed {
    /// One answer for each command.
    answers: Vec<Reply>,
    served: Vec<(Unparked, Reply)>,
    ended: Vec<TaskId>,
    /// Whether the transaction has written anything, even if only that the clocks were set.
    wrote: bool,
    needs_sync: bool,
}

impl Writer {
    /// Works until it is told to close.
    pub(super) fn run(mut self) {
        let mut closing = false;
        while !closing {
            let (commands, close) = self.receive();
            closing = close;
            self.turn(commands);
            self.answer_questions();
            #[cfg(test)]
            self.answer_looks();
        }
        self.shut_down();
    }

    /// Waits for something to do, and takes all messages that are there, up to a bound.
    ///
    /// Callers that were just answered tend to come back together, one by one within some microseconds. If the writer
    /// started with the first of them, the others would have to wait for the next sync. So a busy writer waits a moment
    /// until there are as many commands as in the last batches. A single caller never waits.
    fn receive(&mut self) -> (Vec<Command>, bool) {
        let mut commands = Vec::new();
        let mut weight = 0;
        let expected = if self.syncer.is_busy() { 0 } else { self.pace.lately.into_iter().max().unwrap_or(0) };
        let mut gather_until = None;
        let mut next = self.wait();
        while let Some(message) = next {
            match message {
                Message::Do(command) => {
                    weight += command.work.weight();
                    commands.push(*command);
                }
                Message::Explain(question) => self.questions.push(*question),
                Message::Wake => {}
                #[cfg(test)]
                Message::Look(look) => self.pace.looks.push(look),
                Message::Close => return (commands, true),
            }
            next = if weight < BATCH_MAX { self.take_waiting() } else { None };
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

    fn take_waiting(&mut self) -> Option<Message> {
        self.waiting.pop_front().or_else(|| self.messages.try_recv().ok())
    }

    fn wait(&mut self) -> Option<Message> {
        if let Some(message) = self.take_waiting() {
            return Some(message);
        }
        let Some(due) = self.next_due() else { return self.messages.recv().ok() };
        match self.setup.timeline.clock().block_for(due) {
            // The channel cannot close, because `returns` holds a sender of it.
            None if due > self.setup.now().monotonic => self.messages.recv().ok(),
            None => self.messages.try_recv().ok(),
            Some(timeout) => self.messages.recv_timeout(timeout).ok(),
        }
    }

    /// Returns the next time at which the writer has something to do that nobody asked for.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let now = self.setup.now();
        let timers = Timer::ALL.into_iter().filter_map(|timer| self.memory.first(timer)).map(|due| due.wait(now));
        let spans = [self.memory.keys_at, self.memory.cache_at].into_iter().flatten().map(|at| now.elapsed.until(at));
        let scheduled = timers.chain(spans).min().map(|wait| now.monotonic + wait.min(CLOCKS_RECHECK));
        let left_over = !self.given_out.is_empty() || !self.memory.unsettled.is_empty() || self.can_serve();
        let left_over = left_over.then_some(now.monotonic);
        let chores = [scheduled, self.memory.running.first_end(), left_over].into_iter().flatten().min();
        let chores = match (chores, self.pace.hold_until) {
            (Some(chores), Some(hold)) => Some(chores.max(hold)),
            (chores, _) => chores,
        };
        let others = [self.parked.first_deadline(), self.pace.tidy_at, self.pace.sync_at];
        others.into_iter().chain([chores]).flatten().min()
    }

    fn turn(&mut self, mut commands: Vec<Command>) {
        let now = self.setup.now();
        if let Some((failed, why)) = self.syncer.take_failed() {
            self.sync_failed(failed, &why, now);
        }
        self.given_out.append(&mut self.returns.take());
        if self.pace.hold_until.is_some_and(|hold| hold <= now.monotonic) {
            self.pace.hold_until = None;
        }
        if !self.reopen_if_needed(now) {
            let down = QueueError::new(ErrorCode::StorageError, "the store failed and could not be opened again yet");
            commands.into_iter().for_each(|command| command.reply_to.answer(Err(down.clone())));
            self.end_waits(now);
            return;
        }
        self.refuse_when_full(&mut commands, now);
        let chores = self.pace.hold_until.is_none();
        match self.attempt(&mut commands, chores, now) {
            Ok(committed) => self.settle(commands, committed, now),
            Err(Trouble::Before(fault)) => self.one_by_one(commands, &fault, now),
            Err(Trouble::Commit(fault)) => self.commit_failed(commands, &fault, Again::Try, now),
        }
        self.end_waits(now);
        if self.pace.sync_at.is_some_and(|at| at <= now.monotonic) {
            self.pace.sync_at = None;
            if let Err(why) = self.syncer.sync(self.memory.meta.batch) {
                self.sync_failed(Vec::new(), &why, now);
            }
        }
        if self.pace.tidy_at.is_some_and(|at| at <= now.monotonic) {
            self.tidy(now);
        }
    }

    /// Runs commands, chores and waiting claims in one transaction.
    pub(super) fn attempt(&mut self, commands: &mut [Command], chores: bool, now: Now) -> Result<Committed, Trouble> {
        let Some(rows) = &mut self.rows else { return Err(Trouble::Before(Fault::Failed("not open".to_owned()))) };
        if let Err(fault) = rows.begin() {
            // Ends the transaction that `begin` may have left open.
            let _ = rows.rollback();
            return Err(Trouble::Before(fault));
        }
        let mut turn = Turn::new(&mut **rows, &mut self.memory, now, &self.watches);
        let taken_back = if chores { self.given_out.len().min(CHORES_MAX) } else { 0 };
        let given_out = self.given_out.get(..taken_back).unwrap_or_default();
        let mut served = Vec::new();
        let mut run = Run { turn: &mut turn, setup: &self.setup, returns: &self.returns, parked: &mut self.parked };
        let answers = run.all(commands, chores.then_some(given_out), &mut served);
        let answers = answers.and_then(|answers| turn.memory.gates.save(&mut turn.rows).map(|()| answers));
        let Written { anything, changed, ended } = turn.rows.into_written();
        let wrote = anything || chores && timeline::was_set(self.memory.meta.clocks, now);
        let committed = answers.and_then(|answers| {
            if wrote {
                self.memory.meta.batch += 1;
                self.memory.meta.clocks = Some(self.setup.timeline.clocks(now));
                rows.save_meta(&self.memory.meta)?;
            }
            Ok(answers)
        });
        match committed {
            Ok(answers) => {
                let asked = commands.iter().any(|command| command.demand.needs_sync);
                let needs_sync = wrote && (asked || !ended.is_empty());
                if needs_sync {
                    self.durable.committing(self.memory.meta.batch);
                }
                if !changed.is_empty() {
                    self.recent.hold(&changed);
                }
                if let Err(fault) = rows.commit() {
                    served.into_iter().for_each(|(unparked, _)| self.parked.put(unparked));
                    return Err(Trouble::Commit(fault));
                }
                self.memory.running.committed();
                self.show_holds();
                self.recent.release();
                self.given_out.drain(..taken_back);
                Ok(Committed { answers, served, ended, wrote, needs_sync })
            }
            Err(fault) => {
                served.into_iter().for_each(|(unparked, _)| self.parked.put(unparked));
                rows.rollback().map_err(Trouble::Commit)?;
                self.memory.reload(&mut **rows, now).map_err(Trouble::Commit)?;
                Err(Trouble::Before(fault))
            }
        }
    }

    /// Does what follows a commit: syncs, wakes the waits, answers, and parks claims that found nothing.
    pub(super) fn settle(&mut self, commands: Vec<Command>, committed: Committed, now: Now) {
        let Committed { answers, served, ended, wrote, needs_sync } = committed;
        self.note_added(&commands);
        let mut batch = Batch { answers: Vec::new(), ended, number: self.memory.meta.batch };
        for (unparked, answer) in served {
            batch.answers.push((unparked.reply_to, answer));
        }
        for (command, answer) in commands.into_iter().zip(answers) {
            batch.answers.extend(self.park_or_answer(command, answer));
        }
        if wrote {
            self.pace.tidy_at = Some(now.monotonic + TIDY_AFTER);
        }
        if !needs_sync || self.setup.durability != Durability::Synced {
            if needs_sync {
                self.pace.sync_at.get_or_insert(now.monotonic + RELAXED_SYNC);
                self.durable.settled();
            }
            return self.syncer.settle_unsynced(batch);
        }
        let busy = self.waiting.front().is_some() || self.receive_one();
        if let Err((batch, why)) = self.syncer.settle_synced(batch, busy) {
            self.sync_failed(vec![batch], &why, now);
        }
    }

    /// Receives one more message, if there is one, and keeps it for the next batch. Returns whether there was one.
    fn receive_one(&mut self) -> bool {
        match self.messages.try_recv() {
            Ok(message) => {
                self.waiting.push_back(message);
                true
            }
            Err(_) => false,
        }
    }

    /// Lets a claim that found nothing wait, if it asked to. Returns the answer of every other command.
    fn park_or_answer(&mut self, command: Command, answer: Reply) -> Option<(ReplyTo, Reply)> {
        let Command { work, reply_to, .. } = command;
        let claim = match work {
            Work::Claim(claim) => Some(*claim),
            Work::Complete(work) => work.claim,
            _ => None,
        };
        match (answer, claim) {
            (Ok(Done::Claimed(given)), Some(claim)) if given.tasks.is_empty() => {
                let claim = ClaimWork { form: given.form.clone(), ..claim };
                self.parked.park(reply_to, claim, &self.returns)
            }
            (answer, _) => Some((reply_to, answer)),
        }
    }

    pub(super) fn end_waits(&mut self, now: Now) {
        let answers = self.parked.end_waits(now.monotonic, &self.returns);
        if !answers.is_empty() {
            self.syncer.settle_unsynced(Batch { answers, ended: Vec::new(), number: self.memory.meta.batch });
        }
    }

    fn tidy(&mut self, now: Now) {
        self.pace.tidy_at = None;
        // Rows that were removed may have made the missing room, so the reserve is set aside again before somebody
        // asks.
        self.refill_reserve(now);
        match self.rows.as_mut().map(|rows| rows.tidy(false)) {
            None | Some(Ok(())) => {}
            // Nothing was synced: the log keeps what was committed, and the next attempt writes all of it.
            Some(Err(fault @ (Fault::Full(_) | Fault::Busy(_)))) => {
                tracing::warn!(%fault, "failed to tidy the store up");
            }
            // The failure may be one of a sync, and a sync is not tried again.
            Some(Err(fault)) => {
                tracing::error!(%fault, "failed to tidy the store up; opening it again");
                self.open_again(now);
            }
        }
    }

    /// Whether there are lines that may hold a task for a waiting claim.
    fn can_serve(&self) -> bool {
        self.memory.lanes.has_readied() && !self.parked.is_empty()
    }

    /// Notes the clocks at the end, so that the next opening goes on from there.
    fn note_clocks(&mut self, now: Now) {
        let Some(rows) = &mut self.rows else { return };
        let batch = self.memory.meta.batch + 1;
        let noted = Meta { batch, clocks: Some(self.setup.timeline.clocks(now)), ..self.memory.meta };
        match rows.begin().and_then(|()| rows.save_meta(&noted)).and_then(|()| rows.commit()) {
            Ok(()) => self.memory.meta = noted,
            Err(fault) => {
                tracing::warn!(%fault, "the store does not know when it was closed");
                // Ends the transaction that may have been left open.
                let _ = rows.rollback();
            }
        }
    }

    fn shut_down(mut self) {
        let closed = || Err(QueueError::new(ErrorCode::ShuttingDown, "the store is closed"));
        let (completions, claims): (Vec<_>, Vec<_>) =
            self.parked.take_all().into_iter().partition(|(_, claim)| claim.form.is_beside_completion());
        claims.into_iter().for_each(|(reply_to, _)| reply_to.answer(closed()));
        while let Some(message) = self.take_waiting() {
            if let Message::Do(command) = message {
                command.reply_to.answer(closed());
            }
        }
        self.syncer.when_idle();
        let failed = self.syncer.take_failed();
        let now = self.setup.now();
        let mut trouble = None;
        if let Some((failed, why)) = failed {
            self.sync_failed(failed, &why, now);
            trouble = Some(why);
        }
        if self.rows.is_none() {
            self.reopen(now);
        } else {
            self.note_clocks(now);
            if let Err(why) = self.syncer.sync(self.memory.meta.batch) {
                self.sync_failed(Vec::new(), &why, now);
                trouble = Some(why);
            }
        }
        // These completions were applied; only their next task does not come any more.
        for (reply_to, claim) in completions {
            let answer = trouble.as_deref().map_or_else(|| nothing(&claim, &self.returns), |why| Err(unknown(why)));
            reply_to.answer(answer);
        }
        if let Some(mut rows) = self.rows.take()
            && let Err(fault) = rows.tidy(true)
        {
            tracing::warn!(%fault, "failed to tidy the store up at the end");
        }
    }
}

/// About how many tasks the commands of one transaction change at most. A burst shares one sync, and its first
/// command waits for some milliseconds at most.
const BATCH_MAX: usize = 512;

/// The longest wait for further commands: a tenth to a third of a sync.
const GATHER_MAX: Duration = Duration::from_micros(60);

/// The longest sleep while schedules or spans are pending. The writer sleeps on the monotonic clock, which is not the
/// clock of schedules and spans. So after this time at the latest it notices that the wall clock was set or that the
/// machine slept.
const CLOCKS_RECHECK: Duration = Duration::from_secs(30);

/// The log is copied into the file after this time without a change. A damaged log would lose what has not been copied.
const TIDY_AFTER: Duration = Duration::from_millis(250);

/// With relaxed durability, a commit is on stable storage after this time.
const RELAXED_SYNC: Duration = Duration::from_millis(50);
