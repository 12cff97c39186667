//! The way into an executor thread: one short queue, one register of what is alive, one waker.
//!
//! Callers push under a mutex held for a few moves; the driver takes everything at once. Whoever pushes first
//! after the driver went idle finds its waker and wakes it, everybody after that finds none: a burst of calls
//! costs one wake-up. The register holds the other end of everything that somebody may be waiting for, so that
//! the end of the thread can end every wait, also of those whose work is stuck.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use slab::Slab;

use crate::{
    answer::{Failure, Stop},
    sync::Mutex,
    work::BoxWork,
};

/// A call on its way to the driver.
pub(crate) struct Queued {
    pub(crate) work: BoxWork,
    /// Its place in the register.
    pub(crate) key: usize,
}

/// What the driver finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The batch has been filled.
    Calls,
    /// The thread is asked to end; the instant by which it must have.
    StopRequest(Instant),
}

pub(crate) struct Intake {
    state: Mutex<State>,
}

struct State {
    queue: Vec<Queued>,
    /// The other end of every call and job that has not ended.
    live: Slab<Arc<dyn Stop>>,
    /// Left by the driver when it goes idle, taken by whoever has something for it.
    driver: Option<Waker>,
    stage: Stage,
    stop: Option<Instant>,
    pushed_total: u64,
}

enum Stage {
    Open,
    /// Calls are refused, jobs are not: what lives on the thread may still need some to say goodbye.
    Closing,
    Ended(Failure),
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                queue: Vec::new(),
                live: Slab::new(),
                driver: None,
                stage: Stage::Open,
                stop: None,
                pushed_total: 0,
            }),
        }
    }

    /// Hands a call to the driver.
    pub(crate) fn push(&self, work: BoxWork, stop: Arc<dyn Stop>) -> Result<(), Failure> {
        let mut state = self.state.lock();
        match &state.stage {
            Stage::Open => {}
            Stage::Closing => return Err(Failure::ShutDown),
            Stage::Ended(failure) => return Err(failure.clone()),
        }
        let key = state.live.insert(stop);
        state.queue.push(Queued { work, key });
        state.pushed_total += 1;
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(())
    }

    /// Enters a job in the register.
    pub(crate) fn register(&self, stop: Arc<dyn Stop>) -> Result<usize, Failure> {
        let mut state = self.state.lock();
        if let Stage::Ended(failure) = &state.stage {
            return Err(failure.clone());
        }
        Ok(state.live.insert(stop))
    }

    /// Takes what has ended out of the register.
    pub(crate) fn unregister(&self, keys: impl IntoIterator<Item = usize>) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        gone.extend(
            keys.into_iter()
                .filter_map(|key| state.live.try_remove(key)),
        );
        let waiting = state.live.is_empty() && !matches!(state.stage, Stage::Open);
        let driver = if waiting { state.driver.take() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Moves everything queued into `batch`, and what ended since the last time out of the register.
    pub(crate) fn poll_take(
        &self,
        cx: &Context<'_>,
        batch: &mut Vec<Queued>,
        ended: &mut Vec<Arc<dyn Stop>>,
        keys: &mut Vec<usize>,
    ) -> Poll<Found> {
        let mut state = self.state.lock();
        ended.extend(keys.drain(..).filter_map(|key| state.live.try_remove(key)));
        if let Some(deadline) = state.stop {
            return Poll::Ready(Found::StopRequest(deadline));
        }
        if state.queue.is_empty() {
            state.leave_waker(cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut state.queue, batch);
        Poll::Ready(Found::Calls)
    }

    /// Asks the thread to end by `deadline`, and refuses calls from now on.
    pub(crate) fn request_stop(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Open) {
            state.stage = Stage::Closing;
        }
        // The first request counts.
        state.stop.get_or_insert(deadline);
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Ends every wait with `failure` and refuses everything from now on. The number of waits that it ended.
    pub(crate) fn end(&self, failure: &Failure) -> usize {
        let mut state = self.state.lock();
        if !matches!(state.stage, Stage::Ended(_)) {
            state.stage = Stage::Ended(failure.clone());
        }
        let queue = std::mem::take(&mut state.queue);
        let live: Vec<_> = state
            .live
            .iter()
            .map(|(_, stop)| Arc::clone(stop))
            .collect();
        for call in &queue {
            state.live.try_remove(call.key);
        }
        drop(state);
        for stop in &live {
            stop.stop(failure.clone());
        }
        drop(queue);
        live.len()
    }

    /// Drops the calls that have not been taken up; each of their callers is told.
    pub(crate) fn drop_queued(&self) {
        let queue = std::mem::take(&mut self.state.lock().queue);
        let keys: Vec<_> = queue.iter().map(|call| call.key).collect();
        drop(queue);
        self.unregister(keys);
    }

    /// Completes when the register is empty.
    pub(crate) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.live.is_empty() {
            return Poll::Ready(());
        }
        state.leave_waker(cx);
        Poll::Pending
    }

    pub(crate) fn queued(&self) -> usize {
        self.state.lock().queue.len()
    }

    pub(crate) fn pushed_total(&self) -> u64 {
        self.state.lock().pushed_total
    }

    /// Why calls are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        match &self.state.lock().stage {
            Stage::Open => None,
            Stage::Closing => Some(Failure::ShutDown),
            Stage::Ended(failure) => Some(failure.clone()),
        }
    }
}

impl State {
    fn leave_waker(&mut self, cx: &Context<'_>) {
        match &self.driver {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => self.driver = Some(cx.waker().clone()),
        }
    }
}
