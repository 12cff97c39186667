use std::sync::Arc;

use async_trait::async_trait;

use crate::{Caller, QueueError, Request, Response, TaskQueue};

/// A queue for somebody whose waits there is no room for: what is answered at once is passed on, and what would wait is
/// refused as `overloaded`. A renewal or a completion is made without its wait, since its lease would be lost.
#[derive(Debug, Clone)]
pub struct AtOnceQueue {
    inner: Arc<dyn TaskQueue>,
    /// Who has the room, for the message.
    taken_by: &'static str,
    limit: usize,
}

impl AtOnceQueue {
    /// Passes on to `inner` what does not wait. `limit` of what `taken_by` names have all the room there is for waits.
    #[must_use]
    pub const fn new(inner: Arc<dyn TaskQueue>, limit: usize, taken_by: &'static str) -> Self {
        Self { inner, taken_by, limit }
    }
}

#[async_trait]
impl TaskQueue for AtOnceQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        let request = match request.without_wait() {
            Some(at_once) => at_once,
            None if request.waits() => {
                return Err(QueueError::overloaded(self.limit, self.taken_by, RETRY_AFTER_S));
            }
            None => request,
        };
        self.inner.call(caller, request).await
    }
}

/// Waits end within this order of time.
const RETRY_AFTER_S: f64 = 5.0;
