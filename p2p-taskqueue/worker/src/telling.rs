use std::{sync::Arc, time::Duration};

use runtime_bridge::Runtime;
use taskqueue_api::{
    Caller, ErrorCode, QueueError, TaskQueue, TaskQueueExt as _, TellWorkers, WorkerOffer, WorkersTold,
    limits::WORKER_STANDS_S,
};
use tokio::sync::watch;

/// Tells the node of this machine what the worker takes and how busy it is, as long as it runs.
pub(crate) struct Telling {
    pub(crate) offer: WorkerOffer,
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// How many tasks run. The pool holds the sender.
    pub(crate) busy: watch::Receiver<u32>,
    /// The worker holds the sender.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Set once the node has been told of the worker, whatever it has answered.
    pub(crate) is_told: watch::Sender<bool>,
}

impl Telling {
    /// Runs until the worker stops. A queue without a node keeps no list of workers; then there is nothing to tell.
    pub(crate) async fn run(mut self) {
        let mut is_known = false;
        loop {
            let told = if is_known { self.tell_busy().await } else { self.tell_all().await };
            let was_told = self.is_told.send_replace(true);
            is_known = match told {
                Ok(told) => told.unknown.is_empty(),
                Err(error) if error.code == ErrorCode::Unsupported => return,
                Err(error) => {
                    if !was_told {
                        let worker_id = &self.offer.worker_id;
                        tracing::warn!(worker_id, %error, "the mesh does not hear of the worker, which works all the same");
                    }
                    // What the node has heard is not known.
                    false
                }
            };
            if self.is_over(is_known).await {
                break;
            }
        }
        let stopped = TellWorkers { stopped: vec![self.offer.instance.clone()], ..TellWorkers::default() };
        if let Err(error) = self.queue.tell_workers(&Caller::Local, stopped).await {
            tracing::debug!(%error, "the node could not be told that the worker has stopped");
        }
    }

    async fn tell_all(&mut self) -> Result<WorkersTold, QueueError> {
        let offer = WorkerOffer { busy: *self.busy.borrow_and_update(), ..self.offer.clone() };
        let all = TellWorkers { workers: vec![offer], ..TellWorkers::default() };
        self.queue.tell_workers(&Caller::Local, all).await
    }

    async fn tell_busy(&mut self) -> Result<WorkersTold, QueueError> {
        let busy = *self.busy.borrow_and_update();
        let busy = TellWorkers { busy: [(self.offer.instance.clone(), busy)].into(), ..TellWorkers::default() };
        self.queue.tell_workers(&Caller::Local, busy).await
    }

    /// Waits until there is something to tell again. Returns whether the worker stops.
    async fn is_over(&mut self, is_known: bool) -> bool {
        let pause = if is_known { Duration::from_secs_f64(WORKER_STANDS_S / 3.0) } else { TRY_AGAIN };
        let now = self.runtime.now();
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return true,
            () = self.runtime.sleep_until(now + pause) => return false,
            // When the pool is gone, the worker is.
            changed = self.busy.changed(), if is_known => if changed.is_err() {
                return true;
            },
        }
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => true,
            () = self.runtime.sleep_until(now + BUSY_PAUSE) => false,
        }
    }
}

/// The pause between two messages about the number of running tasks.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// The pause before a node that could not be told is told again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
