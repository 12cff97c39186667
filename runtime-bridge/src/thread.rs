//! The dedicated executor thread as its owner sees it: start, runtime, bridge, shutdown, join.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::channel::oneshot;

use crate::{
    answer::Failure,
    bridge::Bridge,
    config::ThreadConfig,
    error::{ShutdownError, StartError},
    factory::RuntimeFactory,
    lifecycle::{Main, ShutdownReport, ShutdownResult},
    runtime::Runtime,
    shared::Shared,
    sync::Mutex,
    work::panic_message,
};

/// How long past the deadline a thread that is not stuck may need to drop what was cut off, and to end.
const FORCED_GRACE: Duration = Duration::from_millis(250);
/// Stands for a deadline that is too far away for the clock.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A thread that drives a runtime of its own, started once and reused by every call.
///
/// [`shutdown`](Self::shutdown) ends it in order. Dropping it is the emergency path: the thread is asked to do the
/// same within the configured deadline, but nobody waits for it or hears how it went.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "runtime-tokio")] {
/// use std::time::Duration;
/// use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
///
/// let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("node"))?;
/// let name = thread.bridge().run_blocking(async { std::thread::current().name().map(str::to_owned) })?;
/// assert_eq!(name.as_deref(), Some("node"));
/// thread.shutdown_blocking(Duration::from_secs(2))?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ExecutorThread {
    shared: Arc<Shared>,
    runtime: Arc<dyn Runtime>,
    name: String,
    shutdown_deadline: Duration,
    /// Taken by the shutdown.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    /// The thread sends its end here as the last thing that it does. The mutex is never locked: it makes the receiver
    /// `Sync`, so that the owner may be put behind an `Arc`.
    ended: Mutex<Receiver<ShutdownResult>>,
}

impl ExecutorThread {
    /// Starts a thread that drives a runtime of the given kind: a [`Backend`](crate::Backend), a
    /// [`tokio::runtime::Builder`], or a [`RuntimeFactory`] of your own. Blocks until the thread has started and
    /// its start-up hooks have run, so an async caller does this once, while it starts itself.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no thread or no runtime could be had, the runtime is not suitable, a start-up hook failed,
    /// or it took too long.
    pub fn start(factory: impl RuntimeFactory, config: ThreadConfig) -> Result<Self, StartError> {
        let ThreadConfig { name, in_flight_max, start_deadline, shutdown_deadline, start_hooks, shutdown_hooks } =
            config;
        let shared = Arc::new(Shared::new(in_flight_max));
        let (ready, is_ready) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let (main_end, is_main_end) = sync_channel(1);
        let main = Main { shared: Arc::clone(&shared), ready, end: main_end, start_hooks, shutdown_hooks };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || run_thread(factory, main, &is_main_end, &end))
            .map_err(StartError::Spawn)?;
        match is_ready.recv_timeout(start_deadline) {
            Ok(Ok(runtime)) => {
                let running = Some(Running { thread, ended: Mutex::new(ended) });
                Ok(Self { shared, runtime, name, shutdown_deadline, running })
            }
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => {
                shared.request_stop(Instant::now());
                Err(StartError::TimedOut { waited: start_deadline })
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(StartError::Panicked { message: "the thread ended without a word".to_owned() })
            }
        }
    }

    /// A handle for calls onto the thread.
    #[must_use]
    pub fn bridge(&self) -> Bridge {
        Bridge::new(Arc::clone(&self.shared))
    }

    /// The runtime of the thread. What is spawned on it runs on the thread, inside a tokio context.
    #[must_use]
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime)
    }

    /// Ends the thread. May be awaited on any runtime.
    ///
    /// In this order: calls are refused from now on, and those still queued are ended; the shutdown hooks
    /// run, while what has begun may finish; what is left is cut off, its callers get
    /// [`CallError::ShutDown`](crate::CallError::ShutDown) or [`SpawnedError::ShutDown`](crate::SpawnedError::ShutDown), and
    /// it is dropped on the thread; the runtime is dropped; the thread ends. At `deadline` the hooks are cut off
    /// too. Blocking tasks of tokio that are still busy then are left behind. If something blocks the thread a
    /// quarter of a second after the deadline, the thread is given up; every wait ends with an error all the same.
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Stuck`] when something blocks the thread past `deadline`, [`ShutdownError::Crashed`]
    /// when the thread had panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown, only the wait for it. Dropped before its first poll, it
    /// takes the emergency path, as dropping the `ExecutorThread` does.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<ShutdownReport, ShutdownError> {
        let Some(running) = self.begin_shutdown(deadline) else {
            return Ok(ShutdownReport::default());
        };
        let shared = Arc::clone(&self.shared);
        let name = self.name.clone();
        let (sender, receiver) = oneshot::channel();
        // A thread of its own waits: the caller's runtime may have no timer, and the executor may be stuck.
        std::thread::Builder::new()
            .name(format!("{name}-end"))
            .spawn(move || {
                let _caller_gone = sender.send(running.wait(&shared, &name, deadline));
            })
            .map_err(|error| ShutdownError::NotWatched { kind: error.kind() })?;
        receiver.await.unwrap_or(Err(ShutdownError::NotWatched { kind: std::io::ErrorKind::Interrupted }))
    }

    /// Like [`shutdown`](Self::shutdown) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown), and [`ShutdownError::OnExecutorThread`] on the thread itself, which then
    /// ends after the caller has returned.
    pub fn shutdown_blocking(mut self, deadline: Duration) -> Result<ShutdownReport, ShutdownError> {
        let Some(running) = self.begin_shutdown(deadline) else {
            return Ok(ShutdownReport::default());
        };
        if self.shared.is_current() {
            return Err(ShutdownError::OnExecutorThread);
        }
        running.wait(&self.shared, &self.name, deadline)
    }

    fn begin_shutdown(&mut self, deadline: Duration) -> Option<Running> {
        let now = Instant::now();
        self.shared.request_stop(now + deadline.min(FAR));
        self.running.take()
    }
}

impl Drop for ExecutorThread {
    fn drop(&mut self) {
        if self.running.is_some() {
            let deadline = self.shutdown_deadline;
            drop(self.begin_shutdown(deadline));
        }
    }
}

impl Running {
    fn wait(self, shared: &Shared, name: &str, deadline: Duration) -> ShutdownResult {
        let waited = deadline.min(FAR) + FORCED_GRACE;
        let end = match self.ended.into_inner().recv_timeout(waited) {
            Ok(end) => end,
            Err(RecvTimeoutError::Timeout) => {
                shared.end(&Failure::ShutDown);
                tracing::error!(thread = name, ?waited, "executor thread is stuck, leaving it behind");
                return Err(ShutdownError::Stuck { thread: name.to_owned(), waited });
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(ShutdownError::Crashed { message: "the thread ended without a word".to_owned() })
            }
        };
        // It has sent its end, so it is about to return; it has caught its panic, if any.
        let _joined = self.thread.join();
        end
    }
}

/// The whole life of the thread. Whatever happens, everybody who waits for something of it is told.
fn run_thread(
    factory: impl RuntimeFactory,
    main: Main,
    main_end: &Receiver<ShutdownResult>,
    end: &SyncSender<ShutdownResult>,
) {
    let (shared, ready) = (Arc::clone(&main.shared), main.ready.clone());
    let result = catch_unwind(AssertUnwindSafe(|| factory.run(main)));
    // Whoever starts the thread hears of `error`, if the thread has not started yet; everybody else of `message`.
    let crash = |message: String, error: StartError| {
        shared.end(&Failure::Crashed(message.clone()));
        let _started_already = ready.try_send(Err(error));
        Err(ShutdownError::Crashed { message })
    };
    let last_word = match result {
        Ok(Ok(())) => main_end.try_recv().unwrap_or_else(|_| {
            let error = StartError::Unsuitable { reason: "it was left before its main future had ended" };
            tracing::error!(%error, "executor thread lost its runtime");
            crash(error.to_string(), error)
        }),
        Ok(Err(error)) => crash(error.to_string(), error),
        Err(payload) => {
            let message = panic_message(payload.as_ref());
            tracing::error!(message, "runtime of the executor thread panicked");
            crash(message.clone(), StartError::Panicked { message })
        }
    };
    // The runtime has been dropped by now, and with it whatever had not ended in time. After a crash calls may be
    // left in the queue.
    shared.end(&Failure::ShutDown);
    shared.drop_queued();
    let _nobody_waits = end.try_send(last_word);
}

#[cfg(test)]
mod tests {
    use crate::{Bridge, Call, ExecutorThread, Runtime, Spawned};

    const fn shareable<T: Send + Sync + ?Sized>() {}

    /// Handles go into server state, which is shared between threads.
    const _: () = {
        shareable::<ExecutorThread>();
        shareable::<Bridge>();
        shareable::<dyn Runtime>();
        shareable::<Spawned<Box<dyn FnOnce() + Send>>>();
        shareable::<Call<()>>();
    };
}
