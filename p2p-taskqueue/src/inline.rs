use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures::FutureExt;
use runtime_bridge::Bridge;
use taskqueue_api::{BridgeStatus, Caller, ErrorCode, QueueError, Request, Response, TaskQueue};

/// A queue that runs operations on its caller's thread, for callers that are on the executor thread themselves.
///
/// No call crosses a boundary. Calls are counted, and a panic becomes an error, as in a
/// [`BridgedQueue`](super::BridgedQueue).
#[derive(Debug, Clone)]
pub struct InlineQueue {
    /// Tells whether a caller really is on the executor thread. No call goes over it.
    bridge: Bridge,
    inner: Arc<dyn TaskQueue>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    calls: AtomicU64,
    in_flight: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
}

impl InlineQueue {
    /// Makes a queue that asks `inner` on the caller's own thread, which should be the bridge's executor thread.
    #[must_use]
    pub fn new(bridge: Bridge, inner: Arc<dyn TaskQueue>) -> Self {
        Self { bridge, inner, tally: Arc::default() }
    }

    /// Returns the counters. `inline` says whether the current thread is the executor thread.
    fn status(&self) -> BridgeStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BridgeStatus {
            inline: self.bridge.is_p2p_context(),
            calls: count(&self.tally.calls),
            in_flight: count(&self.tally.in_flight),
            cancelled: count(&self.tally.cancelled),
            panicked: count(&self.tally.panicked),
            overloaded: 0,
        }
    }
}

#[async_trait]
impl TaskQueue for InlineQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        // Only the status of the node itself is completed. A peer's status has the counters of that peer.
        let detailed = matches!(&request, Request::StatusQuery(query) if query.detail);
        let under_way = UnderWay::begin(&self.tally);
        let answer = AssertUnwindSafe(self.inner.call(caller, request)).catch_unwind().await;
        under_way.end();
        let mut response = answer.unwrap_or_else(|_| {
            self.tally.panicked.fetch_add(1, Ordering::Relaxed);
            Err(QueueError::new(ErrorCode::Internal, "the call panicked").with_unknown_outcome())
        })?;
        if let (true, Response::Status(status)) = (detailed, &mut response) {
            status.bridge = Some(self.status());
        }
        Ok(response)
    }
}

/// A call that has begun. It counts as cancelled when it is dropped before its end.
struct UnderWay<'a> {
    tally: &'a Tally,
    is_cancelled: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(tally: &'a Tally) -> Self {
        tally.calls.fetch_add(1, Ordering::Relaxed);
        tally.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { tally, is_cancelled: true }
    }

    fn end(mut self) {
        self.is_cancelled = false;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.tally.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_cancelled {
            self.tally.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}
