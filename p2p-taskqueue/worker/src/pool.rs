use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use runtime_bridge::{Runtime, RuntimeExt as _, Spawned};
use taskqueue_api::{
    Caller, Check as _, Claim, Operation as _, PeerId, QueueError, Release, Target, TargetedQueue, TaskId, TaskQueue,
    TaskQueueExt as _, TaskRecord, ToolOffer, WorkerOffer,
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::{
    Handler, Source,
    attempt::{Attempt, pause, retry_pauses},
    telling::Telling,
};

/// The settings of a [`Worker`]: which tasks it takes, and how.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The worker's name in records.
    pub worker_id: String,
    /// The types of the tasks that it takes, up to 256 of them, each with what the mesh is told of it. They share the
    /// slots. An empty list means any type.
    pub takes: Vec<ToolOffer>,
    /// The labels that it has. Tasks that require other labels are left to other workers.
    pub labels: Vec<String>,
    /// The session whose tasks it takes, in addition to tasks without a session.
    pub session: Option<String>,
    /// The code that runs its tasks.
    pub handler: Arc<dyn Handler>,
    /// The number of tasks that it runs at a time.
    pub slots: usize,
    /// The length of a lease: if this worker dies, its task is queued again after this time without a renewal.
    pub lease: Duration,
}

impl WorkerConfig {
    /// Creates settings for one task at a time and leases of 30 seconds.
    #[must_use]
    pub fn new(
        worker_id: impl Into<String>,
        task_types: impl IntoIterator<Item = impl Into<String>>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        Self {
            worker_id: worker_id.into(),
            takes: task_types.into_iter().map(ToolOffer::named).collect(),
            labels: Vec::new(),
            session: None,
            handler,
            slots: 1,
            lease: LEASE,
        }
    }

    /// Checks whether a queue accepts the claims of this worker. A worker whose claims are refused never gets a task.
    ///
    /// # Errors
    ///
    /// `invalid_argument` or `limit_exceeded`, which names the argument of the claim that is refused.
    pub fn check(&self) -> Result<(), QueueError> {
        self.claim().check()
    }

    fn claim(&self) -> Claim {
        Claim {
            supported_task_types: self.takes.iter().map(|tool| tool.name.clone()).collect(),
            labels: self.labels.clone(),
            session: self.session.clone(),
            lease_s: self.lease.as_secs_f64(),
            wait_s: CLAIM_WAIT.as_secs_f64(),
            ..Claim::new(self.worker_id.clone())
        }
    }

    /// What the mesh is told of the worker.
    fn offer(&self) -> WorkerOffer {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut offer = WorkerOffer {
            // Without random numbers, the time tells the workers of a machine apart.
            instance: TaskId::random().map_or_else(|_| since.to_string(), |id| id.to_string()),
            worker_id: self.worker_id.clone(),
            takes: self.takes.clone(),
            labels: self.labels.clone(),
            session: self.session.clone(),
            slots: u32::try_from(self.slots.max(1)).unwrap_or(u32::MAX),
            busy: 0,
            since,
        };
        let lost = offer.fit();
        if !lost.is_empty() {
            tracing::warn!(types = %lost.join(", "), "too long a description or schema: the mesh is not told of it");
        }
        offer
    }
}

/// A worker that takes tasks from the local queue and from every connected peer.
pub struct Worker {
    /// The loops hold the receivers. The value true asks them to end.
    stopping: watch::Sender<bool>,
    supervisor: Spawned<()>,
    /// Set once the node of this machine has been told of the worker.
    is_told: watch::Receiver<bool>,
}

impl Worker {
    /// Starts to take tasks. `queue` answers for the local node and passes requests on to peers. `peers` lists the
    /// peers that serve.
    ///
    /// Dropping the worker ends it at once. A task that it holds is queued again when its lease expires.
    #[must_use]
    pub fn start(
        config: WorkerConfig,
        queue: Arc<dyn TaskQueue>,
        peers: watch::Receiver<Vec<PeerId>>,
        runtime: &Arc<dyn Runtime>,
    ) -> Self {
        let (stopping, stopped) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(config.slots.max(1)));
        let runtime = Arc::clone(runtime);
        let (busy, is_told) = (watch::Sender::new(0), watch::Sender::new(false));
        let was_told = is_told.subscribe();
        let telling = Telling {
            offer: config.offer(),
            queue: Arc::clone(&queue),
            runtime: Arc::clone(&runtime),
            busy: busy.subscribe(),
            stopping: stopped.clone(),
            is_told,
        };
        let pool = Pool { config: Arc::new(config), queue, peers, slots, busy, runtime, stopping: stopped };
        let spawner = Arc::clone(&pool.runtime);
        let supervisor = spawner.spawn(async move {
            futures::join!(telling.run(), pool.supervise());
        });
        Self { stopping, supervisor, is_told: was_told }
    }

    /// Waits until the node of this machine has been told what the worker takes. If it could take that in, it tells its
    /// peers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn is_told(&self) {
        // An error means that the worker has ended.
        drop(self.is_told.clone().wait_for(|is_told| *is_told).await);
    }

    /// Stops taking tasks, gives those that it holds back to their owners, and waits until that is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the worker at once, as dropping the worker does.
    pub async fn shutdown(self) {
        self.stopping.send_replace(true);
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the worker did not end in order");
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// The state that the loops of one worker share.
#[derive(Clone)]
struct Pool {
    config: Arc<WorkerConfig>,
    queue: Arc<dyn TaskQueue>,
    /// The node holds the sender.
    peers: watch::Receiver<Vec<PeerId>>,
    slots: Arc<Semaphore>,
    /// How many slots are taken.
    busy: watch::Sender<u32>,
    runtime: Arc<dyn Runtime>,
    /// The [`Worker`] holds the sender.
    stopping: watch::Receiver<bool>,
}

impl Pool {
    /// Runs one loop for the local queue and one for each peer that was ever seen to serve. The loops of absent peers
    /// sleep.
    async fn supervise(mut self) {
        let mut loops = HashMap::new();
        loops.insert(None, self.runtime.spawn(self.clone().take_from(None)));
        loop {
            let serving = self.peers.borrow_and_update().clone();
            for peer in serving {
                loops.entry(Some(peer)).or_insert_with(|| self.runtime.spawn(self.clone().take_from(Some(peer))));
            }
            let mut peers = self.peers.clone();
            match self.unless_stopping(peers.changed()).await {
                Some(Ok(())) => self.peers = peers,
                Some(Err(_)) | None => break,
            }
        }
        // When the node is gone, no new peers can appear. The loops end when they are told to stop.
        join_all(loops.into_values()).await;
    }

    async fn take_from(self, peer: Option<PeerId>) {
        let target = peer.map_or_else(Target::default, Target::peer);
        let source = TargetedQueue::new(Arc::clone(&self.queue), target);
        let mut pauses = retry_pauses();
        let mut working = FuturesUnordered::new();
        loop {
            match beside(&mut working, self.unless_stopping(self.take_one(peer, &source))).await {
                None => break,
                Some(Ok(Some(task))) => {
                    pauses = retry_pauses();
                    working.push(self.work_on(peer, &source, task, self.slots.try_acquire().ok()));
                }
                Some(Ok(None)) => pauses = retry_pauses(),
                Some(Err(error)) => {
                    tracing::debug!(source = ?peer, %error, "no claim");
                    let pause = self.unless_stopping(pause(&self.runtime, &mut pauses));
                    if beside(&mut working, pause).await.is_none() {
                        break;
                    }
                }
            }
            // An owner that accepts no reports gets no more work than there are slots.
            while working.len() >= self.config.slots.max(1) {
                working.next().await;
            }
        }
        while working.next().await.is_some() {}
    }

    /// Waits for the peer to serve and for a free slot, then claims a task.
    async fn take_one(&self, peer: Option<PeerId>, source: &TargetedQueue) -> Result<Option<TaskRecord>, QueueError> {
        if let Some(peer) = peer {
            let mut peers = self.peers.clone();
            // A dropped sender means that the node is gone; the stop follows at once.
            drop(peers.wait_for(|serving| serving.contains(&peer)).await);
        }
        // The slot is taken only when a task has come: a source without tasks must not keep it from one that has some.
        drop(self.slots.acquire().await);
        Ok(source.claim(&Caller::Local, self.config.claim()).await?.task)
    }

    /// Works on a task. Without a slot, the task is released.
    async fn work_on(
        &self,
        peer: Option<PeerId>,
        source: &TargetedQueue,
        task: TaskRecord,
        slot: Option<SemaphorePermit<'_>>,
    ) {
        let Some(fence) = task.fence else {
            tracing::error!(task_id = %task.task_id, "a claim was answered without a fence");
            return;
        };
        let attempt = Attempt {
            owner: source,
            handler: &*self.config.handler,
            runtime: &self.runtime,
            source: Source { owner: peer, lease: self.config.lease },
            stopping: self.stopping.clone(),
        };
        // Two sources may answer at the same time. A task without a slot goes back untouched, for another worker.
        let Some(slot) = slot else {
            let reason = "the worker is busy".to_owned();
            let release = Release { task_id: task.task_id, fence, delay_s: 0.0, reason };
            attempt.deliver(release.into_request()).await;
            return;
        };
        tracing::info!(task_id = %task.task_id, task_type = %task.task_type, attempt = task.attempt, "running");
        self.count_busy();
        let report = attempt.run(&task, fence).await;
        // The slot is free before the report, so that an owner that cannot be reached holds up only its own tasks.
        drop(slot);
        self.count_busy();
        if let Some(report) = report {
            tracing::info!(task_id = %task.task_id, operation = report.name(), "reporting");
            attempt.deliver(report).await;
        }
    }

    /// Shows how many slots are taken.
    fn count_busy(&self) {
        let taken = self.config.slots.max(1).saturating_sub(self.slots.available_permits());
        self.busy.send_replace(u32::try_from(taken).unwrap_or(u32::MAX));
    }

    async fn unless_stopping<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => None,
            output = future => Some(output),
        }
    }
}

/// Waits for `future` while the work that is under way goes on.
async fn beside<F: Future>(working: &mut FuturesUnordered<impl Future<Output = ()>>, future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return output,
            // Without work under way, this branch is disabled.
            Some(()) = working.next() => {}
        }
    }
}

/// The default lease. The task of a dead worker waits this long, and a renewal costs one small message in each third of
/// it.
const LEASE: Duration = Duration::from_secs(30);

/// The length of one long poll. A dead connection is noticed within it.
const CLAIM_WAIT: Duration = Duration::from_secs(20);
