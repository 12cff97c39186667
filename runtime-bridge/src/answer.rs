//! The slot between who asks and who works: the outcome goes one way, cancellation the other.
//!
//! The *asker* is a caller or the holder of a handle; the *worker* is the future at work. A oneshot channel would carry
//! the outcome between them, but there is a third party: the owner of the executor thread, who must be able to end the
//! wait of an asker whose worker is stuck. One mutex around one small state is simpler than three atomics. It is held
//! for a few moves and never while a waker is called or something is dropped.

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
    /// The asker has let go, the work goes on.
    Detached,
    /// The outcome waits to be taken.
    Settled(Outcome<T>),
    /// The outcome was taken, or the asker has gone.
    Over,
}

impl<T> State<T> {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Detached)
    }
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
                let replaced = remember(waker, cx.waker());
                drop(slot);
                drop(replaced);
                Poll::Pending
            }
            State::Settled(_) => match std::mem::replace(&mut slot.state, State::Over) {
                State::Settled(outcome) => Poll::Ready(outcome),
                other => {
                    slot.state = other;
                    Poll::Pending
                }
            },
            // Polled after the end, which no future has to answer; an error rather than a panic.
            State::Detached | State::Over => Poll::Ready(Err(Failure::Cancelled)),
        }
    }

    /// Gives the outcome. The first one counts.
    pub(crate) fn settle(&self, outcome: Outcome<T>) -> Delivery<T> {
        let mut slot = self.slot.lock();
        match &mut slot.state {
            State::Open(waker) => {
                let waker = waker.take();
                slot.state = State::Settled(outcome);
                drop(slot);
                if let Some(waker) = waker {
                    waker.wake();
                }
                Delivery::Delivered
            }
            State::Detached => {
                slot.state = State::Over;
                Delivery::Detached(outcome)
            }
            State::Settled(_) | State::Over => Delivery::Late(outcome),
        }
    }

    /// The asker lets go; the work goes on.
    pub(crate) fn detach(&self) {
        let mut slot = self.slot.lock();
        let next = if matches!(slot.state, State::Open(_)) { State::Detached } else { State::Over };
        let before = std::mem::replace(&mut slot.state, next);
        drop(slot);
        // An outcome that was there already may have a destructor.
        drop(before);
    }

    /// The asker goes: nobody wants the outcome. The outcome, if it was there already.
    pub(crate) fn abandon(&self) -> Option<Outcome<T>> {
        let mut slot = self.slot.lock();
        let before = std::mem::replace(&mut slot.state, State::Over);
        let worker = slot.worker.take();
        drop(slot);
        match before {
            State::Open(_) => {
                if let Some(worker) = worker {
                    worker.wake();
                }
                None
            }
            State::Settled(outcome) => Some(outcome),
            State::Detached | State::Over => None,
        }
    }

    /// Ends both sides: the asker gets `failure`, unless the outcome is there already, and the worker is woken.
    fn end(&self, failure: Failure) {
        if matches!(self.settle(Err(failure)), Delivery::Late(_)) {
            return;
        }
        let worker = self.slot.lock().worker.take();
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// The asker no longer wants the work done, but stays to hear so.
    pub(crate) fn cancel(&self) {
        self.end(Failure::Cancelled);
    }

    /// Whether the work should go on.
    pub(crate) fn is_open(&self) -> bool {
        self.slot.lock().state.is_open()
    }

    /// Leaves the worker's waker, to be woken when the outcome is no longer wanted. False when that is so already.
    pub(crate) fn watch(&self, waker: &Waker) -> bool {
        let mut slot = self.slot.lock();
        if !slot.state.is_open() {
            return false;
        }
        let replaced = remember(&mut slot.worker, waker);
        drop(slot);
        drop(replaced);
        true
    }
}

/// Keeps `waker`. The one that it replaces is dropped by the caller, not under the lock.
fn remember(kept: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match kept {
        Some(known) if known.will_wake(waker) => None,
        _ => kept.replace(waker.clone()),
    }
}

/// What became of an outcome. What was not delivered is dropped by the one who brought it, not under a lock.
#[derive(Debug)]
pub(crate) enum Delivery<T> {
    Delivered,
    /// Nobody waits, as agreed.
    Detached(Outcome<T>),
    /// The asker has gone, or was told another end before.
    Late(Outcome<T>),
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
