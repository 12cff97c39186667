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

use crate::{
    Caller, ErrorCode, QueueError, Request, Response, TaskQueue,
    wire::limits::{IN_FLIGHT_MAX, INBOUND_BYTES_MAX, RETRY_AFTER_S},
};

/// What answers a peer's requests, and as whom the peer asks.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) caller: Caller,
}

type Outcome = Result<Response, QueueError>;
/// None for what nobody waits for.
type Job = Pin<Box<dyn Future<Output = Option<(u64, Option<Outcome>)>> + Send>>;

/// What a peer has asked and is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    running: FuturesUnordered<Job>,
    entries: HashMap<u64, Entry>,
    bytes: usize,
    is_polled: bool,
}

#[derive(Debug)]
struct Entry {
    abort: AbortHandle,
    bytes: usize,
    is_long_poll: bool,
    /// Whether the operation may have taken effect while it still waits.
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
    /// Takes a job up, unless a bound is reached: then the answer is given at once.
    pub(super) fn start(
        &mut self,
        id: u64,
        request: Request,
        bytes: usize,
        service: &Service,
    ) -> Result<Result<(), QueueError>, RepeatedId> {
        if self.entries.contains_key(&id) {
            return Err(RepeatedId);
        }
        if let Err(refusal) = self.admit(bytes) {
            return Ok(Err(refusal));
        }
        let (is_long_poll, changes) = (is_long_poll(&request), request.changes_before_it_waits());
        let Service { queue, caller } = service.clone();
        let job = AssertUnwindSafe(async move { queue.call(&caller, request).await }).catch_unwind();
        let (abort, registration) = AbortHandle::new_pair();
        let job = Abortable::new(job, registration).map(move |ended| match ended {
            Ok(Ok(outcome)) => Some((id, Some(outcome))),
            // The message of the panic is for the log, which the panic hook writes.
            Ok(Err(_panic)) => Some((id, Some(Err(QueueError::new(ErrorCode::Internal, "the operation panicked"))))),
            Err(_aborted) => Some((id, None)),
        });
        self.running.push(Box::pin(job));
        self.is_polled = false;
        self.entries.insert(id, Entry { abort, bytes, is_long_poll, changes, aborted: Aborted::GivenUp });
        self.bytes += bytes;
        Ok(Ok(()))
    }

    /// Asks these one after the other on the peer's behalf, which hears nothing of it. Counts as one request in flight.
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
        self.running.push(Box::pin(AssertUnwindSafe(job).catch_unwind().map(|_done_or_panicked| None)));
        self.is_polled = false;
    }

    fn admit(&self, bytes: usize) -> Result<(), QueueError> {
        let overloaded = |limit, what| Err(QueueError::overloaded(limit, what, RETRY_AFTER_S));
        if self.running.len() >= IN_FLIGHT_MAX {
            return overloaded(IN_FLIGHT_MAX, "requests of this peer in flight");
        }
        // A single request that is larger than all may be together does not exist: frames are smaller.
        if self.bytes + bytes > INBOUND_BYTES_MAX {
            return overloaded(INBOUND_BYTES_MAX, "bytes of this peer's requests in flight");
        }
        Ok(())
    }

    /// The caller no longer wants the answer: the job is dropped.
    pub(super) fn cancel(&self, id: u64) {
        if let Some(entry) = self.entries.get(&id) {
            entry.abort.abort();
        }
    }

    /// Ends what would outlast a shutdown. The caller may ask again elsewhere or later; a completion that waits for the next
    /// task is perhaps done, and asking again says so.
    pub(super) fn end_long_polls(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.is_long_poll) {
            entry.aborted = Aborted::Stopping;
            entry.abort.abort();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Notes that jobs that are ready were not polled.
    pub(super) const fn hold_back(&mut self) {
        self.is_polled = false;
    }

    /// Whether every job that was ready has been polled.
    pub(super) const fn is_polled(&self) -> bool {
        self.is_polled
    }

    /// The next answer; pending when all jobs wait, and when there are none.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Outcome)> {
        self.is_polled = false;
        let (id, outcome) = loop {
            match Pin::new(&mut self.running).poll_next(cx) {
                Poll::Ready(Some(Some(answer))) => break answer,
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => {
                    self.is_polled = true;
                    return Poll::Pending;
                }
            }
        };
        let entry = self.entries.remove(&id);
        self.bytes -= entry.as_ref().map_or(0, |entry| entry.bytes);
        Poll::Ready((id, outcome.unwrap_or_else(|| Err(aborted(entry.as_ref())))))
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

/// Whether the request waits for something to happen.
pub(super) fn is_long_poll(request: &Request) -> bool {
    request.wait_s() > 0.0
}
