use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runtime_bridge::Runtime;
use taskqueue_api::{Caller, Operation, PeerId, QueueError, TaskId, TaskQueue, TaskQueueExt as _};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions, TaskStore};
use tokio::sync::watch;

use crate::{
    BridgedQueue, CloseError, Job, OpenError, Submission, Task,
    engine::{Engine, off_thread},
};

/// A task queue for Rust programs. It is cheap to clone, and all clones are the same queue.
///
/// The queue has a thread of its own. Its calls may be awaited on any runtime, or without one by
/// `futures::executor::block_on`.
///
/// [`close`](Self::close) ends it in order. Dropping the last clone is the emergency path: calls under way are cut off,
/// and the drop blocks until everything that was accepted is written and the file is free. As a rule this takes
/// milliseconds. A [`Job`] and a worker hold a clone.
///
/// # Examples
///
/// ```
/// # use p2p_taskqueue::{Queue, Task};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Greet(String);
///
/// impl Task for Greet {
///     const TYPE: &str = "greet";
///     type Output = String;
/// }
///
/// # futures::executor::block_on(async {
/// let queue = Queue::in_memory().await?;
/// let job = queue.submit(Greet("world".to_owned())).priority(7).await?;
/// println!("{} is {}", job.id(), job.state().await?);
/// queue.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    /// The queue for callers on any thread.
    crossing: Arc<dyn TaskQueue>,
    /// The same queue for callers on the executor thread.
    inner: Arc<dyn TaskQueue>,
    #[cfg(feature = "mesh")]
    bridge: runtime_bridge::Bridge,
    runtime: Arc<dyn Runtime>,
    /// The peers from which a worker also takes tasks. The node holds the sender.
    #[cfg_attr(not(feature = "worker"), expect(dead_code, reason = "for workers"))]
    peers: watch::Receiver<Vec<PeerId>>,
    /// `None` once the queue was closed. The lock is never held during a wait.
    engine: Mutex<Option<Engine>>,
}

impl Queue {
    /// Opens the queue in this SQLite file, and makes the file if it is missing.
    ///
    /// Changes are on stable storage before they are answered. Nobody else can open the file until the queue is closed.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the file is in use, is damaged or is not a queue, or the system gives no threads.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the queue if it was opened already.
    #[cfg(feature = "sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let open = move || {
            let owner = no_node();
            let store = taskqueue_store::SqliteStore::open(&path, StoreOptions::new(owner))?;
            Self::over_store(Arc::new(store), owner)
        };
        off_thread(open).await.map_err(OpenError::Helper)?
    }

    /// Makes an empty queue in memory, for tests and for work that may be lost. Its tasks are lost when the queue ends.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the system gives no threads.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn in_memory() -> Result<Self, OpenError> {
        let open = || {
            let owner = no_node();
            Self::over_store(Arc::new(MemoryStore::new(StoreOptions::new(owner))?), owner)
        };
        off_thread(open).await.map_err(OpenError::Helper)?
    }

    /// Connects to the node of this machine that listens on a Unix socket.
    ///
    /// The socket of a running `taskmesh serve` is `taskmesh.sock` in its data folder. When the connection breaks, the
    /// next call connects again.
    ///
    /// A worker on this queue takes the node's own tasks.
    ///
    /// # Errors
    ///
    /// [`OpenError::Connect`] when no node listens there, the socket belongs to another user, or the node speaks
    /// another version of the protocol.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[cfg(all(unix, feature = "mesh"))]
    pub async fn connect(socket: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        let connector = crate::connect::UnixConnector::new(socket.as_ref());
        let engine = off_thread(Engine::start).await.map_err(OpenError::Helper)??;
        let daemon = taskqueue_mesh::DaemonQueue::new(Arc::new(connector), engine.thread().runtime());
        let queue = Self::new(Arc::new(daemon.clone()), none_serve(), engine);
        let first = Box::pin(async move { daemon.connect(std::time::Duration::ZERO).await });
        queue.run(first).await.and_then(|connected| connected).map_err(OpenError::Connect)?;
        Ok(queue)
    }

    /// Makes a queue over a carrier of your own.
    ///
    /// `make` gets the runtime of the queue's thread. The carrier is called on that thread and may spawn jobs there,
    /// and all of it runs inside a tokio context.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the system gives no thread.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn over<F>(make: F) -> Result<Self, OpenError>
    where
        F: FnOnce(Arc<dyn Runtime>) -> Arc<dyn TaskQueue> + Send + 'static,
    {
        let open = move || {
            let engine = Engine::start()?;
            let inner = make(engine.thread().runtime());
            Ok(Self::new(inner, none_serve(), engine))
        };
        off_thread(open).await.map_err(OpenError::Helper)?
    }

    fn over_store<S: TaskStore + 'static>(store: Arc<S>, owner: PeerId) -> Result<Self, OpenError> {
        let store: Arc<dyn TaskStore> = store;
        let engine = Engine::start()?.with_store(Arc::clone(&store));
        let local = LocalQueue::new(store, owner, engine.thread().runtime());
        Ok(Self::new(Arc::new(local), none_serve(), engine))
    }

    pub(crate) fn new(inner: Arc<dyn TaskQueue>, peers: watch::Receiver<Vec<PeerId>>, engine: Engine) -> Self {
        let (bridge, runtime) = (engine.thread().bridge(), engine.thread().runtime());
        let crossing = Arc::new(BridgedQueue::new(bridge.clone(), Arc::clone(&inner)));
        let engine = Mutex::new(Some(engine));
        Self {
            shared: Arc::new(Shared {
                crossing,
                inner,
                #[cfg(feature = "mesh")]
                bridge,
                runtime,
                peers,
                engine,
            }),
        }
    }

    /// Submits a task. Returns a builder: change the settings that differ from the defaults, then await it.
    #[expect(clippy::needless_pass_by_value, reason = "a task that was submitted is the queue's")]
    pub fn submit<T: Task>(&self, task: T) -> Submission<T> {
        Submission::new(self.clone(), &task)
    }

    /// Returns the job of a task that was submitted before, perhaps by an earlier run of the program.
    ///
    /// It is not checked here that the task exists. The calls of the job fail when it does not.
    #[must_use]
    pub fn job<T: Task>(&self, id: TaskId) -> Job<T> {
        Job::new(self.clone(), id, false)
    }

    /// Returns the carrier under this queue, for all operations without types: `list`, `stats`, `pause`, `purge` and so
    /// on.
    ///
    /// It may be asked on any runtime, and does not keep the queue open.
    ///
    /// # Examples
    ///
    /// ```
    /// # use p2p_taskqueue::{Caller, Queue, TaskQueueExt, api::StatsQuery};
    /// # futures::executor::block_on(async {
    /// # let queue = Queue::in_memory().await?;
    /// let stats = queue.raw().stats(&Caller::Local, StatsQuery {}).await?;
    /// assert_eq!(stats.totals.get("queued").copied().unwrap_or(0), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn raw(&self) -> Arc<dyn TaskQueue> {
        Arc::clone(&self.shared.crossing)
    }

    /// Ends the queue in order. Stop its workers first.
    ///
    /// New calls are refused, calls under way have two seconds to end, everything that was accepted is written, and the
    /// file is free. The other clones then answer `shutting_down`. A worker that still runs ends with
    /// [`WorkerError::Closed`](crate::WorkerError::Closed), and its tasks are queued again when their leases expire.
    ///
    /// Closing a queue that was closed before does nothing, and does not wait for its end.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when something blocks the queue's thread.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the queue ends even if the future is dropped.
    pub async fn close(self) -> Result<(), CloseError> {
        let engine = self.engine().take();
        match engine {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.engine().is_none()
    }

    pub(crate) async fn ask<O>(&self, operation: O) -> Result<O::Answer, QueueError>
    where
        O: Operation + Send + 'static,
        O::Answer: Send,
    {
        self.shared.crossing.ask(&Caller::Local, operation).await
    }

    /// Runs a future on the executor thread.
    #[cfg(feature = "mesh")]
    pub(crate) async fn run<F>(&self, work: F) -> Result<F::Output, QueueError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.shared.bridge.run(work).await.map_err(|error| crate::bridged::refusal(&error))
    }

    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.shared.runtime
    }

    #[cfg(feature = "worker")]
    pub(crate) fn inner(&self) -> Arc<dyn TaskQueue> {
        Arc::clone(&self.shared.inner)
    }

    #[cfg(feature = "worker")]
    pub(crate) fn peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.shared.peers.clone()
    }

    // After a panic under the lock, its value would still be valid.
    fn engine(&self) -> MutexGuard<'_, Option<Engine>> {
        self.shared.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("queue", &self.shared.inner).finish_non_exhaustive()
    }
}

fn none_serve() -> watch::Receiver<Vec<PeerId>> {
    watch::channel(Vec::new()).1
}

/// Returns the owner of tasks that no node keeps: a peer id that does not follow from any key, so no node can have it.
#[expect(clippy::expect_used, reason = "the bytes are constant, and a test reads them")]
pub(crate) fn no_node() -> PeerId {
    // A multihash: the code of `identity`, the length 5, and five bytes.
    PeerId::from_bytes(b"\x00\x05local").expect("it is a peer id")
}
