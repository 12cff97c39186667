//! An executor thread on a runtime that this crate does not know: smol's executor, brought by the program.
//!
//! `Backend::Smol` is much the same, ready made. This is what it takes for a runtime of another crate.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use runtime_bridge::{
    ExecutorThread, Main, Runtime, RuntimeExt, RuntimeFactory, Sleep, SpawnedFuture, StartError, ThreadConfig,
    TokioRuntime, in_tokio_context,
};
use smol::Executor;
use tokio::runtime::{Builder, Handle};

/// What is spawned runs on the executor, inside the context of a tokio runtime that the same thread drives (R7).
#[derive(Debug)]
struct OwnRuntime {
    /// The factory owns it: when the thread ends, the executor goes, whoever still holds this (R6).
    executor: Weak<Executor<'static>>,
    tokio: Handle,
}

impl Runtime for OwnRuntime {
    fn spawn_future(&self, future: SpawnedFuture) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(in_tokio_context(&self.tokio, future)).detach();
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        TokioRuntime::new(self.tokio.clone()).sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

struct OwnFactory;

impl RuntimeFactory for OwnFactory {
    fn run(self, main: Main) -> Result<(), StartError> {
        let tokio = Builder::new_current_thread().enable_all().build();
        let tokio = tokio.map_err(|error| StartError::Runtime(error.into()))?;
        let executor = Arc::new(Executor::new());
        let runtime = OwnRuntime { executor: Arc::downgrade(&executor), tokio: tokio.handle().clone() };
        let main = main.on(Arc::new(runtime));
        // Drives the executor and tokio on this thread, until the thread has to end (F2, F3).
        tokio.block_on(tokio::task::unconstrained(executor.run(main)));
        // What is left is dropped here, inside the context, and nothing is waited for (F4).
        let entered = tokio.enter();
        drop(executor);
        drop(entered);
        tokio.shutdown_background();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let thread = ExecutorThread::start(OwnFactory, ThreadConfig::default().with_name("own"))?;
    let name = thread.bridge().run_blocking(async { std::thread::current().name().map(str::to_owned) })?;
    assert_eq!(name.as_deref(), Some("own"));

    let runtime = thread.runtime();
    let timer = Arc::clone(&runtime);
    let spawned = runtime.spawn(async move {
        timer.sleep_until(timer.now() + Duration::from_millis(5)).await;
        42
    });
    assert_eq!(futures::executor::block_on(spawned)?, 42);
    thread.shutdown_blocking(Duration::from_secs(2))?;
    Ok(())
}
