use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use runtime_bridge::{Runtime, RuntimeExt as _, Spawned};
use taskqueue_api::{
    Caller, Claim, Operation as _, PeerId, QueueError, Release, Target, TargetedQueue, Task, TaskQueue,
    TaskQueueExt as _,
};
use tokio::sync::{Semaphore, watch};

use super::{
    Handler, Source,
    attempt::{Attempt, pause, retry_pauses},
};

/// What a [`Worker`] takes and how.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The name that records show.
    pub worker_id: String,
    /// The type of the tasks that it takes.
    pub task_type: String,
    /// What it has; tasks that require something else are left to other workers.
    pub labels: Vec<String>,
    /// The session whose tasks it takes beside those of none.
    pub session: Option<String>,
    /// What it does with them.
    pub handler: Arc<dyn Handler>,
    /// How many at a time.
    pub slots: usize,
    /// How long a lease runs without a renewal: when this worker dies, its task is taken up again after so long.
    pub lease: Duration,
}

impl WorkerConfig {
    /// One task at a time, under leases of 30 seconds.
    #[must_use]
    pub fn new(worker_id: impl Into<String>, task_type: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        Self {
            worker_id: worker_id.into(),
            task_type: task_type.into(),
            labels: Vec::new(),
            session: None,
            handler,
            slots: 1,
            lease: LEASE,
        }
    }
}

/// Takes tasks of one type from the local queue and from every connected peer.
pub struct Worker {
    /// The jobs hold the receivers; true asks them to end.
    stopping: watch::Sender<bool>,
    supervisor: Spawned<()>,
}

impl Worker {
    /// Starts to take tasks. `queue` answers for the local node and passes on to peers; `peers` says which peers serve.
    ///
    /// Dropping the worker ends it at once: a task that it holds is taken up again after its lease.
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
        let pool = Pool { config: Arc::new(config), queue, peers, slots, runtime, stopping: stopped };
        let supervisor = Arc::clone(&pool.runtime).spawn(pool.supervise());
        Self { stopping, supervisor }
    }

    /// Stops to take tasks, gives the ones that it holds back to their owners, and waits until that is done.
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

/// What the loops of one worker share.
#[derive(Clone)]
struct Pool {
    config: Arc<WorkerConfig>,
    queue: Arc<dyn TaskQueue>,
    /// The node holds the sender.
    peers: watch::Receiver<Vec<PeerId>>,
    slots: Arc<Semaphore>,
    runtime: Arc<dyn Runtime>,
    /// The [`Worker`] holds the sender.
    stopping: watch::Receiver<bool>,
}

impl Pool {
    /// Keeps one loop for the local queue and one for each peer that was ever seen to serve; those of absent peers sleep.
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
        // With the node gone there is nothing to stop for but the local queue, and it is told to stop as well.
        join_all(loops.into_values()).await;
    }

    async fn take_from(self, peer: Option<PeerId>) {
        let target = peer.map_or_else(Target::default, Target::peer);
        let source = TargetedQueue::new(Arc::clone(&self.queue), target);
        let mut pauses = retry_pauses();
        loop {
            match self.unless_stopping(self.take_one(peer, &source)).await {
                None => return,
                Some(Ok(Some(task))) => {
                    pauses = retry_pauses();
                    self.work_on(peer, &source, task).await;
                }
                Some(Ok(None)) => pauses = retry_pauses(),
                Some(Err(error)) => {
                    tracing::debug!(source = ?peer, %error, "no claim");
                    if self.unless_stopping(pause(&self.runtime, &mut pauses)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the peer and for a free slot, then for a task.
    async fn take_one(&self, peer: Option<PeerId>, source: &TargetedQueue) -> Result<Option<Task>, QueueError> {
        if let Some(peer) = peer {
            let mut peers = self.peers.clone();
            // A node that is gone is as good as a stop, which comes at once.
            drop(peers.wait_for(|serving| serving.contains(&peer)).await);
        }
        // The slot is taken only with a task in hand: an idle source must not keep it from a busy one.
        drop(self.slots.acquire().await);
        let claim = Claim {
            supported_task_types: vec![self.config.task_type.clone()],
            labels: self.config.labels.clone(),
            session: self.config.session.clone(),
            lease_s: self.config.lease.as_secs_f64(),
            wait_s: CLAIM_WAIT.as_secs_f64(),
            ..Claim::new(self.config.worker_id.clone())
        };
        Ok(source.claim(&Caller::Local, claim).await?.task)
    }

    async fn work_on(&self, peer: Option<PeerId>, source: &TargetedQueue, task: Task) {
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
        // Two sources may answer at once: what there is no slot for goes back untouched, for another worker.
        let Ok(slot) = self.slots.try_acquire() else {
            let reason = "the worker is busy".to_owned();
            let release = Release { task_id: task.task_id, fence, delay_s: 0.0, reason };
            attempt.deliver(release.into_request()).await;
            return;
        };
        tracing::info!(task_id = %task.task_id, task_type = %task.task_type, attempt = task.attempt, "running");
        let report = attempt.run(&task, fence).await;
        // An owner that cannot be reached holds up its own loop, not the others.
        drop(slot);
        if let Some(report) = report {
            tracing::info!(task_id = %task.task_id, operation = report.name(), "reporting");
            attempt.deliver(report).await;
        }
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

/// When a worker dies its task waits this long; renewals cost one small message in each third of it.
const LEASE: Duration = Duration::from_secs(30);

/// One long poll: within it a connection that is dead is found so.
const CLAIM_WAIT: Duration = Duration::from_secs(20);
