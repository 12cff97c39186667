//! The slot between the one that asks and the one that works: the outcome goes one way, cancellation the other.
//!
//! A oneshot channel would carry the outcome, but three parties meet here: the asker, the worker, and the
//! executor thread's owner, who must be able to end the wait of an asker whose worker is stuck. One mutex
//! around one small state says it more simply than three atomics; it is held for a few moves and never while
//! foreign code (a waker, a destructor) runs.

use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// Why a piece of work has no value to give.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// It panicked; the message of the panic.
    Panicked(String),
    /// Its deadline passed first.
    DeadlineExceeded,
    /// The runtime that it was on ended first.
    ShutDown,
    /// It was cancelled through its handle.
    Cancelled,
    /// The executor thread itself panicked; the message of that panic.
    Crashed(String),
}

pub(crate) type Outcome<T> = Result<T, Failure>;

#[derive(Debug)]
pub(crate) struct Answer<T> {
    slot: Mutex<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    state: State<T>,
    /// Woken when the outcome is no longer wanted, so that the worker drops its future.
    worker: Option<Waker>,
}

#[derive(Debug)]
enum State<T> {
    /// No outcome yet; the asker's waker once it has polled.
    Open(Option<Waker>),
    /// The outcome waits to be taken.
    Settled(Outcome<T>),
    /// The outcome was taken, or the asker has gone.
    Over,
}

impl<T> Answer<T> {
    pub(crate) fn new() -> Self {
        Self { slot: Mutex::new(Slot { state: State::Open(None), worker: None }) }
    }

    /// Takes the outcome if it is there, else leaves the asker's waker.
    pub(crate) fn poll_outcome(&self, cx: &Context<'_>) -> Poll<Outcome<T>> {
        let mut slot = self.slot.lock();
        match &mut slot.state {
            State::Open(waker) => {
                match waker {
                    Some(known) if known.will_wake(cx.waker()) => {}
                    _ => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Settled(_) | State::Over => {
                match std::mem::replace(&mut slot.state, State::Over) {
                    State::Settled(outcome) => Poll::Ready(outcome),
                    // Polled after the end: a contract violation of the asker, answered without a panic.
                    State::Open(_) | State::Over => Poll::Ready(Err(Failure::Cancelled)),
                }
            }
        }
    }

    /// Gives the outcome. The first one counts; a later one is handed back, to be dropped by the caller.
    pub(crate) fn settle(&self, outcome: Outcome<T>) -> Result<(), Outcome<T>> {
        let mut slot = self.slot.lock();
        if !matches!(slot.state, State::Open(_)) {
            return Err(outcome);
        }
        let before = std::mem::replace(&mut slot.state, State::Settled(outcome));
        drop(slot);
        if let State::Open(Some(waker)) = before {
            waker.wake();
        }
        Ok(())
    }

    /// The asker goes: whatever the outcome is or will be, nobody wants it.
    pub(crate) fn abandon(&self) {
        let mut slot = self.slot.lock();
        let state = std::mem::replace(&mut slot.state, State::Over);
        let worker = slot.worker.take();
        drop(slot);
        if let (State::Open(_), Some(worker)) = (&state, worker) {
            worker.wake();
        }
    }

    /// Ends both sides: the asker gets `failure`, unless the outcome is there already, and the worker is woken.
    fn end(&self, failure: Failure) {
        if self.settle(Err(failure)).is_ok() {
            let worker = self.slot.lock().worker.take();
            if let Some(worker) = worker {
                worker.wake();
            }
        }
    }

    /// The asker no longer wants the work done, but stays to hear so.
    pub(crate) fn cancel(&self) {
        self.end(Failure::Cancelled);
    }

    /// Whether an outcome is still wanted.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.slot.lock().state, State::Open(_))
    }

    /// Leaves the worker's waker, to be woken when the outcome is no longer wanted. False when that is so already.
    pub(crate) fn watch(&self, waker: &Waker) -> bool {
        let mut slot = self.slot.lock();
        if !matches!(slot.state, State::Open(_)) {
            return false;
        }
        match &slot.worker {
            Some(known) if known.will_wake(waker) => {}
            _ => slot.worker = Some(waker.clone()),
        }
        true
    }
}

/// What the owner of an executor thread may do to a piece of work of any type.
pub(crate) trait Stop: Send + Sync {
    /// Ends the asker's wait with `failure` and wakes the worker, which then drops its future.
    fn stop(&self, failure: Failure);
}

impl<T: Send> Stop for Answer<T> {
    fn stop(&self, failure: Failure) {
        self.end(failure);
    }
}
