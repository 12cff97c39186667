//! The life of an executor thread, from inside: start-up hooks, ready, serving, shutdown hooks, the end.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    sync::{Arc, mpsc::SyncSender},
    thread,
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
    intake::StopReason,
    runtime::{Runtime, RuntimeExt},
    shared::{Shared, ThreadRuntime},
    work::panic_message,
};

/// The time for dropping what was cut off when the hooks have used up the deadline. A drop takes microseconds; this
/// much is for a loaded machine. It is less than the grace that the waiting side adds (`FORCED_GRACE`).
const DROP_TIME: Duration = Duration::from_millis(100);

/// What a shutdown did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls and spawned futures that had not ended and were cut off; whoever waited for one has been told.
    pub cut_off: usize,
    /// Shutdown hooks that panicked, or had not ended by the deadline.
    pub hooks_failed: usize,
    /// From the request to the end.
    pub took: Duration,
}

pub(crate) type Ready = Result<Arc<dyn Runtime>, StartError>;
pub(crate) type ShutdownResult = Result<ShutdownReport, ShutdownError>;

/// The main future of an executor thread, for which a [`RuntimeFactory`](crate::RuntimeFactory) has a runtime.
///
/// It runs the start-up hooks, reports that the thread has started, waits until the thread has to end, runs the
/// shutdown hooks, and cuts off what is left.
#[must_use = "the thread starts when the main future is polled"]
pub struct Main {
    pub(crate) shared: Arc<Shared>,
    /// `ExecutorThread::start` waits at the other end.
    pub(crate) ready: SyncSender<Ready>,
    /// Read when the factory has returned: how the main future ended, if it has.
    pub(crate) end: SyncSender<ShutdownResult>,
    pub(crate) start_hooks: Vec<StartHook>,
    pub(crate) shutdown_hooks: Vec<ShutdownHook>,
}

impl Main {
    /// The main future on `runtime`, on a thread that runs nothing but what is spawned on `runtime`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it before it has ended is a failure of the thread, as a panic is: every wait ends with an error.
    pub fn on(self, runtime: Arc<dyn Runtime>) -> impl Future<Output = ()> + Send + 'static {
        self.live(runtime, None)
    }

    /// The main future on `runtime`, on a thread that runs futures of others as well (the thread of an executor
    /// that the whole process shares). `tokio` is the runtime whose context `runtime` enters: calls that those
    /// futures make in place are polled and dropped inside it, too, and end when the executor thread does.
    ///
    /// # Cancel safety
    ///
    /// As [`on`](Self::on).
    pub fn on_shared_thread(
        self,
        runtime: Arc<dyn Runtime>,
        tokio: Handle,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.live(runtime, Some(tokio))
    }

    async fn live(self, backend: Arc<dyn Runtime>, helper: Option<Handle>) {
        let ended = self.end.clone();
        let end = self.run(backend, helper).await;
        let _read_after_the_end = ended.try_send(end);
    }

    /// Makes the current thread the executor thread, with `backend` as its runtime. `helper` is given when the thread
    /// runs futures of others too; see `on_shared_thread`.
    async fn run(self, backend: Arc<dyn Runtime>, helper: Option<Handle>) -> ShutdownResult {
        let Self { shared, ready, start_hooks, shutdown_hooks, .. } = self;
        shared.adopt_current_thread(Arc::clone(&backend), helper);
        let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new(Arc::clone(&shared), Arc::clone(&backend)));

        // A start that took too long is given up: the hooks are dropped then.
        let start = Box::pin(async {
            check_suitable(&backend).await?;
            run_start_hooks(&runtime, start_hooks).await
        });
        let started = match select(start, poll_fn(|cx| shared.intake.poll_stop(cx))).await {
            Either::Left((started, _)) => started,
            Either::Right(_) => Err(StartError::TimedOut { waited: Duration::ZERO }),
        };
        if let Err(error) = started {
            tear_down(&shared, &Failure::ShutDown, Instant::now()).await;
            let _nobody_waits = ready.try_send(Err(error));
            return Ok(ShutdownReport::default());
        }
        let _nobody_waits = ready.try_send(Ok(Arc::clone(&runtime)));

        let deadline = match poll_fn(|cx| shared.intake.poll_stop(cx)).await {
            StopReason::Asked(deadline) => deadline,
            StopReason::Crashed(message) => {
                tear_down(&shared, &Failure::Crashed(message.clone()), Instant::now()).await;
                return Err(ShutdownError::Crashed { message });
            }
        };
        let asked = Instant::now();
        // What still waits in the queue does not begin; what has begun may finish while the hooks run.
        let dropped = shared.drop_queued();
        let hooks_failed = run_shutdown_hooks(&runtime, shutdown_hooks, deadline).await;
        let cut_off = dropped + tear_down(&shared, &Failure::ShutDown, deadline).await;
        Ok(ShutdownReport { cut_off, hooks_failed, took: asked.elapsed() })
    }
}

impl fmt::Debug for Main {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Main").finish_non_exhaustive()
    }
}

/// Finds out whether a spawned future runs where everything here relies on it to run. A runtime of several
/// threads, for example, would work most of the time and break the contract of `Bridge`.
async fn check_suitable(backend: &Arc<dyn Runtime>) -> Result<(), StartError> {
    let here = thread::current().id();
    let probe = backend.spawn(async move { (thread::current().id() == here, Handle::try_current().is_ok()) });
    let reason = match probe.await {
        Ok((true, true)) => return Ok(()),
        Ok((false, _)) => "what it spawns does not run on the thread of its main future",
        Ok((true, false)) => "what it spawns runs outside a tokio context",
        Err(_) => "what it spawns does not run",
    };
    Err(StartError::Unsuitable { reason })
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

/// Gives the number of hooks that failed.
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

/// Ends every wait, waits until the work behind each has been dropped, and gives their number.
async fn tear_down(shared: &Shared, failure: &Failure, deadline: Instant) -> usize {
    let cut_off = shared.end(failure);
    shared.drop_queued();
    if let Some(runtime) = shared.runtime() {
        let latest = deadline.max(Instant::now() + DROP_TIME);
        let empty = poll_fn(|cx| shared.intake.poll_empty(cx));
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
        runtime::{Sleep, SpawnedFuture},
    };

    /// A runtime with a defect: the third spawn panics.
    #[derive(Debug)]
    struct Defective {
        good: TokioRuntime,
        spawned: AtomicUsize,
    }

    impl Runtime for Defective {
        fn spawn_future(&self, future: SpawnedFuture) {
            assert!(self.spawned.fetch_add(1, Ordering::Relaxed) < 2, "out of order");
            self.good.spawn_future(future);
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
        let shared = Arc::new(Shared::new(8));
        let bridge = Bridge::new(Arc::clone(&shared));
        let ((ready, is_ready), (end, is_end)) = (sync_channel(1), sync_channel(1));
        let main = Main { shared, ready, end, start_hooks: Vec::new(), shutdown_hooks: Vec::new() };
        let caller = thread::spawn(move || {
            let _runtime = is_ready.recv();
            // The first spawn is the check at the start, the second the driver, the third this call, because it does
            // not end on its first poll.
            let first = bridge.run_in_p2p_blocking(tokio::task::yield_now());
            (first, bridge.run_in_p2p_blocking(async {}))
        });
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let good = TokioRuntime::new(tokio.handle().clone());
        let backend = Arc::new(Defective { good, spawned: AtomicUsize::new(0) });
        tokio.block_on(main.on(backend));
        let end = is_end.try_recv()?;
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
