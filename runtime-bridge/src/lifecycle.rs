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
        let Self { core, ready, start_hooks, shutdown_hooks } = self;
        core.adopt_current_thread(Arc::clone(&backend), helper);
        let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new(Arc::clone(&core), Arc::clone(&backend)));

        // A start that took too long is given up: the hooks are dropped then.
        let start = Box::pin(run_start_hooks(&runtime, start_hooks));
        let started = match select(start, poll_fn(|cx| core.intake.poll_end(cx))).await {
            Either::Left((started, _)) => started,
            Either::Right(_) => Err(StartError::TimedOut { waited: Duration::ZERO }),
        };
        if let Err(error) = started {
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
        // What still waits in the queue does not begin; what has begun may finish while the hooks run.
        let dropped = core.drop_queued();
        let hooks_failed = run_shutdown_hooks(&runtime, shutdown_hooks, deadline).await;
        let cut_off = dropped + tear_down(&core, &Failure::ShutDown, deadline).await;
        Ok(ShutdownReport { cut_off, hooks_failed, took: asked.elapsed() })
    }
}

async fn run_start_hooks(runtime: &Arc<dyn Runtime>, hooks: Vec<StartHook>) -> Result<(), StartError> {
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
async fn run_shutdown_hooks(runtime: &Arc<dyn Runtime>, hooks: Vec<ShutdownHook>, deadline: Instant) -> usize {
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
    core.drop_queued();
    if let Some(runtime) = core.runtime() {
        let latest = deadline.max(Instant::now() + DROP_TIME);
        let empty = poll_fn(|cx| core.intake.poll_empty(cx));
        select(empty, runtime.sleep_until(latest)).await;
    }
    cut_off
}

/// Runs `future`; a panic becomes its message.
async fn guard<F: Future>(future: F) -> Result<F::Output, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| panic_message(payload.as_ref()))
}

#[cfg(all(test, not(bridge_loom)))]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    };

    use super::*;
    use crate::{
        backend::TokioRuntime,
        bridge::Bridge,
        error::CallError,
        runtime::{Job, Sleep},
    };

    /// A backend with a defect: starting the second job panics.
    #[derive(Debug)]
    struct Defective {
        good: TokioRuntime,
        spawned: AtomicUsize,
    }

    impl Runtime for Defective {
        fn spawn_job(&self, job: Job) {
            assert_eq!(self.spawned.fetch_add(1, Ordering::Relaxed), 0, "out of order");
            self.good.spawn_job(job);
        }

        fn sleep_until(&self, deadline: Instant) -> Sleep {
            self.good.sleep_until(deadline)
        }

        fn now(&self) -> Instant {
            self.good.now()
        }
    }

    #[test]
    fn a_panic_of_the_driver_itself_is_reported_to_everybody() -> Result<(), Box<dyn std::error::Error>> {
        let core = Arc::new(Core::new(8));
        let bridge = Bridge::new(Arc::clone(&core));
        let (ready, is_ready) = sync_channel(1);
        let main = Main { core, ready, start_hooks: Vec::new(), shutdown_hooks: Vec::new() };
        let caller = std::thread::spawn(move || {
            let _runtime = is_ready.recv();
            // The driver is the first job, this call the second, because it does not end on its first poll.
            let first = bridge.run_in_p2p_blocking(tokio::task::yield_now());
            (first, bridge.run_in_p2p_blocking(async {}))
        });
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let good = TokioRuntime::new(tokio.handle().clone());
        let backend = Arc::new(Defective { good, spawned: AtomicUsize::new(0) });
        let end = tokio.block_on(main.run(backend, None));
        let (first, second) = caller.join().expect("the caller does not panic");
        assert!(matches!(&end, Err(ShutdownError::Crashed { message }) if message.contains("out of order")), "{end:?}");
        assert!(first.is_err());
        assert!(
            matches!(&second, Err(CallError::Crashed { message }) if message.contains("out of order")),
            "{second:?}"
        );
        Ok(())
    }
}
