//! What the executor thread does: takes calls, polls each once, spawns what is not done then.
//!
//! Most calls across the bridge are a lock and a message: they finish on the first poll. Those never become a
//! task of the runtime, which saves an allocation and a trip through its scheduler.

use std::{
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use crate::{
    intake::{Found, Queued},
    registry::{Core, Kind, Registration},
    runtime::{Job, Runtime},
    work::Ending,
};

/// Calls polled before the runtime's own tasks get their turn: about as many as tokio runs between two looks at
/// its sockets and timers.
const CALLS_PER_TURN: usize = 64;

pub(crate) struct Driver {
    core: Arc<Core>,
    runtime: Arc<dyn Runtime>,
    batch: VecDeque<Queued>,
    /// The other buffer of the swap with the intake.
    spare: Vec<Queued>,
    /// Places in the register of calls that have ended, given back when the intake is next looked at.
    ended: Vec<usize>,
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            core,
            runtime,
            batch: VecDeque::new(),
            spare: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Serves calls until the thread is asked to end; the instant by which it must have.
    pub(crate) async fn serve(&mut self) -> Instant {
        poll_fn(|cx| self.poll_serve(cx)).await
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let mut budget = CALLS_PER_TURN;
        loop {
            let mut finished = 0;
            while let Some(call) = self.batch.pop_front() {
                finished += usize::from(self.step(cx, call));
                budget -= 1;
                if budget == 0 || !tokio::task::coop::has_budget_remaining() {
                    self.core.admission.add_permits(finished);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            self.core.admission.add_permits(finished);
            let mut gone = Vec::new();
            let found = self
                .core
                .intake
                .poll_take(cx, &mut self.spare, &mut gone, &mut self.ended);
            drop(gone);
            match ready!(found) {
                Found::Calls => self.batch.extend(self.spare.drain(..)),
                Found::StopRequest(deadline) => return Poll::Ready(deadline),
            }
        }
    }

    /// Polls a call for the first time. True when that was all it needed.
    fn step(&mut self, cx: &mut Context<'_>, mut call: Queued) -> bool {
        // The call's own code is guarded inside; this is for its caller's waker, foreign code as well.
        let polled = catch_unwind(AssertUnwindSafe(|| call.work.as_mut().poll(cx)));
        let ending = match polled {
            Ok(Poll::Ready(ending)) => ending,
            Ok(Poll::Pending) => {
                let registration = Registration::new(Arc::clone(&self.core), call.key, Kind::Call);
                self.runtime.spawn_job(Job {
                    work: call.work,
                    stop: None,
                    registration: Some(registration),
                });
                return false;
            }
            Err(_payload) => Ending::Panicked,
        };
        self.core.tally.ended(Kind::Call, ending);
        self.ended.push(call.key);
        true
    }

    /// Drops the calls that were taken but never begun, and gives back what has ended.
    pub(crate) fn clear(&mut self) {
        let keys: Vec<_> = self
            .batch
            .drain(..)
            .map(|call| call.key)
            .chain(self.ended.drain(..))
            .collect();
        self.core.intake.unregister(keys);
    }
}
