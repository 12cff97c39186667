//! How an executor thread is set up.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{error::BoxError, runtime::Runtime};

/// Calls in flight at once. Each holds its future and its reply, some hundred bytes for a small one; so many of them
/// are some megabytes.
const IN_FLIGHT_MAX: usize = 16_384;
/// How long a shutdown may take by default.
pub(crate) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);
/// How long a start may take by default: opening a large store in a start-up hook takes seconds.
const START_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) type HookFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type StartHook = Box<dyn FnOnce(Arc<dyn Runtime>) -> HookFuture<Result<(), BoxError>> + Send>;
pub(crate) type ShutdownHook = Box<dyn FnOnce(Arc<dyn Runtime>) -> HookFuture<()> + Send>;

/// How an executor thread is set up.
pub struct ThreadConfig {
    pub(crate) name: String,
    pub(crate) in_flight_max: usize,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) start_deadline: Duration,
    pub(crate) start_hooks: Vec<StartHook>,
    pub(crate) shutdown_hooks: Vec<ShutdownHook>,
}

impl Default for ThreadConfig {
    fn default() -> Self {
        Self {
            name: "p2p-executor".to_owned(),
            in_flight_max: IN_FLIGHT_MAX,
            shutdown_deadline: SHUTDOWN_DEADLINE,
            start_deadline: START_DEADLINE,
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
        Self { in_flight_max: calls.max(1), ..self }
    }

    /// How long the shutdown may take when the [`ExecutorThread`](crate::ExecutorThread) is dropped.
    #[must_use]
    pub fn with_shutdown_deadline(self, deadline: Duration) -> Self {
        Self { shutdown_deadline: deadline, ..self }
    }

    /// How long [`ExecutorThread::start`](crate::ExecutorThread::start) waits for the thread, hooks included.
    #[must_use]
    pub fn with_start_deadline(self, deadline: Duration) -> Self {
        Self { start_deadline: deadline, ..self }
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
