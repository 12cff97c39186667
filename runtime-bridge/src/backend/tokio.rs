//! Tokio: a current-thread runtime on the executor thread, and any tokio runtime behind its handle.

use std::time::{Duration, Instant};
#[cfg(feature = "runtime-tokio")]
use std::{future::Future, sync::Arc};

#[cfg(feature = "runtime-tokio")]
use tokio::runtime::Builder;
use tokio::runtime::Handle;

use crate::runtime::{Job, Runtime, Sleep};

/// A tokio runtime, current-thread or multi-thread, behind its handle.
#[derive(Debug, Clone)]
pub struct TokioRuntime {
    handle: Handle,
}

impl TokioRuntime {
    /// Uses the runtime behind `handle`, which must drive timers (`enable_time`) for sleeps to work.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// The handle that it stands on.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Runtime for TokioRuntime {
    fn spawn_job(&self, job: Job) {
        // Cancellation and panics are the job's own business; tokio's handle is not needed.
        drop(self.handle.spawn(job));
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        sleep_on(&self.handle, deadline)
    }

    fn now(&self) -> Instant {
        let _entered = self.handle.enter();
        tokio::time::Instant::now().into_std()
    }
}

/// A timer of the runtime behind `handle`, to be polled anywhere.
pub(crate) fn sleep_on(handle: &Handle, deadline: Instant) -> Sleep {
    let _entered = handle.enter();
    let deadline = deadline.into();
    if deadline <= tokio::time::Instant::now() {
        // Tokio's timer rounds up to its next millisecond.
        return Sleep::new(std::future::ready(()));
    }
    Sleep::new(tokio::time::sleep_until(deadline))
}

/// How long the end waits for tokio's blocking tasks, a name lookup for example, that cannot be stopped. They are
/// left behind then: a lookup that takes seconds must not make the thread look stuck.
const BLOCKING_TASKS_GRACE: Duration = Duration::from_millis(50);

/// Ends a runtime on its own thread: its tasks are dropped here, inside its context.
pub(crate) fn end(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_timeout(BLOCKING_TASKS_GRACE);
}

/// Drives a current-thread runtime on this thread until what `main` makes is done.
#[cfg(feature = "runtime-tokio")]
pub(crate) fn block_on<M, F>(main: M) -> std::io::Result<F::Output>
where
    M: FnOnce(Arc<dyn Runtime>) -> F,
    F: Future,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let main = main(Arc::new(TokioRuntime::new(runtime.handle().clone())));
    let output = runtime.block_on(main);
    end(runtime);
    Ok(output)
}
