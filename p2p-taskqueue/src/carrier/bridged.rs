use std::sync::Arc;

use async_trait::async_trait;
use runtime_bridge::{Bridge, CallError};

use crate::{
    Caller, ErrorCode, QueueError, Request, Response, TaskQueue,
    api::{BridgeStatus, Outcome},
};

/// A queue behind [`Bridge::run_in_p2p`]: whatever runtime the caller is on, the operation runs on the executor thread.
#[derive(Debug, Clone)]
pub struct BridgedQueue {
    bridge: Bridge,
    inner: Arc<dyn TaskQueue>,
}

impl BridgedQueue {
    /// Answers by asking `inner` on the bridge's executor thread.
    #[must_use]
    pub const fn new(bridge: Bridge, inner: Arc<dyn TaskQueue>) -> Self {
        Self { bridge, inner }
    }

    /// What crossed the boundary; `inline` is about the current thread.
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
        // Only the status of the node behind this bridge: a peer's has its own.
        let detailed = matches!(&request, Request::StatusQuery(query) if query.detail);
        let (inner, caller) = (Arc::clone(&self.inner), *caller);
        let answer = self.bridge.run_in_p2p(async move { inner.call(&caller, request).await }).await;
        let mut response = answer.map_err(|error| refusal(&error))??;
        if let (true, Response::Status(status)) = (detailed, &mut response) {
            status.bridge = Some(self.status());
        }
        Ok(response)
    }
}

fn refusal(error: &CallError) -> QueueError {
    match error {
        CallError::Overloaded { .. } => {
            QueueError::new(ErrorCode::Overloaded, error.to_string()).with_retry_after_s(0.1)
        }
        // It may have been under way when the thread ended.
        CallError::ShutDown => QueueError::new(ErrorCode::ShuttingDown, "the node is stopping").with_unknown_outcome(),
        CallError::DeadlineExceeded => QueueError::new(ErrorCode::Timeout, error.to_string()),
        CallError::OnExecutorThread => {
            QueueError { outcome: Outcome::NotApplied, ..QueueError::new(ErrorCode::Internal, error.to_string()) }
        }
        _ => QueueError::new(ErrorCode::Internal, error.to_string()),
    }
}
