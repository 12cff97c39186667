//! The way into an executor thread: a bounded queue, a register of what is alive, and who sleeps.
//!
//! Callers push under a mutex that is held for a few moves. While the driver is awake that is all: it looks again
//! before it sleeps. A caller that finds it asleep takes the driver's buffers and starts a driver with them and its
//! call, so a burst of calls costs one wake-up. The register holds the other end of everything that somebody may be
//! waiting for, so that the end of the thread can end every wait, even of those whose work is stuck.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use slab::Slab;

use crate::{
    answer::{Answer, Delivery, Failure, Stop},
    sync::Mutex,
    work::BoxWork,
};

/// One call in this many is timed: two clock readings cost as much as the rest of the bookkeeping.
pub(crate) const SAMPLE_EVERY: u64 = 16;

/// A call as its caller hands it in.
pub(crate) struct Submission {
    pub(crate) work: BoxWork,
    pub(crate) stop: Arc<dyn Stop>,
}

/// A call on its way to the driver.
pub(crate) struct Queued {
    pub(crate) work: BoxWork,
    /// Its place in the register.
    pub(crate) key: usize,
    /// When it was pushed, if it is one of those that are timed.
    pub(crate) pushed: Option<Instant>,
}

/// What the driver works with, kept here while it sleeps.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Calls taken from the queue, the next one last.
    pub(crate) batch: Vec<Queued>,
    /// Places in the register of calls that ended, given back when the driver next looks here.
    pub(crate) ended: Vec<usize>,
}

/// What became of a call that was pushed.
pub(crate) enum Pushed {
    /// The driver is awake and will find it.
    Queued,
    /// The driver sleeps: it has to be started with these.
    Wake(Box<Buffers>),
    /// As many calls as may be are in flight.
    Full(Submission),
    Refused(Failure),
}

/// Why the thread has to end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// It was asked to, by this instant.
    Asked(Instant),
    /// It panicked, with this message.
    Crashed(String),
}

pub(crate) struct Intake {
    state: Mutex<State>,
    in_flight_max: usize,
}

struct State {
    queue: Vec<Queued>,
    /// The other end of every call and every spawned future that has not ended.
    live: Slab<Arc<dyn Stop>>,
    /// Calls admitted that have not ended.
    in_flight: usize,
    /// Callers waiting for one of them to end, by ticket, the first come first. A slot that comes free is handed
    /// to the first directly, so nobody who comes later can take it.
    waiters: BTreeMap<u64, Arc<Answer<()>>>,
    next_ticket: u64,
    /// The driver's while it is awake.
    buffers: Option<Box<Buffers>>,
    /// The thread's main future, waiting for its end or for the register to empty.
    main: Option<Waker>,
    stage: Stage,
    stop: Option<Instant>,
    pushed_total: u64,
}

enum Stage {
    Open,
    /// Calls are refused, spawning is not: what lives on the thread may need it to say goodbye.
    Closing,
    Ended(Failure),
}

impl Intake {
    pub(crate) fn new(in_flight_max: usize) -> Self {
        let state = State {
            queue: Vec::new(),
            live: Slab::new(),
            in_flight: 0,
            waiters: BTreeMap::new(),
            next_ticket: 0,
            buffers: Some(Box::default()),
            main: None,
            stage: Stage::Open,
            stop: None,
            pushed_total: 0,
        };
        Self { state: Mutex::new(state), in_flight_max }
    }

    pub(crate) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// Hands a call to the driver. `admitted` says that the caller waited for a slot and has one.
    pub(crate) fn push(&self, call: Submission, admitted: bool) -> Pushed {
        let mut state = self.state.lock();
        if let Some(failure) = state.refusal() {
            if admitted {
                state.in_flight -= 1;
            }
            return Pushed::Refused(failure);
        }
        if !admitted {
            if state.in_flight >= self.in_flight_max {
                return Pushed::Full(call);
            }
            state.in_flight += 1;
        }
        let timed = state.pushed_total.is_multiple_of(SAMPLE_EVERY);
        state.pushed_total += 1;
        let key = state.live.insert(call.stop);
        let queued = Queued { work: call.work, key, pushed: timed.then(Instant::now) };
        match state.buffers.take() {
            None => {
                state.queue.push(queued);
                Pushed::Queued
            }
            Some(mut buffers) => {
                buffers.batch.push(queued);
                Pushed::Wake(buffers)
            }
        }
    }

    /// Takes a ticket for the next slot. Once the answer is settled with success, the caller owns a slot.
    pub(crate) fn wait_for_slot(&self) -> (u64, Arc<Answer<()>>) {
        let answer = Arc::new(Answer::new());
        let mut state = self.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let outcome = match state.refusal() {
            Some(failure) => Some(Err(failure)),
            None if state.in_flight < self.in_flight_max => {
                state.in_flight += 1;
                Some(Ok(()))
            }
            None => {
                state.waiters.insert(ticket, Arc::clone(&answer));
                None
            }
        };
        drop(state);
        if let Some(outcome) = outcome {
            // Nobody else has seen it yet.
            let _delivered = answer.settle(outcome);
        }
        (ticket, answer)
    }

    /// The caller with this ticket no longer waits.
    pub(crate) fn leave(&self, ticket: u64, answer: &Answer<()>) {
        self.state.lock().waiters.remove(&ticket);
        if let Some(Ok(())) = answer.abandon() {
            // It was given a slot just before.
            self.release(1);
        }
    }

    /// Frees slots, and hands them to those who wait.
    fn release(&self, mut slots: usize) {
        while slots > 0 {
            let granted = self.state.lock().free(slots);
            slots = grant(&granted);
        }
    }

    /// Enters a spawned future, or an inline call, in the register.
    pub(crate) fn register(&self, stop: Arc<dyn Stop>) -> Result<usize, Failure> {
        let mut state = self.state.lock();
        match &state.stage {
            Stage::Ended(failure) => Err(failure.clone()),
            Stage::Open | Stage::Closing => Ok(state.live.insert(stop)),
        }
    }

    /// Takes out of the register what has ended, `calls` of which held a slot.
    pub(crate) fn unregister(&self, keys: impl IntoIterator<Item = usize>, calls: usize) {
        let mut state = self.state.lock();
        let gone: Vec<_> = keys.into_iter().filter_map(|key| state.live.try_remove(key)).collect();
        let granted = state.free(calls);
        let main = state.main_if_empty();
        drop(state);
        drop(gone);
        if let Some(main) = main {
            main.wake();
        }
        let unused = grant(&granted);
        self.release(unused);
    }

    /// Gives the driver what has been queued. None when there is nothing: then its buffers are back here and it
    /// sleeps.
    pub(crate) fn take(&self, mut buffers: Box<Buffers>) -> Option<Box<Buffers>> {
        let mut state = self.state.lock();
        let calls = buffers.ended.len();
        for key in buffers.ended.drain(..) {
            // Dropped under the lock, which is safe: the outcome of a call that ended on its first poll is its
            // caller's, who has taken it or holds the answer still. So no foreign destructor can run here.
            drop(state.live.try_remove(key));
        }
        let granted = state.free(calls);
        let main = state.main_if_empty();
        let more = if state.queue.is_empty() {
            state.buffers = Some(buffers);
            None
        } else {
            std::mem::swap(&mut state.queue, &mut buffers.batch);
            Some(buffers)
        };
        drop(state);
        if let Some(main) = main {
            main.wake();
        }
        let unused = grant(&granted);
        self.release(unused);
        if let Some(mut buffers) = more {
            // Taken from the end, in the order in which they came.
            buffers.batch.reverse();
            return Some(buffers);
        }
        None
    }

    /// The driver was dropped before it went to sleep: the next call starts another.
    pub(crate) fn driver_gone(&self) {
        self.state.lock().buffers = Some(Box::default());
    }

    /// Asks the thread to end by `deadline`, and refuses calls from now on.
    pub(crate) fn request_stop(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Open) {
            state.stage = Stage::Closing;
        }
        // The first request counts.
        state.stop.get_or_insert(deadline);
        let waiters = std::mem::take(&mut state.waiters);
        let main = state.main.take();
        drop(state);
        refuse(&waiters, &Failure::ShutDown);
        if let Some(main) = main {
            main.wake();
        }
    }

    /// Drops the calls that have not been taken up, which tells their callers, and gives their number. On the
    /// executor thread only: what they hold may need its surroundings.
    pub(crate) fn drop_queued(&self) -> usize {
        let queue = std::mem::take(&mut self.state.lock().queue);
        let keys: Vec<_> = queue.iter().map(|call| call.key).collect();
        drop(queue);
        let calls = keys.len();
        self.unregister(keys, calls);
        calls
    }

    /// Ends every wait with `failure`, refuses everything from now on, and gives the number of waits that it ended.
    pub(crate) fn end(&self, failure: &Failure) -> usize {
        let mut state = self.state.lock();
        if !matches!(state.stage, Stage::Ended(_)) {
            state.stage = Stage::Ended(failure.clone());
        }
        let waiters = std::mem::take(&mut state.waiters);
        let live: Vec<_> = state.live.iter().map(|(_, stop)| Arc::clone(stop)).collect();
        let main = state.main.take();
        drop(state);
        for stop in &live {
            stop.stop(failure.clone());
        }
        refuse(&waiters, failure);
        if let Some(main) = main {
            main.wake();
        }
        live.len()
    }

    /// Completes when the thread has to end.
    pub(crate) fn poll_stop(&self, cx: &Context<'_>) -> Poll<StopReason> {
        let mut state = self.state.lock();
        if let Stage::Ended(Failure::Crashed(message)) = &state.stage {
            return Poll::Ready(StopReason::Crashed(message.clone()));
        }
        if let Some(deadline) = state.stop {
            return Poll::Ready(StopReason::Asked(deadline));
        }
        let replaced = state.main.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Completes when the register is empty.
    pub(crate) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.live.is_empty() {
            return Poll::Ready(());
        }
        let replaced = state.main.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Calls pushed so far, calls in flight, calls in the queue.
    pub(crate) fn gauges(&self) -> (u64, usize, usize) {
        let state = self.state.lock();
        (state.pushed_total, state.in_flight, state.queue.len())
    }

    /// Why calls are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.state.lock().refusal()
    }
}

impl State {
    fn refusal(&self) -> Option<Failure> {
        match &self.stage {
            Stage::Open => None,
            Stage::Closing => Some(Failure::ShutDown),
            Stage::Ended(failure) => Some(failure.clone()),
        }
    }

    /// Frees slots; those that are passed on at once stay in use.
    fn free(&mut self, slots: usize) -> Vec<Arc<Answer<()>>> {
        let mut granted = Vec::new();
        while granted.len() < slots
            && let Some((_, waiter)) = self.waiters.pop_first()
        {
            granted.push(waiter);
        }
        self.in_flight -= slots - granted.len();
        granted
    }

    fn main_if_empty(&mut self) -> Option<Waker> {
        let waiting = self.live.is_empty() && matches!(self.stage, Stage::Ended(_));
        if waiting { self.main.take() } else { None }
    }
}

fn refuse(waiters: &BTreeMap<u64, Arc<Answer<()>>>, failure: &Failure) {
    for waiter in waiters.values() {
        // One that has left in the meantime needs no answer.
        let _delivery = waiter.settle(Err(failure.clone()));
    }
}

/// Hands out slots. Gives the number of those that nobody wanted any more.
fn grant(waiters: &[Arc<Answer<()>>]) -> usize {
    let unwanted = |waiter: &Arc<Answer<()>>| matches!(waiter.settle(Ok(())), Delivery::Late(_));
    waiters.iter().filter(|waiter| unwanted(waiter)).count()
}
