//! The dedicated executor thread: start, name, hooks, shutdown, join.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::{channel::oneshot, future::select};

use crate::{
    answer::Failure,
    backend::{self, Backend},
    bridge::Bridge,
    driver::Driver,
    error::{BoxError, ShutdownError, StartError},
    registry::{Core, ThreadRuntime},
    runtime::Runtime,
    work::panic_message,
};

/// Calls in flight at once. Each holds its future and its reply, a few hundred bytes for a small one: some
/// megabytes when full.
const IN_FLIGHT_MAX: usize = 16_384;
/// How long a shutdown may take by default.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);
/// Beyond the deadline, what a thread that is not stuck needs to drop what was cut off and to end.
const FORCED_GRACE: Duration = Duration::from_millis(250);

type HookFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type StartHook = Box<dyn FnOnce(Arc<dyn Runtime>) -> HookFuture<Result<(), BoxError>> + Send>;
type ShutdownHook = Box<dyn FnOnce(Arc<dyn Runtime>) -> HookFuture<()> + Send>;

/// How an executor thread is set up.
pub struct ThreadConfig {
    name: String,
    in_flight_max: usize,
    shutdown_deadline: Duration,
    start_hooks: Vec<StartHook>,
    shutdown_hooks: Vec<ShutdownHook>,
}

impl Default for ThreadConfig {
    fn default() -> Self {
        Self {
            name: "p2p-executor".to_owned(),
            in_flight_max: IN_FLIGHT_MAX,
            shutdown_deadline: SHUTDOWN_DEADLINE,
            start_hooks: Vec::new(),
            shutdown_hooks: Vec::new(),
        }
    }
}

impl ThreadConfig {
    /// Names the thread.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Bounds the calls in flight, waiting in the queue or running. At least one.
    #[must_use]
    pub fn with_max_in_flight(self, calls: usize) -> Self {
        Self { in_flight_max: calls.clamp(1, tokio::sync::Semaphore::MAX_PERMITS), ..self }
    }

    /// How long the shutdown may take when the [`ExecutorThread`] is dropped.
    #[must_use]
    pub fn with_shutdown_deadline(self, deadline: Duration) -> Self {
        Self { shutdown_deadline: deadline, ..self }
    }

    /// Runs `hook` on the thread before it counts as started. If it fails, the start fails.
    #[must_use]
    pub fn with_start_hook<H, F>(mut self, hook: H) -> Self
    where
        H: FnOnce(Arc<dyn Runtime>) -> F + Send + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.start_hooks.push(Box::new(move |runtime| Box::pin(hook(runtime))));
        self
    }

    /// Runs `hook` on the thread when it is asked to end, before anything on it is cancelled. Hooks run in the
    /// reverse of the order in which they were added, within the shutdown's deadline.
    #[must_use]
    pub fn with_shutdown_hook<H, F>(mut self, hook: H) -> Self
    where
        H: FnOnce(Arc<dyn Runtime>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.shutdown_hooks.push(Box::new(move |runtime| Box::pin(hook(runtime))));
        self
    }
}

impl fmt::Debug for ThreadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadConfig")
            .field("name", &self.name)
            .field("in_flight_max", &self.in_flight_max)
            .field("shutdown_deadline", &self.shutdown_deadline)
            .finish_non_exhaustive()
    }
}

/// A thread that drives a runtime of its own, started once and reused by every call.
///
/// Dropping it is the emergency path: the thread is told to end within the configured deadline and is not
/// waited for. [`shutdown`](Self::shutdown) is the orderly one.
#[derive(Debug)]
pub struct ExecutorThread {
    core: Arc<Core>,
    runtime: Arc<dyn Runtime>,
    name: String,
    shutdown_deadline: Duration,
    /// Taken by the shutdown.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    /// The thread sends its end here as the last thing that it does.
    ended: Receiver<Result<ShutdownReport, ShutdownError>>,
}

/// What a shutdown did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls and jobs that had not finished and were cut off.
    pub cut_off: usize,
}

impl ExecutorThread {
    /// Starts a thread that drives a runtime of the given kind. Returns when it really runs, hooks included.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no thread, no runtime, or a start-up hook failed.
    pub fn start(backend: Backend, config: ThreadConfig) -> Result<Self, StartError> {
        let ThreadConfig { name, in_flight_max, shutdown_deadline, start_hooks, shutdown_hooks } = config;
        let core = Arc::new(Core::new(in_flight_max));
        let (ready, is_ready) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let main = Main { core: Arc::clone(&core), ready: ready.clone(), start_hooks, shutdown_hooks };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || run_thread(backend, main, &ready, &end))
            .map_err(StartError::Spawn)?;
        match is_ready.recv() {
            Ok(Ok(runtime)) => {
                let running = Some(Running { thread, ended });
                Ok(Self { core, runtime, name, shutdown_deadline, running })
            }
            Ok(Err(error)) => Err(error),
            Err(_gone) => Err(StartError::Panicked { message: "no message".to_owned() }),
        }
    }

    /// A handle for calls onto the thread.
    #[must_use]
    pub fn bridge(&self) -> Bridge {
        Bridge::new(Arc::clone(&self.core))
    }

    /// The runtime of the thread. What is spawned on it runs on the thread, inside a tokio context.
    #[must_use]
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime)
    }

    /// Ends the thread: refuses new calls, runs the shutdown hooks, cuts off what still runs, and waits for the
    /// end. May be awaited on any runtime.
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Stuck`] when something blocks the thread past `deadline`, [`ShutdownError::Crashed`]
    /// when the thread had panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown, only the wait for it.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<ShutdownReport, ShutdownError> {
        let (sender, receiver) = oneshot::channel();
        let Some(running) = self.begin_shutdown(deadline) else {
            return Ok(ShutdownReport { cut_off: 0 });
        };
        let core = Arc::clone(&self.core);
        let name = self.name.clone();
        // A thread of its own waits: no runtime of the caller's is needed, and the executor may be stuck.
        let waiter = std::thread::Builder::new().name(format!("{name}-end")).spawn(move || {
            let _caller_gone = sender.send(running.wait(&core, &name, deadline));
        });
        let stuck = || ShutdownError::Stuck { thread: self.name.clone(), waited: Duration::ZERO };
        if waiter.is_err() {
            return Err(stuck());
        }
        receiver.await.unwrap_or_else(|_canceled| Err(stuck()))
    }

    /// Like [`shutdown`](Self::shutdown) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown), and [`ShutdownError::OnExecutorThread`] on the thread itself, which then
    /// ends after the caller has returned.
    pub fn shutdown_blocking(mut self, deadline: Duration) -> Result<ShutdownReport, ShutdownError> {
        let Some(running) = self.begin_shutdown(deadline) else {
            return Ok(ShutdownReport { cut_off: 0 });
        };
        if self.core.is_current() {
            return Err(ShutdownError::OnExecutorThread);
        }
        running.wait(&self.core, &self.name, deadline)
    }

    fn begin_shutdown(&mut self, deadline: Duration) -> Option<Running> {
        let now = Instant::now();
        self.core.request_stop(now.checked_add(deadline).unwrap_or(now + SHUTDOWN_DEADLINE));
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
    fn wait(self, core: &Core, name: &str, deadline: Duration) -> Result<ShutdownReport, ShutdownError> {
        let waited = deadline.saturating_add(FORCED_GRACE);
        let Ok(end) = self.ended.recv_timeout(waited) else {
            core.end(&Failure::ShutDown);
            tracing::error!(thread = name, ?waited, "executor thread is stuck, leaving it behind");
            return Err(ShutdownError::Stuck { thread: name.to_owned(), waited });
        };
        // It has said its last word; a panic of it has been turned into one.
        let _joined = self.thread.join();
        end
    }
}

struct Main {
    core: Arc<Core>,
    ready: SyncSender<Result<Arc<dyn Runtime>, StartError>>,
    start_hooks: Vec<StartHook>,
    shutdown_hooks: Vec<ShutdownHook>,
}

fn run_thread(
    backend: Backend,
    main: Main,
    ready: &SyncSender<Result<Arc<dyn Runtime>, StartError>>,
    end: &SyncSender<Result<ShutdownReport, ShutdownError>>,
) {
    let core = Arc::clone(&main.core);
    let run = || match backend {
        #[cfg(feature = "runtime-tokio")]
        Backend::Tokio => backend::tokio::block_on(|runtime| main.run(runtime)),
        #[cfg(feature = "runtime-async-std")]
        Backend::AsyncStd => Err(std::io::ErrorKind::Unsupported.into()),
        #[cfg(feature = "runtime-smol")]
        Backend::Smol => Err(std::io::ErrorKind::Unsupported.into()),
    };
    let result = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => {
            let _nobody = ready.try_send(Err(StartError::Runtime(error)));
            return;
        }
        Err(payload) => {
            let message = panic_message(payload.as_ref());
            tracing::error!(message, "executor thread panicked");
            core.end(&Failure::Crashed(message.clone()));
            let _started = ready.try_send(Err(StartError::Panicked { message: message.clone() }));
            Err(ShutdownError::Crashed { message })
        }
    };
    core.end(&Failure::ShutDown);
    let _nobody = end.try_send(result);
}

impl Main {
    async fn run(self, backend: Arc<dyn Runtime>) -> ShutdownReport {
        let Self { core, ready, start_hooks, shutdown_hooks } = self;
        core.adopt_current_thread(Arc::clone(&backend));
        let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new(Arc::clone(&core), Arc::clone(&backend)));
        for hook in start_hooks {
            if let Err(error) = hook(Arc::clone(&runtime)).await {
                core.end(&Failure::ShutDown);
                let _nobody = ready.try_send(Err(StartError::Hook(error)));
                return ShutdownReport { cut_off: 0 };
            }
        }
        let mut driver = Driver::new(Arc::clone(&core), Arc::clone(&backend));
        let _nobody = ready.try_send(Ok(Arc::clone(&runtime)));
        let deadline = driver.serve().await;
        let hooks = async {
            for hook in shutdown_hooks.into_iter().rev() {
                hook(Arc::clone(&runtime)).await;
            }
        };
        select(Box::pin(hooks), backend.sleep_until(deadline)).await;
        let cut_off = core.end(&Failure::ShutDown);
        driver.clear();
        let empty = std::future::poll_fn(|cx| core.intake.poll_empty(cx));
        select(empty, backend.sleep_until(deadline)).await;
        ShutdownReport { cut_off }
    }
}
