use std::{collections::BTreeMap, fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use runtime_bridge::{Runtime, RuntimeExt as _};
use taskqueue_worker::{Worker as Pool, WorkerConfig};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Context, Failure, Queue, Task, WorkerError,
    dispatch::{AnyHandler, Given, Passed, any},
};

/// A worker: it takes tasks from a queue and runs handlers for them.
///
/// Handlers run inside the future of [`run_until`](Self::run_until), on the program's own runtime. Several run
/// concurrently, but never in parallel. A handler may use the sockets and timers of that runtime.
///
/// A handler that computes for long, or blocks, holds up the other slots. It does not lose its lease, because tasks are
/// claimed, renewed and reported on the queue's own thread. Move such work to other threads with the means of the
/// runtime (`spawn_blocking`, `unblock`).
///
/// When a handler fails or panics, only its attempt ends. The worker goes on.
///
/// # Examples
///
/// ```
/// # use p2p_taskqueue::{Context, Failure, Queue, Task, Worker};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Square(u64);
/// # impl Task for Square { const TYPE: &str = "square"; type Output = u64; }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Shout(String);
/// # impl Task for Shout { const TYPE: &str = "shout"; type Output = String; }
/// # futures::executor::block_on(async {
/// # let queue = Queue::in_memory().await?;
/// let job = queue.submit(Square(12)).await?;
/// let done = async { assert_eq!(job.wait().await.ok(), Some(144)) };
/// Worker::new(&queue)
///     .slots(4)
///     .handle(|Square(number): Square, _| async move {
///         number.checked_mul(number).ok_or_else(|| Failure::permanent("too large"))
///     })
///     .handle(|Shout(text): Shout, cx: Context| async move {
///         cx.progress(0.5, "half").await?;
///         Ok(text.to_uppercase())
///     })
///     .run_until(done)
///     .await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    queue: Queue,
    id: String,
    slots: usize,
    labels: Vec<String>,
    session: Option<String>,
    lease: Duration,
    handlers: BTreeMap<&'static str, AnyHandler>,
    /// A task type that has two handlers. It is reported when the worker is run.
    twice: Option<&'static str>,
}

impl Worker {
    /// Makes a worker on this queue, with one slot and leases of 30 seconds. On a node's queue it also takes tasks of
    /// the connected peers.
    pub fn new(queue: &Queue) -> Self {
        Self {
            queue: queue.clone(),
            id: format!("process-{}", std::process::id()),
            slots: 1,
            labels: Vec::new(),
            session: None,
            lease: LEASE,
            handlers: BTreeMap::new(),
            twice: None,
        }
    }

    /// Sets the worker id that records show, up to 256 bytes. The default is `process-` and the process id.
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Sets how many tasks run at a time, of all types together. The number is brought into the range from 1 to 4,096.
    pub fn slots(self, slots: usize) -> Self {
        Self { slots: slots.clamp(1, SLOTS_MAX), ..self }
    }

    /// Sets the labels of the worker, up to 32. Tasks that require other labels are left to other workers.
    pub fn labels(self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { labels: labels.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the session whose tasks the worker takes in addition to the tasks without a session.
    pub fn session(self, session: impl Into<String>) -> Self {
        Self { session: Some(session.into()), ..self }
    }

    /// Sets the length of the leases, from a second to a day.
    ///
    /// It is the time after which a task is queued again when this program dies. Leases are renewed three times within
    /// it.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// Adds the handler for the tasks of type `T`.
    ///
    /// A worker may have up to 256 types, and one handler for each. All types share the slots.
    pub fn handle<T, F, Fut>(mut self, handler: F) -> Self
    where
        T: Task,
        F: Fn(T, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T::Output, Failure>> + Send + 'static,
    {
        if self.handlers.insert(T::TYPE, any(handler)).is_some() {
            self.twice = Some(T::TYPE);
        }
        self
    }

    /// Works until `stop` completes, and then stops in order.
    ///
    /// The worker claims nothing new and tells its handlers to stop through their [`Context`]. Handlers that have not
    /// ended 0.7 s later are dropped. Tasks that are not done are given back to the queue, and the attempt does not
    /// count. Then the future completes.
    ///
    /// # Errors
    ///
    /// [`WorkerError`]: there is no handler, a setting is out of bounds, or the queue was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handlers. Their tasks are given back a moment later if the queue is still open.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        // There is room for a task of every slot.
        let (given, mut tasks) = mpsc::channel(self.slots);
        let config = self.config(Passed { given })?;
        let queue = &self.queue;
        let pool = Pool::start(config, queue.inner(), queue.peers(), queue.runtime());
        let mut taking = Taking { pool: Some(pool), runtime: Arc::clone(queue.runtime()) };
        let mut running = FuturesUnordered::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                given = tasks.recv() => match given {
                    Some(given) => running.extend(self.work(given)),
                    None => return Err(WorkerError::Closed),
                },
                // This branch is disabled while no handler runs.
                Some(()) = running.next() => {}
            }
        }
        let mut stopped = taking.stop();
        loop {
            tokio::select! {
                // An error means that the executor thread has ended, and with it the pool.
                _ = &mut stopped => return Ok(()),
                // This task was claimed while the worker was told to stop. Its handler is told at once.
                Some(given) = tasks.recv() => running.extend(self.work(given)),
                Some(()) = running.next() => {}
            }
        }
    }

    fn config(&self, passed: Passed) -> Result<WorkerConfig, WorkerError> {
        if self.handlers.is_empty() {
            return Err(WorkerError::NoHandler);
        }
        if let Some(task_type) = self.twice {
            return Err(WorkerError::HandledTwice { task_type });
        }
        let config = WorkerConfig {
            labels: self.labels.clone(),
            session: self.session.clone(),
            slots: self.slots,
            lease: self.lease,
            ..WorkerConfig::new(self.id.clone(), self.handlers.keys().copied(), Arc::new(passed))
        };
        config.check().map_err(WorkerError::Settings)?;
        Ok(config)
    }

    /// Returns the handler's work on a task. A task without a handler is given back.
    fn work(&self, given: Given) -> Option<impl Future<Output = ()> + use<>> {
        let handler = self.handlers.get(given.task_type())?;
        Some(given.work(Arc::clone(handler)))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.handlers.keys().collect();
        f.debug_struct("Worker").field("id", &self.id).field("types", &types).finish_non_exhaustive()
    }
}

/// The pool that claims tasks. When this is dropped, the pool is stopped too and gives its tasks back, but nobody waits
/// for it.
struct Taking {
    pool: Option<Pool>,
    runtime: Arc<dyn Runtime>,
}

impl Taking {
    /// Stops the pool on the executor thread. The receiver gets a value when every task was given back.
    fn stop(&mut self) -> oneshot::Receiver<()> {
        let (sender, stopped) = oneshot::channel();
        if let Some(pool) = self.pool.take() {
            let stop = async move {
                pool.shutdown().await;
                let _nobody_waits = sender.send(());
            };
            self.runtime.spawn(stop).detach();
        }
        stopped
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// The default length of leases, which is also the pool's. When a worker dies, its task waits this long.
const LEASE: Duration = Duration::from_secs(30);

/// The most slots of a worker. Its handlers share one future, so more of them need a second worker on another thread.
const SLOTS_MAX: usize = 4_096;
