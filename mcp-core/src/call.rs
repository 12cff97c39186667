use std::{sync::Arc, time::Duration};

use taskqueue_api::{
    At, Caller, ErrorCode, Facts, Operation, QueueError, Request, Response, Target, TaskQueue, limits::WAIT_S_MAX,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::{
    McpConfig,
    overload::RETRY_AFTER_S,
    principal::{Principal, Share},
};

/// The only path to the queue for what clients ask: no tool, resource or method has the queue itself. So everything
/// that a client asks passes the guard of what it may do. Each call has a time limit. Calls that wait also have a bound on their
/// number, and they end when the server shuts down.
#[derive(Debug)]
pub(crate) struct Calls {
    queue: Arc<dyn TaskQueue>,
    timeout: Duration,
    /// The places for waiting calls. Each such call holds one while it waits, so that waiting calls leave room for the
    /// others.
    waiting: Share,
    shutdown: CancellationToken,
}

impl Calls {
    pub(crate) fn new(queue: Arc<dyn TaskQueue>, config: &McpConfig) -> Self {
        Self {
            queue,
            timeout: config.call_timeout,
            waiting: Share::new(config.waiting_calls_max),
            shutdown: config.shutdown.clone(),
        }
    }

    /// Sends one operation to the target in the name of the principal, and returns its answer.
    ///
    /// # Errors
    ///
    /// `forbidden` when the principal may not do this, and `not_found` when a task is not its own; the queue's own
    /// error; `timeout` when the queue does not answer in time; `overloaded` when too many calls wait
    /// already; `shutting_down` when the server stops during a wait.
    ///
    /// # Cancel safety
    ///
    /// As [`TaskQueue::call`], whose future is dropped with this one.
    pub(crate) async fn ask<O: Operation>(
        &self,
        principal: &Principal,
        target: Target,
        operation: O,
    ) -> Result<O::Answer, QueueError> {
        let mut request = operation.into_request();
        principal.sign(&mut request);
        let request = At::request(target, request);
        let wait = wait_of(&request);
        let _places = if wait.is_zero() { None } else { Some(self.places(principal)?) };
        let stopping = stopping(&request);
        let limit = self.timeout.saturating_add(wait).saturating_add(patience_of(&request));
        let call = tokio::time::timeout(limit, self.guarded(principal, request));
        let response = tokio::select! {
            answer = call => answer.unwrap_or_else(|_| Err(no_answer(limit)))?,
            () = self.shutdown.cancelled(), if !wait.is_zero() => return Err(stopping),
        };
        O::answer(response)
    }

    /// Makes the request of the queue if the principal may make it.
    async fn guarded(&self, principal: &Principal, request: Request) -> Result<Response, QueueError> {
        match principal.guard() {
            None => self.queue.call(&Caller::Local, request).await,
            // Boxed, so that the calls of servers without tokens are no larger than their own.
            Some(guard) => Box::pin(guard.call(&*self.queue, &Caller::Local, &Caller::Local, request)).await,
        }
    }

    /// Takes a place among the client's waits and one among all waits.
    fn places(
        &self,
        principal: &Principal,
    ) -> Result<(Option<OwnedSemaphorePermit>, OwnedSemaphorePermit), QueueError> {
        let own = principal.wait()?;
        Ok((own, self.waiting.take("too many calls wait already: ask without waiting, or later")?))
    }

    /// Returns how many calls wait at this moment.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.taken()
    }
}

/// The access of one client to the queue, for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    calls: &'a Calls,
    principal: &'a Principal,
}

impl<'a> Asker<'a> {
    pub(crate) const fn new(calls: &'a Calls, principal: &'a Principal) -> Self {
        Self { calls, principal }
    }

    /// Tells whether this client may ask for an operation at all.
    pub(crate) fn allows(self, facts: &Facts) -> bool {
        self.principal.allows(facts)
    }

    /// Asks as [`Calls::ask`] does, in the name of this client.
    pub(crate) async fn ask<O: Operation>(self, target: Target, operation: O) -> Result<O::Answer, QueueError> {
        self.calls.ask(self.principal, target, operation).await
    }
}

/// Makes the error that a stopping server answers.
pub(crate) fn shutting_down() -> QueueError {
    QueueError::new(ErrorCode::ShuttingDown, "the server is stopping: ask again when it is back")
        .with_retry_after_s(RETRY_AFTER_S)
}

/// Makes the same error for a call that waits. The outcome is unknown if the call may have changed something before its
/// wait.
fn stopping(request: &Request) -> QueueError {
    let error = shutting_down();
    if request.changes_before_it_waits() { error.with_unknown_outcome() } else { error }
}

fn no_answer(limit: Duration) -> QueueError {
    QueueError::new(ErrorCode::Timeout, format!("the queue did not answer within {} s", limit.as_secs_f64()))
}

/// Returns how long the operation itself asks to wait.
fn wait_of(request: &Request) -> Duration {
    span(request.wait_s())
}

/// Returns how long the operation lets a peer take to answer. This is not a wait, because the call ends as soon as the
/// peer answers.
fn patience_of(request: &Request) -> Duration {
    match request {
        Request::StatusQuery(query) => span(query.timeout_s),
        Request::At(at) => patience_of(&at.request),
        _ => Duration::ZERO,
    }
}

fn span(seconds: f64) -> Duration {
    // The arguments have not been checked yet, so the number may be NaN, negative or huge.
    Duration::try_from_secs_f64(seconds.min(WAIT_S_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use taskqueue_api::{Claim, PeerId, Peers, TaskId, Wait};

    use super::*;

    #[test]
    fn the_wait_is_what_the_operation_asks_for() {
        let wait = |timeout_s| Wait::one(TaskId::from_bytes([0; 16]), timeout_s).into_request();
        let claim = Claim { wait_s: 2.5, ..Claim::new("w") }.into_request();
        assert_eq!(wait_of(&wait(60.0)), Duration::from_secs(60));
        assert_eq!(wait_of(&claim), Duration::from_millis(2_500));
        assert_eq!(wait_of(&At::request(Target::peer(PeerId::random()), claim)), Duration::from_millis(2_500));
        assert_eq!(wait_of(&Peers::default().into_request()), Duration::ZERO);
        assert_eq!(wait_of(&wait(1e300)), Duration::from_secs_f64(WAIT_S_MAX));
        assert_eq!(wait_of(&wait(f64::NAN)), Duration::from_secs_f64(WAIT_S_MAX));
        assert_eq!(wait_of(&wait(-1.0)), Duration::ZERO);
    }
}
