use std::sync::Arc;

use async_trait::async_trait;
use runtime_bridge::{Bridge, CallError};
use taskqueue_api::{BridgeStatus, Caller, ErrorCode, QueueError, Request, Response, TaskQueue};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A queue behind [`Bridge::run_in_p2p`]. The operation runs on the executor thread, whatever runtime the caller is on.
#[derive(Debug, Clone)]
pub struct BridgedQueue {
    bridge: Bridge,
    inner: Arc<dyn TaskQueue>,
    /// Each call that waits holds a permit. They take at most three quarters of the bridge's calls, and leave the rest
    /// to calls that do not wait.
    waits: Arc<Semaphore>,
    waits_max: usize,
}

impl BridgedQueue {
    /// Makes a queue that asks `inner` on the bridge's executor thread.
    #[must_use]
    pub fn new(bridge: Bridge, inner: Arc<dyn TaskQueue>) -> Self {
        let max = bridge.max_in_flight().min(Semaphore::MAX_PERMITS);
        let waits_max = max - max / 4;
        Self { bridge, inner, waits: Arc::new(Semaphore::new(waits_max)), waits_max }
    }

    /// Takes a permit for a request that waits. A renewal or a completion that finds none is made without its wait.
    fn place(&self, request: Request) -> Result<(Request, Option<SemaphorePermit<'_>>), QueueError> {
        if !request.waits() {
            return Ok((request, None));
        }
        match self.waits.try_acquire() {
            Ok(place) => Ok((request, Some(place))),
            Err(_full) => request
                .without_wait()
                .map(|at_once| (at_once, None))
                .ok_or_else(|| QueueError::overloaded(self.waits_max, "calls that wait", RETRY_AFTER_S)),
        }
    }

    /// Returns the counters of the bridge. `inline` says whether the current thread is the executor thread.
    fn status(&self) -> BridgeStatus {
        let counters = self.bridge.counters();
        BridgeStatus {
            inline: self.bridge.is_p2p_context(),
            calls: counters.calls,
            in_flight: counters.in_flight as u64,
            cancelled: counters.cancelled,
            panicked: counters.panicked,
            overloaded: counters.overloaded,
        }
    }
}

#[async_trait]
impl TaskQueue for BridgedQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        // Only the status of the node behind this bridge is completed. A peer's status has the counters of that peer.
        let detailed = matches!(&request, Request::StatusQuery(query) if query.detail);
        let (request, _place) = self.place(request)?;
        let (inner, caller) = (Arc::clone(&self.inner), caller.clone());
        let answer = self.bridge.run_in_p2p(async move { inner.call(&caller, request).await }).await;
        let mut response = answer.map_err(|error| refusal(&error))??;
        if let (true, Response::Status(status)) = (detailed, &mut response) {
            status.bridge = Some(self.status());
        }
        Ok(response)
    }
}

pub(crate) fn refusal(error: &CallError) -> QueueError {
    match error {
        CallError::Overloaded { .. } => {
            QueueError::new(ErrorCode::Overloaded, error.to_string()).with_retry_after_s(RETRY_AFTER_S)
        }
        // The call may have been under way when the thread ended.
        CallError::ShutDown => QueueError::new(ErrorCode::ShuttingDown, "the node is stopping").with_unknown_outcome(),
        CallError::DeadlineExceeded => QueueError::new(ErrorCode::Timeout, error.to_string()),
        CallError::OnExecutorThread => QueueError::new(ErrorCode::Internal, error.to_string()).with_nothing_applied(),
        _ => QueueError::new(ErrorCode::Internal, error.to_string()),
    }
}

/// The `retry_after_s` of an overloaded bridge, in seconds. Calls that do not wait take a fraction of this time.
const RETRY_AFTER_S: f64 = 0.1;
