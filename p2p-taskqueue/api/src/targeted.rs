use std::sync::Arc;

use async_trait::async_trait;

use crate::{At, Caller, QueueError, Request, Response, Target, TaskQueue};

/// A queue that asks one peer: its inner queue passes every operation on to the target.
#[derive(Debug, Clone)]
pub struct TargetedQueue {
    inner: Arc<dyn TaskQueue>,
    target: Target,
}

impl TargetedQueue {
    /// Directs every operation at `target`, or at the local node when `target` names no peer.
    #[must_use]
    pub const fn new(inner: Arc<dyn TaskQueue>, target: Target) -> Self {
        Self { inner, target }
    }
}

#[async_trait]
impl TaskQueue for TargetedQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.inner.call(caller, At::request(self.target.clone(), request)).await
    }
}
