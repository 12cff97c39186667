//! The executor thread's life as it sees it: hooks, ready, serving, goodbye.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{Either, select},
};
use tokio::runtime::Handle;

use crate::{
    answer::Failure,
    config::{ShutdownHook, StartHook},
    error::{ShutdownError, StartError},
    intake,
    registry::{Core, ThreadRuntime},
    runtime::Runtime,
    work::panic_message,
};

/// What is left for dropping what was cut off when the hooks have used up the deadline. A drop takes
/// microseconds; this is for a loaded machine, and less than the grace that the waiting side adds.
const DROP_TIME: Duration = Duration::from_millis(100);

/// What a shutdown did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls and jobs that had not ended and were cut off; each of their callers has been told.
    pub cut_off: usize,
    /// Shutdown hooks that panicked, or had not ended by the deadline.
    pub hooks_failed: usize,
    /// From the request to the end.
    pub took: Duration,
}

pub(crate) type Ready = Result<Arc<dyn Runtime>, StartError>;
pub(crate) type End = Result<ShutdownReport, ShutdownError>;

/// What runs on the thread as its main future.
pub(crate) struct Main {
    pub(crate) core: Arc<Core>,
    /// `ExecutorThread::start` waits at the other end.
    pub(crate) ready: SyncSender<Ready>,
    pub(crate) start_hooks: Vec<StartHook>,
    pub(crate) shutdown_hooks: Vec<ShutdownHook>,
}

impl Main {
    /// Lives on the current thread, driven by `backend`. `helper` is the tokio runtime that has to be entered
    /// around what is polled on this thread, if the thread is not inside one by itself.
    pub(crate) async fn run(self, backend: Arc<dyn Runtime>, helper: Option<Handle>) -> End {
        let Self {
            core,
            ready,
            start_hooks,
            shutdown_hooks,
        } = self;
        core.adopt_current_thread(Arc::clone(&backend), helper);
        let runtime: Arc<dyn Runtime> =
            Arc::new(ThreadRuntime::new(Arc::clone(&core), Arc::clone(&backend)));

        if let Err(error) = run_start_hooks(&runtime, start_hooks).await {
            tear_down(&core, &Failure::ShutDown, Instant::now()).await;
            let _nobody_waits = ready.try_send(Err(error));
            return Ok(ShutdownReport::default());
        }
        let _nobody_waits = ready.try_send(Ok(Arc::clone(&runtime)));

        let deadline = match poll_fn(|cx| core.intake.poll_end(cx)).await {
            intake::End::Asked(deadline) => deadline,
            intake::End::Crashed(message) => {
                tear_down(&core, &Failure::Crashed(message.clone()), Instant::now()).await;
                return Err(ShutdownError::Crashed { message });
            }
        };
        let asked = Instant::now();
        let hooks_failed = run_shutdown_hooks(&runtime, shutdown_hooks, deadline).await;
        let cut_off = tear_down(&core, &Failure::ShutDown, deadline).await;
        Ok(ShutdownReport {
            cut_off,
            hooks_failed,
            took: asked.elapsed(),
        })
    }
}

async fn run_start_hooks(
    runtime: &Arc<dyn Runtime>,
    hooks: Vec<StartHook>,
) -> Result<(), StartError> {
    for hook in hooks {
        // Making the future is the hook's code as well as polling it.
        let hook = async { hook(Arc::clone(runtime)).await };
        match guard(hook).await {
            Ok(result) => result.map_err(StartError::Hook)?,
            Err(message) => return Err(StartError::Panicked { message }),
        }
    }
    Ok(())
}

/// The number of hooks that failed.
async fn run_shutdown_hooks(
    runtime: &Arc<dyn Runtime>,
    hooks: Vec<ShutdownHook>,
    deadline: Instant,
) -> usize {
    let mut left = hooks.len();
    let mut failed = 0;
    for hook in hooks.into_iter().rev() {
        let hook = async { hook(Arc::clone(runtime)).await };
        match select(Box::pin(guard(hook)), runtime.sleep_until(deadline)).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(message), _)) => {
                tracing::error!(message, "shutdown hook panicked");
                failed += 1;
            }
            Either::Right(_) => {
                tracing::error!(left, "shutdown hooks cut off by the deadline");
                return failed + left;
            }
        }
        left -= 1;
    }
    failed
}

/// Ends every wait and waits until what was waited for has been dropped. The number of waits that it ended.
async fn tear_down(core: &Core, failure: &Failure, deadline: Instant) -> usize {
    let cut_off = core.end(failure);
    if let Some(runtime) = core.runtime() {
        let latest = deadline.max(Instant::now() + DROP_TIME);
        let empty = poll_fn(|cx| core.intake.poll_empty(cx));
        select(empty, runtime.sleep_until(latest)).await;
    }
    cut_off
}

/// Runs `future`; a panic becomes its message.
async fn guard<F: Future>(future: F) -> Result<F::Output, String> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|payload| panic_message(payload.as_ref()))
}
