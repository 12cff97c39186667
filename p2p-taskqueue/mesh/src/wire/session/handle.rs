use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::{Either, select};
use runtime_bridge::Runtime;
use taskqueue_api::{ErrorCode, QueueError, Request, RequestKind};
use tokio::sync::oneshot;

use super::{
    calls::{Call, CallPhase, CallResult, Shared, unsendable},
    counts::is_overloaded,
    writer::Lane,
};
use crate::wire::{limits::URGENT_REQUEST_BYTES_MAX, message::Outgoing, terms::Terms};

/// The caller's side of a session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session {
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn new(runtime: Arc<dyn Runtime>, terms: Terms) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared::new(runtime, terms));
        (Self { shared: Arc::clone(&shared) }, shared)
    }

    /// Makes a request to the peer and waits for its answer.
    ///
    /// # Errors
    ///
    /// Returns the error of the peer; `timeout` when the peer does not answer in time; `interrupted` when the session
    /// ends after the request was written, and `unreachable` when it ends before, so that nothing was asked;
    /// `overloaded` when a bound is reached; `limit_exceeded` when the request is longer than the peer takes;
    /// `shutting_down` when this node is stopping.
    ///
    /// When only the wait of a renewal or a completion finds no room, the request is sent without its wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future tells the peer to give up the request. The peer may have carried it out already.
    pub(crate) async fn call(&self, request: &Request, timeout: Duration) -> CallResult {
        let (id, answer) = match self.send(request) {
            Err(error) if is_overloaded(&error) => match request.without_wait() {
                Some(at_once) => self.send(&at_once),
                None => Err(error),
            },
            sent => sent,
        }?;
        let outstanding = Outstanding { shared: &self.shared, id };
        let deadline = self.shared.runtime.now() + timeout;
        match select(answer, self.shared.runtime.sleep_until(deadline)).await {
            Either::Left((answered, _)) => {
                std::mem::forget(outstanding);
                // The driver answers every call before it ends.
                answered.unwrap_or_else(|_| Err(QueueError::new(ErrorCode::Interrupted, "the session ended")))
            }
            Either::Right(_) => {
                drop(outstanding);
                let message = format!("no answer within {} s", timeout.as_secs_f64());
                Err(QueueError::new(ErrorCode::Timeout, message))
            }
        }
    }

    /// Queues the request. Returns its id and the receiver of its answer.
    fn send(&self, request: &Request) -> Result<(u64, oneshot::Receiver<CallResult>), QueueError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        (Outgoing::Call { id, request })
            .put(&mut frame, self.shared.terms.frame_bytes)
            .map_err(|error| unsendable(&error))?;
        let goes_ahead = request.is_urgent() && frame.len() <= URGENT_REQUEST_BYTES_MAX;
        let lane = if goes_ahead { Lane::Urgent } else { Lane::Common };
        let (reply, answer) = oneshot::channel();
        let call =
            Call { reply: Some(reply), is_claim: request.hands_out(), kind: RequestKind::of(request), lane, end: None };
        self.shared.queue_call(id, frame, call)?;
        Ok((id, answer))
    }

    /// Returns the limits of the peer and the features that both ends have.
    pub(crate) fn terms(&self) -> Terms {
        self.shared.terms()
    }

    /// Whether a change may be asked for again when the peer may have made it already.
    pub(crate) fn may_repeat(&self) -> bool {
        self.shared.terms.may_repeat
    }

    /// Whether new calls can be made.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.lock().phase == CallPhase::Open
    }

    /// Whether both are handles of one session.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Tells the peer to make no new calls, lets the calls in flight end, and then closes the connection. The peer's
    /// requests that wait are answered with `shutting_down`.
    pub(crate) fn drain(&self) {
        self.advance(CallPhase::Draining);
    }

    /// Closes the connection at once.
    pub(crate) fn close(&self) {
        self.advance(CallPhase::Closing);
    }

    fn advance(&self, to: CallPhase) {
        let mut state = self.shared.lock();
        let is_later = match state.phase {
            CallPhase::Open | CallPhase::PeerLeaves => true,
            CallPhase::Draining => to == CallPhase::Closing,
            CallPhase::Closing | CallPhase::Ended(_) => false,
        };
        if is_later {
            state.phase = to;
            drop(state);
            self.shared.driver.wake();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Session").field("phase", &state.phase).field("calls", &state.calls.len()).finish()
    }
}

/// A call whose caller waits. Dropping it gives up the call.
struct Outstanding<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.shared.give_up(self.id);
    }
}
