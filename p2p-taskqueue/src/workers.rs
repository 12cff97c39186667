use std::{collections::BTreeMap, fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use runtime_bridge::{Runtime, RuntimeExt as _};
use taskqueue_worker::{Worker as Pool, WorkerConfig};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Context, Failure, Queue, Task, WorkerError,
    dispatch::{AnyHandler, Given, Passed, any},
};

/// Takes tasks from a queue and has handlers do them.
///
/// Handlers run inside the future of [`run_until`](Self::run_until): on the program's own runtime, several at once, and
/// no two of them at the very same moment. So a handler may use that runtime's sockets and timers. One that computes for
/// long, or blocks, holds up the other slots; it loses no lease, because tasks are claimed, renewed and reported on the
/// queue's own thread. Let the runtime's own means (`spawn_blocking`, `unblock`) carry such work to other threads.
///
/// A handler that fails or panics ends its attempt, not the worker.
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
    /// A type that has two handlers, told when the worker is run.
    twice: Option<&'static str>,
}

impl Worker {
    /// A worker on this queue: one task at a time, under leases of 30 seconds. On a node's queue it takes the tasks of the
    /// connected peers, too.
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

    /// The name that records show, up to 256 bytes; the process id unless it is set.
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// How many tasks at a time, of all types together; at least one, 4,096 at the most.
    pub fn slots(self, slots: usize) -> Self {
        Self { slots: slots.clamp(1, SLOTS_MAX), ..self }
    }

    /// What it has, up to 32 labels: tasks that require something else are left to other workers.
    pub fn labels(self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { labels: labels.into_iter().map(Into::into).collect(), ..self }
    }

    /// The session whose tasks it takes beside those of none.
    pub fn session(self, session: impl Into<String>) -> Self {
        Self { session: Some(session.into()), ..self }
    }

    /// How soon a task is taken up again when this program dies: leases run for so long, a second to a day, and are
    /// renewed three times within it.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// Does the tasks of this type like so. A worker has up to 256 types, and one handler for each; they share the slots.
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

    /// Works until `stop` is over, then stops in order: it takes nothing new and tells the handlers through their
    /// [`Context`]. Those that have not ended 0.7 s later are dropped. What is not done goes back to the queue, without
    /// counting as an attempt. It returns when that is done.
    ///
    /// # Errors
    ///
    /// [`WorkerError`]: there is no handler, a setting is out of bounds, or the queue was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handlers; their tasks go back to the queue a moment later, if it is still open.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        // A task of every slot may be under way to here.
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
                // With none running it waits for the others.
                Some(()) = running.next() => {}
            }
        }
        let mut stopped = taking.stop();
        loop {
            tokio::select! {
                // An error means that the executor thread has ended, and with it the pool.
                _ = &mut stopped => return Ok(()),
                // Claimed while the stop came: the handler is told at once.
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

    /// The handler's work on a task. A task of a type that was not asked for goes back.
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

/// The pool that takes tasks. Dropped, it gives them back all the same, with nobody waiting for that.
struct Taking {
    pool: Option<Pool>,
    runtime: Arc<dyn Runtime>,
}

impl Taking {
    /// Stops the pool on the executor thread. The answer comes when every task was given back.
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

/// As the pool's own: when a worker dies its task waits this long.
const LEASE: Duration = Duration::from_secs(30);

/// Handlers of one worker share one future: who wants more of them wants more threads.
const SLOTS_MAX: usize = 4_096;
