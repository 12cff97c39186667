use std::{collections::VecDeque, sync::Arc, time::Duration};

use taskqueue_api::{ErrorCode, Fence, Json, QueueError, TaskId};

use super::{
    aside::Aside,
    depend::SETTLED_MAX,
    gates::Gates,
    lanes::Lanes,
    recorder::Recorder,
    running::{Running, RunningTask},
    work::damaged,
};
use crate::{
    Watches,
    backend::{
        Due, EdgeTable as _, Fault, LineTable as _, Meta, Place, Rows, Seq, TaskRow, TaskTable as _, Timer,
        TimerTable as _,
    },
    engine::{Elapsed, Ended, Lane, Live, Now, Phase, Spec, Standing, Step},
};

/// What the writer remembers between transactions. It is read from the rows when a store is opened.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) meta: Meta,
    pub(super) gates: Gates,
    pub(super) lanes: Lanes,
    pub(super) running: Running,
    /// Ended tasks whose children have not all been told.
    pub(super) unsettled: VecDeque<Seq>,
    /// Timers that are due but cannot be cleared yet.
    pub(super) aside: Aside,
    /// The last fence that was issued. It never goes back, even when the transaction fails.
    fence: Fence,
    /// The last place in line that was given to a task that was ready at once.
    last_ready: Elapsed,
    /// The end of the first timer of each kind. It may be too early, never too late.
    timers: [Option<Due>; Timer::ALL.len()],
    /// The expiry of the first idempotency key. It may be too early, never too late.
    pub(super) keys_at: Option<Elapsed>,
    /// The expiry of the first value of the cache. It may be too early, never too late.
    pub(super) cache_at: Option<Elapsed>,
    /// The bytes of all values in the cache.
    pub(super) cache_bytes: u64,
}

impl Memory {
    /// Reads the memory from the rows.
    pub(super) fn load(rows: &mut dyn Rows, now: Now) -> Result<Self, Fault> {
        let meta = rows.meta()?;
        let mut gates = Gates::load(rows)?;
        let mut running = Running::default();
        for (seq, id, live) in rows.running()? {
            let Some(task) = usable(rows.task(seq))?.flatten().filter(|task| task.spec.id == id) else {
                tracing::error!(task = %id, "a running task cannot be read; its lease is forgotten");
                continue;
            };
            let kind = Arc::new(Kind::of(&task.spec));
            if let Some(key) = &kind.key {
                gates.started(key);
            }
            let end = lease_end_of(now, &live);
            running.set(id, RunningTask { seq, kind, live, end });
        }
        let mut timers = [None; Timer::ALL.len()];
        for (timer, first) in Timer::ALL.into_iter().zip(&mut timers) {
            *first = rows.first_due(timer)?;
        }
        Ok(Self {
            lanes: Lanes::load(rows, &gates)?,
            gates,
            running,
            unsettled: rows.unsettled()?.into(),
            aside: Aside::default(),
            fence: Fence { epoch: meta.epoch, counter: 0 },
            last_ready: Elapsed::from_micros(0),
            timers,
            keys_at: rows.first_key_expiry()?,
            cache_at: rows.first_cache_expiry()?,
            cache_bytes: rows.cache_bytes()?,
            meta,
        })
    }

    /// Reads the memory again after a transaction that failed, and keeps what the rows do not hold.
    pub(super) fn reload(&mut self, rows: &mut dyn Rows, now: Now) -> Result<(), Fault> {
        let mut memory = Self::load(rows, now)?;
        memory.fence = self.fence;
        memory.last_ready = self.last_ready;
        memory.aside = std::mem::take(&mut self.aside);
        memory.running.keep_ends(&self.running);
        // The lines that had been marked as readied may still hold tasks.
        memory.lanes.ready_all();
        *self = memory;
        Ok(())
    }

    /// Returns the end of the first timer of this kind. It may be too early, never too late.
    pub(super) fn first(&self, timer: Timer) -> Option<Due> {
        Timer::ALL.into_iter().zip(self.timers).find(|(known, _)| *known == timer).and_then(|(_, due)| due)
    }

    pub(super) fn set_first(&mut self, timer: Timer, due: Option<Due>) {
        for (known, first) in Timer::ALL.into_iter().zip(&mut self.timers) {
            if known == timer {
                *first = due;
            }
        }
    }
}

/// The part of a task's spec that decides where the task is kept and which counts include it.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) task_type: Arc<str>,
    pub(super) lane: Arc<str>,
    pub(super) key: Option<Arc<str>>,
    pub(super) priority: u8,
}

impl Kind {
    pub(super) fn of(spec: &Spec) -> Self {
        Self::in_lane(spec, Lane::of(spec).to_text().into())
    }

    fn in_lane(spec: &Spec, lane: Arc<str>) -> Self {
        Self {
            task_type: spec.task_type.as_str().into(),
            lane,
            key: spec.concurrency_key.as_deref().map(Into::into),
            priority: spec.priority,
        }
    }
}

/// A task that has not ended, as the writer found it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) seq: Seq,
    pub(super) id: TaskId,
    pub(super) kind: Arc<Kind>,
    pub(super) live: Live,
}

impl Item {
    pub(super) fn place(&self, live: &Live) -> Place {
        Place { priority: std::cmp::Reverse(self.kind.priority), ready_at: live.ready_at, id: self.id, seq: self.seq }
    }
}

/// A task as the writer found it.
#[derive(Debug)]
pub(super) enum Found {
    Live(Item),
    Ended(Seq, Ended, Option<Json>),
}

impl Found {
    /// Returns what the engine needs (the task's standing and its stored result), and the task itself if it has not
    /// ended.
    pub(super) fn split(self) -> (Standing, Option<Json>, Option<Item>) {
        match self {
            Self::Live(item) => (Standing::Live(item.live.clone()), None, Some(item)),
            Self::Ended(_, ended, result) => (Standing::Ended(ended), result, None),
        }
    }
}

/// One transaction of the writer.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// The rows, with a record of what the transaction has written.
    pub(super) rows: Recorder<'a>,
    pub(super) memory: &'a mut Memory,
    pub(super) now: Now,
    /// The waits for the ends of tasks.
    pub(super) watches: &'a Watches,
    /// How many more tasks this transaction may tell of the ends of their parents.
    pub(super) settle_left: usize,
}

/// The reason why a command has no answer.
#[derive(Debug)]
pub(super) enum Halt {
    /// The command's own rules refuse it. It has written nothing, and the transaction goes on.
    Refused(QueueError),
    /// The rows failed; the transaction cannot go on.
    Failed(Fault),
}

impl From<QueueError> for Halt {
    fn from(error: QueueError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// Turns the damage of a single row into `None`.
pub(super) fn usable<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Fault::Damaged) => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl<'a> Turn<'a> {
    pub(super) fn new(rows: &'a mut dyn Rows, memory: &'a mut Memory, now: Now, watches: &'a Watches) -> Self {
        Self { rows: Recorder::new(rows), memory, now, watches, settle_left: SETTLED_MAX }
    }

    /// Finds a task.
    pub(super) fn find(&mut self, id: TaskId) -> Result<Found, Halt> {
        self.find_if_any(id)?.ok_or_else(|| not_found(id).into())
    }

    pub(super) fn find_if_any(&mut self, id: TaskId) -> Result<Option<Found>, Halt> {
        if let Some(run) = self.memory.running.get(id) {
            let RunningTask { seq, kind, live, .. } = run.clone();
            return Ok(Some(Found::Live(Item { seq, id, kind, live })));
        }
        let unusable = |fault| unusable(id, fault);
        let Some(seq) = self.rows.seq_of(id).map_err(unusable)? else { return Ok(None) };
        if let Some((_, ended, result)) = self.rows.ended(seq).map_err(unusable)? {
            return Ok(Some(Found::Ended(seq, ended, result)));
        }
        let item = self.item(seq).map_err(unusable)?;
        item.filter(|item| item.id == id).map(|item| Some(Found::Live(item))).ok_or_else(|| damaged(id).into())
    }

    /// Finds a task that has not ended, by its place in the order of acceptance.
    pub(super) fn item(&mut self, seq: Seq) -> Result<Option<Item>, Fault> {
        Ok(self.item_and_task(seq)?.map(|(item, _)| item))
    }

    pub(super) fn item_and_task(&mut self, seq: Seq) -> Result<Option<(Item, TaskRow)>, Fault> {
        let Some(task) = self.rows.task(seq)? else { return Ok(None) };
        let live = self.rows.live(seq)?.unwrap_or_else(|| task.fresh());
        let kind = Arc::new(Kind::of(&task.spec));
        Ok(Some((Item { seq, id: task.spec.id, kind, live }, task)))
    }

    /// Finds the task at a place in a line; `None` if the rows of the task do not match that place.
    pub(super) fn in_line(&mut self, lane: &Arc<str>, place: Place) -> Result<Option<(Item, TaskRow)>, Fault> {
        let seq = place.seq;
        let Some(task) = usable(self.rows.task(seq))?.flatten() else { return Ok(None) };
        let Some(live) = usable(self.rows.live(seq))? else { return Ok(None) };
        let live = live.unwrap_or_else(|| task.fresh());
        if !self.memory.lanes.get(lane).is_some_and(|(_, known)| known.is_of(&task.spec)) {
            return Ok(None);
        }
        let kind = Arc::new(Kind::in_lane(&task.spec, Arc::clone(lane)));
        let item = Item { seq, id: task.spec.id, kind, live };
        let belongs = item.live.phase == Phase::Ready && item.place(&item.live) == place;
        Ok(belongs.then_some((item, task)))
    }

    /// Returns the time at which the lease of a running task ends.
    pub(super) fn lease_end(&self, id: TaskId) -> Option<Duration> {
        self.memory.running.get(id).map(|run| run.end)
    }

    /// Writes the engine's decision about a task that has not ended.
    pub(super) fn take_step(&mut self, item: Item, step: Step) -> Result<(), Fault> {
        match step {
            Step::Stay(live) => self.stay(item, live),
            Step::End(ended) => self.end(&item, &ended, None),
        }
    }

    /// Writes a task's new state.
    pub(super) fn stay(&mut self, item: Item, mut live: Live) -> Result<(), Fault> {
        self.leave(&item)?;
        if live.phase == Phase::Ready && live.ready_at == self.now.elapsed {
            live.ready_at = self.next_place(self.now.elapsed);
        }
        self.put_live(&item, &live)?;
        self.enter(Item { live, ..item })
    }

    /// Writes a change of a running task that leaves its phase as it is. `end` is the new end of the lease, if it
    /// changes.
    pub(super) fn note(&mut self, item: Item, live: Live, end: Option<Duration>) -> Result<(), Fault> {
        self.put_live(&item, &live)?;
        if let Some(run) = self.memory.running.get(item.id) {
            let end = end.unwrap_or(run.end);
            self.memory.running.set(item.id, RunningTask { seq: item.seq, kind: item.kind, live, end });
        }
        Ok(())
    }

    /// Writes the end of a task, and tells its children.
    pub(super) fn end(&mut self, item: &Item, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
        self.end_alone(item, ended, result)?;
        super::depend::settle(self)
    }

    /// Writes the end of a task. [`settle`](super::depend::settle) tells its children later.
    pub(super) fn end_alone(&mut self, item: &Item, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
        self.leave(item)?;
        self.rows.remove_live(item.seq, item.id)?;
        if let Some(deadline) = item.live.deadline {
            self.rows.clear_timer(Due::Deadline(deadline), item.seq)?;
        }
        self.record_end(item.seq, item.id, &item.kind.task_type, ended, result)
    }

    /// Writes the end of a task that is in no line, has no timer of its phase, and does not run.
    pub(super) fn record_end(
        &mut self,
        seq: Seq,
        id: TaskId,
        task_type: &Arc<str>,
        ended: &Ended,
        result: Option<&Json>,
    ) -> Result<(), Fault> {
        self.rows.insert_ended(seq, id, ended, result)?;
        self.set_timer(Due::Removal(ended.expires_at), seq)?;
        self.memory.gates.enter(task_type, ended.status);
        self.memory.unsettled.push_back(seq);
        Ok(())
    }

    /// Writes the state of a task. The caller has to move the task to another line or timer where that is needed.
    pub(super) fn put_live(&mut self, item: &Item, live: &Live) -> Result<(), Fault> {
        self.rows.put_live(item.seq, item.id, live)
    }

    /// Gives a task that is ready at once its place in line, and leaves other tasks as they are.
    pub(super) fn placed(&mut self, live: Live) -> Live {
        let ready_at = if live.phase == Phase::Ready { self.next_place(live.ready_at) } else { live.ready_at };
        Live { ready_at, ..live }
    }

    /// Starts a task, for the first time or after a retry: notes its parents, sets its deadline, and puts it where its
    /// phase belongs.
    pub(super) fn begin(&mut self, item: Item, parents: &[Seq], has_row: bool) -> Result<(), Fault> {
        for parent in parents {
            self.rows.add_edge(*parent, item.seq)?;
        }
        if let Some(deadline) = item.live.deadline {
            self.set_timer(Due::Deadline(deadline), item.seq)?;
        }
        if has_row {
            self.put_live(&item, &item.live)?;
        }
        self.enter(item)
    }

    /// Puts a task into the line, the timeline or the memory where its phase belongs. The task's row has been written
    /// before.
    pub(super) fn enter(&mut self, item: Item) -> Result<(), Fault> {
        self.memory.gates.enter(&item.kind.task_type, item.live.status());
        match item.live.phase {
            Phase::Ready => {
                let place = item.place(&item.live);
                self.rows.join_line(&item.kind.lane, &place)?;
                self.memory.lanes.joined(&item.kind.lane, place, &self.memory.gates);
            }
            Phase::Delayed | Phase::Scheduled => {
                if let Some(due) = Due::claimable(&item.live) {
                    self.set_timer(due, item.seq)?;
                }
            }
            Phase::Blocked => {}
            Phase::Running => {
                let end = lease_end(self.now, item.live.lease_s);
                if let Some(key) = &item.kind.key
                    && self.memory.gates.started(key)
                {
                    self.memory.lanes.key_changed(key, &self.memory.gates);
                }
                self.memory.running.set(item.id, RunningTask { seq: item.seq, kind: item.kind, live: item.live, end });
            }
        }
        Ok(())
    }

    /// Takes a task out of the line, the timeline or the memory where its phase belongs.
    pub(super) fn leave(&mut self, item: &Item) -> Result<(), Fault> {
        self.memory.gates.leave(&item.kind.task_type, item.live.status());
        match item.live.phase {
            Phase::Ready => self.leave_line(&item.kind.lane, item.place(&item.live)),
            Phase::Delayed | Phase::Scheduled => {
                Due::claimable(&item.live).map_or(Ok(()), |due| self.rows.clear_timer(due, item.seq))
            }
            Phase::Blocked => Ok(()),
            Phase::Running => {
                self.memory.running.remove(item.id);
                // This is done at once, because a claim in the same transaction may want the next task of this key.
                if let Some(key) = &item.kind.key
                    && self.memory.gates.stopped(key)
                {
                    self.memory.lanes.key_changed(key, &self.memory.gates);
                }
                Ok(())
            }
        }
    }

    pub(super) fn leave_line(&mut self, lane: &str, place: Place) -> Result<(), Fault> {
        self.rows.leave_line(lane, &place)?;
        self.memory.lanes.left(&mut self.rows, lane, place)
    }

    pub(super) fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        self.rows.set_timer(due, seq)?;
        self.note_first(due);
        Ok(())
    }

    /// Notes that a timer ends at `due`.
    pub(super) fn note_first(&mut self, due: Due) {
        let first = self.memory.first(due.timer()).map_or(due, |first| first.min(due));
        self.memory.set_first(due.timer(), Some(first));
    }

    /// Returns a place in line behind all tasks that were ready at once before. So the order of acceptance also holds
    /// within a batch.
    pub(super) fn next_place(&mut self, at: Elapsed) -> Elapsed {
        let next = Elapsed::from_micros(self.memory.last_ready.as_micros().saturating_add(1)).max(at);
        self.memory.last_ready = next;
        next
    }

    pub(super) const fn next_fence(&mut self) -> Fence {
        self.memory.fence.counter += 1;
        self.memory.fence
    }

    pub(super) const fn next_seq(&mut self) -> Seq {
        let seq = self.memory.meta.next_seq;
        self.memory.meta.next_seq += 1;
        seq
    }
}

/// Returns the end of a lease that starts now.
pub(super) fn lease_end(now: Now, lease_s: f64) -> Duration {
    now.monotonic + Duration::try_from_secs_f64(lease_s).unwrap_or(Duration::ZERO)
}

/// Returns the end of the lease of a task that was running when the store was opened. The lease is kept for at most its
/// own length, even if a clock has jumped.
fn lease_end_of(now: Now, live: &Live) -> Duration {
    let end = lease_end(now, live.lease_s);
    live.kept_until.map_or(end, |until| end.min(now.monotonic + now.elapsed.until(until)))
}

/// Returns the error for a task that does not exist.
pub(crate) fn not_found(id: TaskId) -> QueueError {
    QueueError::new(ErrorCode::NotFound, format!("no task {id}"))
}

/// Turns a fault into a halt. A damaged row concerns only the command that asks for it, so it becomes that command's
/// answer.
pub(super) fn unusable(id: TaskId, fault: Fault) -> Halt {
    match fault {
        Fault::Damaged => Halt::Refused(damaged(id)),
        fault => Halt::Failed(fault),
    }
}
