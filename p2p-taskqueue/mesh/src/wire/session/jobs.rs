use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt, Stream,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use taskqueue_api::{Caller, ErrorCode, QueueError, Request, RequestKind, TaskQueue};

use super::{
    calls::CallResult,
    counts::{Counts, bytes_max, is_overloaded, overloaded},
    writer::Lane,
};
use crate::wire::limits::INBOUND_BYTES_MAX;

/// The queue that answers a peer's requests, and the caller as which the peer asks.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) caller: Caller,
}

/// A job. It gives the id of the request and the answer. The answer is `None` when the job was aborted, and the whole
/// is `None` for a job that the peer did not ask for.
type Handling = Pin<Box<dyn Future<Output = Option<(u64, Option<CallResult>)>> + Send>>;

/// The requests of a peer that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// The jobs whose answers are urgent.
    urgent: Running,
    common: Running,
    entries: HashMap<u64, Entry>,
    /// The number of entries of each kind.
    counts: Counts,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Running {
    jobs: FuturesUnordered<Handling>,
    is_polled: bool,
}

#[derive(Debug)]
struct Entry {
    abort: AbortHandle,
    bytes: usize,
    kind: RequestKind,
    /// Whether the operation may have made a change before it ends its wait.
    changes: bool,
    aborted: Aborted,
}

/// Why a job is aborted.
#[derive(Debug, Clone, Copy)]
enum Aborted {
    GivenUp,
    Stopping,
}

/// The peer uses the id of a request that is not answered yet.
#[derive(Debug)]
pub(super) struct RepeatedId;

impl Jobs {
    /// Starts a job, or returns the refusal to answer with when a bound is reached.
    ///
    /// When only the wait of a renewal or a completion finds no room, the job runs without the wait.
    pub(super) fn start(
        &mut self,
        id: u64,
        request: Request,
        bytes: usize,
        service: &Service,
        cx: &mut Context<'_>,
    ) -> Result<Result<(), QueueError>, RepeatedId> {
        if self.entries.contains_key(&id) {
            return Err(RepeatedId);
        }
        let mut request = request;
        let mut admitted = self.admit(&request, bytes);
        if let Some(at_once) = request.without_wait().filter(|_| admitted.as_ref().is_err_and(is_overloaded)) {
            request = at_once;
            admitted = self.admit(&request, bytes);
        }
        if let Err(refusal) = admitted {
            return Ok(Err(refusal));
        }
        let (kind, lane, changes) = (RequestKind::of(&request), lane_of(&request), request.changes_before_it_waits());
        let is_made_now = request.hands_out() && request.inner().facts().keeps_lease;
        let Service { queue, caller } = service.clone();
        let job = AssertUnwindSafe(async move { queue.call(&caller, request).await }).catch_unwind();
        let (abort, registration) = AbortHandle::new_pair();
        let job = Abortable::new(job, registration).map(move |ended| match ended {
            Ok(Ok(outcome)) => Some((id, Some(outcome))),
            // The panic hook writes the message of the panic to the log. The peer is not told.
            Ok(Err(_panic)) => Some((id, Some(Err(QueueError::new(ErrorCode::Internal, "the operation panicked"))))),
            Err(_aborted) => Some((id, None)),
        });
        let mut job: Handling = Box::pin(job);
        // A completion that claims the next task is polled once now, so that the completion is made. Its answer hands
        // out a task and is not urgent, so the job may otherwise not run until the peer reads.
        if is_made_now && let Poll::Ready(ended) = job.as_mut().poll(cx) {
            job = Box::pin(std::future::ready(ended));
        }
        self.running(lane).push(job);
        self.entries.insert(id, Entry { abort, bytes, kind, changes, aborted: Aborted::GivenUp });
        self.counts.add(kind);
        self.bytes += bytes;
        Ok(Ok(()))
    }

    fn running(&mut self, lane: Lane) -> &mut Running {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Common => &mut self.common,
        }
    }

    /// Makes these requests one after the other on the peer's behalf. The peer is sent no answers.
    pub(super) fn ask(&mut self, requests: Vec<Request>, service: &Service) {
        if requests.is_empty() {
            return;
        }
        let Service { queue, caller } = service.clone();
        let job = async move {
            for request in requests {
                if let Err(error) = queue.call(&caller, request).await {
                    tracing::debug!(%error, "a claimed task stays leased until its lease ends");
                }
            }
        };
        // The job is urgent, because it waits for nothing that the peer does. There are at most as many requests as
        // tasks that were handed out.
        self.urgent.push(Box::pin(AssertUnwindSafe(job).catch_unwind().map(|_done_or_panicked| None)));
    }

    fn admit(&self, request: &Request, bytes: usize) -> Result<(), QueueError> {
        let kind = RequestKind::of(request);
        self.counts.inbound_room(kind)?;
        let bytes_max = bytes_max(kind, INBOUND_BYTES_MAX);
        if self.bytes + bytes > bytes_max {
            return Err(overloaded(bytes_max, "bytes of this peer's requests in flight"));
        }
        Ok(())
    }

    /// Drops the job of a request that the caller has given up.
    pub(super) fn cancel(&self, id: u64) {
        if let Some(entry) = self.entries.get(&id) {
            entry.abort.abort();
        }
    }

    /// Ends the requests that wait, since they could outlast a shutdown.
    ///
    /// The caller may ask again later or elsewhere. A completion that waits for the next task may have been made
    /// already; when it is repeated, its answer tells so.
    pub(super) fn end_long_polls(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.kind.waits()) {
            entry.aborted = Aborted::Stopping;
            entry.abort.abort();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.jobs.is_empty() && self.common.jobs.is_empty()
    }

    /// Notes that jobs of this lane may be ready and were not polled.
    pub(super) fn hold_back(&mut self, lane: Lane) {
        self.running(lane).is_polled = false;
    }

    /// Whether every job that was ready has been polled.
    pub(super) const fn is_polled(&self) -> bool {
        self.urgent.is_polled && self.common.is_polled
    }

    /// Returns the lane's next answer. It is pending while all jobs of the lane wait, and when there are none.
    pub(super) fn poll_answer(&mut self, lane: Lane, cx: &mut Context<'_>) -> Poll<(u64, CallResult)> {
        let (id, outcome) = std::task::ready!(self.running(lane).poll_next(cx));
        let entry = self.entries.remove(&id);
        if let Some(entry) = &entry {
            self.bytes -= entry.bytes;
            self.counts.take(entry.kind);
        }
        Poll::Ready((id, outcome.unwrap_or_else(|| Err(aborted(entry.as_ref())))))
    }

    /// Returns how much of each budget is in use: jobs, entries, entries of each kind, and the bytes of their requests.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize, Counts, usize) {
        (self.urgent.jobs.len() + self.common.jobs.len(), self.entries.len(), self.counts, self.bytes)
    }
}

impl Running {
    fn push(&mut self, job: Handling) {
        self.jobs.push(job);
        self.is_polled = false;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Option<CallResult>)> {
        self.is_polled = false;
        loop {
            match Pin::new(&mut self.jobs).poll_next(cx) {
                Poll::Ready(Some(Some(answer))) => return Poll::Ready(answer),
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => {
                    self.is_polled = true;
                    return Poll::Pending;
                }
            }
        }
    }
}

fn aborted(entry: Option<&Entry>) -> QueueError {
    let stopping = || QueueError::new(ErrorCode::ShuttingDown, "the node is stopping");
    match entry {
        Some(Entry { aborted: Aborted::Stopping, changes: true, .. }) => stopping().with_unknown_outcome(),
        Some(Entry { aborted: Aborted::Stopping, .. }) => stopping(),
        _ => QueueError::new(ErrorCode::Interrupted, "the caller gave it up"),
    }
}

/// Returns the lane in which the request's answer is sent.
pub(super) fn lane_of(request: &Request) -> Lane {
    if request.is_urgent() { Lane::Urgent } else { Lane::Common }
}
