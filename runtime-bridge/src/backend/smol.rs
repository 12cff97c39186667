//! smol: an `async_executor` on a thread that drives a current-thread tokio runtime too.
//!
//! One thread drives both, so tokio's sockets are as fast as under tokio itself: readiness comes from the
//! executor's own thread, not from a helper's.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use async_executor::Executor;
use tokio::runtime::{Builder, Handle};

use crate::{
    context::in_tokio_context,
    error::StartError,
    lifecycle::Main,
    runtime::{Runtime, Sleep, SpawnedFuture},
};

/// The executor of a smol-backed thread.
#[derive(Debug)]
pub(crate) struct SmolRuntime {
    /// The thread owns it: an executor that nobody drives any more must not be kept alive by a handle. What is
    /// spawned then is dropped, and its handle hears of that.
    executor: Weak<Executor<'static>>,
    handle: Handle,
}

impl Runtime for SmolRuntime {
    fn spawn_future(&self, future: SpawnedFuture) {
        if let Some(executor) = self.executor.upgrade() {
            // Polls have the context from the thread; the wrapper is there for the drop, which a race with the
            // thread's end can bring to this one.
            executor.spawn(in_tokio_context(&self.handle, future)).detach();
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        super::tokio::sleep_on(&self.handle, deadline)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Drives an executor and a current-thread tokio runtime on this thread until the main future ends.
pub(crate) fn run(main: Main) -> Result<(), StartError> {
    let tokio = super::tokio::build(Builder::new_current_thread().enable_all())?;
    let executor = Arc::new(Executor::new());
    let handle = tokio.handle().clone();
    let main = main.on(Arc::new(SmolRuntime { executor: Arc::downgrade(&executor), handle }));
    // Unconstrained: the root poll runs all that is spawned, which would share one cooperative budget.
    tokio.block_on(tokio::task::unconstrained(executor.run(main)));
    // What is left on the executor is dropped inside the context, and before the reactor that it may use.
    let entered = tokio.enter();
    drop(executor);
    drop(entered);
    super::tokio::end(tokio);
    Ok(())
}
