use std::sync::Arc;

use async_trait::async_trait;

use crate::{Caller, QueueError, Request, Response, TaskQueue};

/// Answers for a caller that has no room left to wait.
///
/// Requests that are answered at once are passed on. Requests that would wait are refused as `overloaded`. A renewal or
/// a completion is passed on without its wait, because its lease would be lost otherwise.
#[derive(Debug, Clone)]
pub struct AtOnceQueue {
    inner: Arc<dyn TaskQueue>,
    /// What uses up the room, as named in the error message.
    taken_by: &'static str,
    limit: usize,
}

impl AtOnceQueue {
    /// Passes on to `inner` every request that does not wait. `taken_by` names what uses up the room, and `limit` is
    /// how many of them fill it.
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

/// The order of magnitude in which waits end, in seconds.
const RETRY_AFTER_S: f64 = 5.0;
