use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::task::AtomicWaker;
use runtime_bridge::Runtime;
use serde_json::value::RawValue;
use taskqueue_api::{ErrorCode, QueueError, RequestKind, Response, TaskRecord};
use tokio::sync::oneshot;

use super::{
    counts::{Counts, bytes_max, overloaded},
    handed_out::{give_back, handed_out},
    writer::{Lane, Written},
};
use crate::wire::{
    frame::FrameError,
    limits::QUEUED_BYTES_MAX,
    message::{Outgoing, read_answer},
    terms::Terms,
};

pub(super) type CallResult = Result<Response, QueueError>;

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error("the peer closed the connection")]
    ClosedByPeer,
    #[error("{0}")]
    Broken(String),
    #[error("the peer has not given a sign of life for half a minute")]
    Silent,
    #[error("the peer does not read what it is sent")]
    Stalled,
    #[error("this node closed the connection")]
    ClosedHere,
}

/// The state that the callers and the driver of a session share.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) next_id: AtomicU64,
    /// Wakes the driver when there is something to send or to do.
    pub(super) driver: AtomicWaker,
    pub(super) runtime: Arc<dyn Runtime>,
    /// The limits of the peer.
    pub(super) terms: Terms,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) calls: HashMap<u64, Call>,
    /// How many calls of each kind are in flight.
    counts: Counts,
    /// Urgent frames, which go ahead of `queue`.
    urgent: VecDeque<Queued>,
    queue: VecDeque<Queued>,
    /// The bytes of the frames in both queues.
    queued_bytes: usize,
    pub(super) phase: CallPhase,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum CallPhase {
    #[default]
    Open,
    /// The peer takes no new calls.
    PeerLeaves,
    /// This node takes and makes no new calls.
    Draining,
    /// The driver closes the connection at once.
    Closing,
    Ended(SessionEnd),
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) struct Call {
    /// The caller holds the other end. `None` after the caller has gone.
    pub(super) reply: Option<oneshot::Sender<CallResult>>,
    pub(super) is_claim: bool,
    pub(super) kind: RequestKind,
    /// The lane by which it is sent.
    pub(super) lane: Lane,
    /// Where its frame ends in the bytes of its lane. `None` while it is queued.
    pub(super) end: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Queued {
    Call { id: u64, frame: Vec<u8> },
    Cancel { id: u64 },
}

/// What the driver does besides sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    Drain,
    Close,
}

impl Shared {
    pub(super) fn new(runtime: Arc<dyn Runtime>, terms: Terms) -> Self {
        let (state, next_id, driver) = (Mutex::default(), AtomicU64::new(1), AtomicWaker::new());
        Self { state, next_id, driver, runtime, terms }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Only an allocation can panic under the lock, and the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue_call(&self, id: u64, frame: Vec<u8>, call: Call) -> Result<(), QueueError> {
        let mut state = self.lock();
        state.phase.refusal().map_or(Ok(()), Err)?;
        let (kind, lane) = (call.kind, call.lane);
        let what = if kind.waits() { "requests that wait at this peer" } else { "requests in flight to this peer" };
        state.counts.room(kind, self.terms).map_err(|max| overloaded(max, what))?;
        let bytes_max = bytes_max(kind, QUEUED_BYTES_MAX);
        if state.queued_bytes + frame.len() > bytes_max {
            return Err(overloaded(bytes_max, "bytes that wait for this peer to read them"));
        }
        state.counts.add(kind);
        state.calls.insert(id, call);
        state.queued_bytes += frame.len();
        self.push(state, lane, Queued::Call { id, frame });
        Ok(())
    }

    fn push(&self, mut state: MutexGuard<'_, State>, lane: Lane, queued: Queued) {
        let queue = state.queue(lane);
        let was_empty = queue.is_empty();
        queue.push_back(queued);
        drop(state);
        // When the queue was not empty, the driver was woken already or waits for the peer to read.
        if was_empty {
            self.driver.wake();
        }
    }

    /// Ends a call whose caller has gone: forgets a call that was not sent, and cancels a call that was sent.
    pub(super) fn give_up(&self, id: u64) {
        let mut state = self.lock();
        match state.calls.get_mut(&id) {
            Some(Call { end: None, .. }) => {
                state.remove(id);
            }
            Some(call) => {
                call.reply = None;
                let lane = call.lane;
                // The cancel is sent in the lane of its call, so it follows the call. There is at most one for each
                // call, so the queue stays bounded.
                self.push(state, lane, Queued::Cancel { id });
            }
            None => {}
        }
    }

    pub(super) const fn terms(&self) -> Terms {
        self.terms
    }

    pub(super) fn register(&self, cx: &std::task::Context<'_>) {
        self.driver.register(cx.waker());
    }

    pub(super) fn order(&self) -> Order {
        match self.lock().phase {
            CallPhase::Open | CallPhase::PeerLeaves => Order::GoOn,
            CallPhase::Draining => Order::Drain,
            CallPhase::Closing | CallPhase::Ended(_) => Order::Close,
        }
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.lock().calls.is_empty()
    }

    pub(super) fn has_queued(&self) -> bool {
        let state = self.lock();
        !state.urgent.is_empty() || !state.queue.is_empty()
    }

    /// Moves the lane's queued frames to `out` while it is shorter than `bytes_max`. `start` is the lane's position at
    /// the start of `out`.
    pub(super) fn take_queued(
        &self,
        lane: Lane,
        out: &mut Vec<u8>,
        start: u64,
        bytes_max: usize,
    ) -> Result<(), FrameError> {
        let mut state = self.lock();
        while out.len() < bytes_max {
            match state.queue(lane).pop_front() {
                Some(Queued::Call { id, frame }) => {
                    state.queued_bytes -= frame.len();
                    // The call is missing when its caller has gone.
                    if let Some(call) = state.calls.get_mut(&id) {
                        out.extend_from_slice(&frame);
                        call.end = Some(start + out.len() as u64);
                    }
                }
                Some(Queued::Cancel { id }) => {
                    if state.calls.contains_key(&id) {
                        Outgoing::Cancel { id }.put(out, self.terms.frame_bytes)?;
                    }
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Notes that the peer takes no new calls.
    pub(super) fn peer_leaves(&self) {
        let mut state = self.lock();
        if state.phase == CallPhase::Open {
            state.phase = CallPhase::PeerLeaves;
        }
    }

    /// Hands an answer to its caller. When the caller has gone, the answer is dropped, and the tasks that it hands out
    /// are given back.
    pub(super) fn deliver(&self, id: u64, ok: Option<&RawValue>, error: Option<&RawValue>) {
        let Some(call) = self.lock().remove(id) else { return };
        if call.reply.is_none() && !call.is_claim {
            return;
        }
        let undelivered = match call.reply {
            Some(reply) => reply.send(read_answer(ok, error)).err(),
            None => Some(read_answer(ok, error)),
        };
        if let Some(Ok(response)) = undelivered {
            handed_out(&response).iter().for_each(|task| self.give_back(task));
        }
    }

    /// The caller that claimed the task has gone.
    fn give_back(&self, task: &TaskRecord) {
        let Some(request) = give_back(task, "its claimant has gone") else { return };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut frame = Vec::new();
        let (kind, lane) = (RequestKind::Keeps, Lane::Urgent);
        let call = Call { reply: None, is_claim: false, kind, lane, end: None };
        let queued = (Outgoing::Call { id, request: &request })
            .put(&mut frame, self.terms.frame_bytes)
            .map_err(|error| unsendable(&error))
            .and_then(|()| self.queue_call(id, frame, call));
        if let Err(error) = queued {
            tracing::debug!(task_id = %task.task_id, %error, "a claimed task stays leased until its lease ends");
        }
    }

    /// Ends the session and answers every open call with the reason.
    pub(super) fn end(&self, end: &SessionEnd, written: Written) {
        let mut state = self.lock();
        if !matches!(state.phase, CallPhase::Ended(_)) {
            state.phase = CallPhase::Ended(end.clone());
        }
        state.urgent.clear();
        state.queue.clear();
        state.queued_bytes = 0;
        state.counts = Counts::default();
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        for call in calls.into_values() {
            // The peer cannot have acted on a frame whose last byte was not sent.
            let was_written = call.end.is_some_and(|end| end <= written.in_lane(call.lane));
            let code = if was_written { ErrorCode::Interrupted } else { ErrorCode::Unreachable };
            if let Some(reply) = call.reply {
                let _gone = reply.send(Err(QueueError::new(code, end.to_string())));
            }
        }
    }
}

impl State {
    fn queue(&mut self, lane: Lane) -> &mut VecDeque<Queued> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Common => &mut self.queue,
        }
    }

    fn remove(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.counts.take(call.kind);
        Some(call)
    }

    /// How much of each budget is in use: calls, calls of each kind, queued frames, and their bytes.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, Counts, usize, usize) {
        (self.calls.len(), self.counts, self.urgent.len() + self.queue.len(), self.queued_bytes)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl CallPhase {
    /// Returns the error for new calls, unless new calls can be made.
    fn refusal(&self) -> Option<QueueError> {
        let unreachable = |message: String| Some(QueueError::new(ErrorCode::Unreachable, message));
        match self {
            Self::Open => None,
            Self::PeerLeaves => unreachable("the peer is stopping".to_owned()),
            Self::Draining | Self::Closing => Some(QueueError::new(ErrorCode::ShuttingDown, "this node is stopping")),
            Self::Ended(end) => unreachable(end.to_string()),
        }
    }
}

pub(super) fn unsendable(error: &FrameError) -> QueueError {
    match *error {
        FrameError::TooLong { bytes, bytes_max } => QueueError::over_limit("request", bytes, bytes_max, "bytes"),
        _ => QueueError::new(ErrorCode::Internal, error.to_string()).with_nothing_applied(),
    }
}
