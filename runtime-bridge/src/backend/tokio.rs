//! Tokio: a current-thread runtime on the executor thread, and any tokio runtime behind its handle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle};

use crate::{
    error::StartError,
    factory::RuntimeFactory,
    lifecycle::Main,
    runtime::{Runtime, Sleep, SpawnedFuture},
};

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
    fn spawn_future(&self, future: SpawnedFuture) {
        // Cancellation and panics are the future's own business; tokio's handle is not needed.
        drop(self.handle.spawn(future));
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

/// A current-thread tokio runtime with the builder's settings, which must include `enable_all`.
///
/// # Examples
///
/// ```
/// use runtime_bridge::{ExecutorThread, ThreadConfig};
///
/// let mut tokio = tokio::runtime::Builder::new_current_thread();
/// tokio.enable_all().max_blocking_threads(2);
/// let thread = ExecutorThread::start(tokio, ThreadConfig::default())?;
/// assert_eq!(thread.bridge().run_blocking(async { 40 + 2 })?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl RuntimeFactory for Builder {
    fn run(mut self, main: Main) -> Result<(), StartError> {
        let runtime = build(&mut self)?;
        runtime.block_on(main.on(Arc::new(TokioRuntime::new(runtime.handle().clone()))));
        end(runtime);
        Ok(())
    }
}

/// Builds the runtime that tokio-only code on the thread needs, whatever the backend is.
pub(crate) fn build(builder: &mut Builder) -> Result<tokio::runtime::Runtime, StartError> {
    builder.build().map_err(|error| StartError::Runtime(error.into()))
}
