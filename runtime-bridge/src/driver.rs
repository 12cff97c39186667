//! The driver: takes calls, polls each once on the executor thread, spawns what is not done then.
//!
//! Most calls across the bridge take a lock and send a message: they finish on the first poll, and are never spawned
//! themselves. The driver is spawned by the caller that finds it asleep, with that caller's call in hand, and ends when
//! it has nothing left to do. A driver that stays and is woken was measured too: the system calls are the same, but a
//! newly spawned future runs before its spawner more often, which is worth 0.5 µs at the median.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    intake::{Buffers, Queued},
    runtime::SpawnedFuture,
    shared::{Kind, Registration, Shared},
    work::{Ending, panic_message},
};

/// Calls polled before the runtime's other tasks get their turn: about as many tasks as tokio runs between two
/// looks at its sockets and timers.
const CALLS_PER_TURN: usize = 64;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// None once it has gone to sleep.
    buffers: Option<Box<Buffers>>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, buffers: Box<Buffers>) -> Self {
        Self { shared, buffers: Some(buffers) }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut left = CALLS_PER_TURN;
        while let Some(buffers) = &mut self.buffers {
            while let Some(call) = buffers.batch.pop() {
                if let Some(ended) = step(&self.shared, cx, call) {
                    buffers.ended.push(ended);
                }
                left -= 1;
                if left == 0 || !tokio::task::coop::has_budget_remaining() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            self.buffers = self.buffers.take().and_then(|buffers| self.shared.intake.take(buffers));
        }
        Poll::Ready(())
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match catch_unwind(AssertUnwindSafe(|| self.turn(cx))) {
            Ok(polled) => polled,
            // A defect in this crate or in a backend: everybody is told, nothing is left waiting.
            Err(payload) => {
                self.shared.crash(panic_message(payload.as_ref()));
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(buffers) = self.buffers.take() else {
            return;
        };
        // The runtime ends, or never began: the calls' callers hear of it when the calls are dropped.
        let Buffers { batch, ended } = *buffers;
        let calls = batch.len() + ended.len();
        let keys: Vec<_> = batch.iter().map(|call| call.key).chain(ended).collect();
        self.shared.tally.cut_off(batch.len());
        drop(batch);
        self.shared.intake.driver_gone();
        self.shared.intake.unregister(keys, calls);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// Polls a call for the first time. Its place in the register when that was all it needed.
fn step(shared: &Arc<Shared>, cx: &mut Context<'_>, mut call: Queued) -> Option<usize> {
    let begun = call.pushed.map(|pushed| shared.tally.begun(pushed));
    // The call's own code is guarded inside; this is for its caller's waker, foreign code as well.
    let polled = catch_unwind(AssertUnwindSafe(|| call.work.as_mut().poll(cx)));
    let ending = match polled {
        Ok(Poll::Ready(ending)) => ending,
        Ok(Poll::Pending) => {
            spawn(shared, call, begun);
            return None;
        }
        Err(_payload) => Ending::Panicked,
    };
    shared.tally.ended(Kind::Call, ending, begun);
    Some(call.key)
}

fn spawn(shared: &Arc<Shared>, call: Queued, begun: Option<Instant>) {
    let registration = Registration::new(Arc::clone(shared), call.key, Kind::Call, begun);
    if let Some(runtime) = shared.runtime() {
        runtime.spawn_future(SpawnedFuture::call(call.work, registration));
    }
}
