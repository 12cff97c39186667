//! Which requests are asked again when the answer may have been lost, and how.

use std::time::Duration;

use runtime_bridge::Runtime;
use taskqueue_api::{
    Adds, ErrorCode, QueueError, Repeat, Request, Response, Submit, SubmitResult, Submitted, Wait, limits,
};

use super::{
    submitted,
    timeout::{seconds, timeout_of},
};
use crate::wire::{
    Session,
    limits::{LONG_POLL_MARGIN, REQUEST_TIMEOUT},
};

/// Where sessions with one peer come from.
pub(super) trait Sessions: Sync {
    /// An open session or a new one, within the time. With `waits`, it also waits for a peer that is restarting: the caller
    /// wants to know what became of its change.
    fn session(&self, waits: bool, within: Duration) -> impl Future<Output = Result<Session, QueueError>> + Send;
}

/// Asks a peer, and asks once more on a second session when the first one breaks: always if the request was not sent, and
/// otherwise only if asking twice has the same effect as asking once.
///
/// The answer to the repetition reads as if the request had been sent once: `duplicate` and `repeated` tell what the caller
/// did, and the caller did not repeat anything. A completion keeps its `repeated` when the answer lacks the ids of its tasks,
/// as an earlier version's does. An error after a change that may have been made has an unknown outcome.
pub(super) async fn ask<S: Sessions>(
    sessions: &S,
    mut request: Request,
    runtime: &dyn Runtime,
) -> Result<Response, QueueError> {
    let twice = request.repeat();
    let timeout = timeout_of(&request);
    let started = runtime.now();
    let left = || timeout.saturating_sub(runtime.now().saturating_duration_since(started));
    submitted::draw_ids(&mut request);
    // What became of a request that may have been applied.
    let mut lost: Option<QueueError> = None;
    for _ in 0..SESSIONS_MAX {
        let is_change_lost = lost.is_some() && twice != Repeat::Reads;
        let session = match sessions.session(is_change_lost, left()).await {
            Ok(session) => session,
            // The error of the second session does not tell what became of the first request.
            Err(error) => return Err(lost.unwrap_or(error)),
        };
        match session.call(&request, left()).await {
            Ok(response) if lost.is_some() => return Ok(as_asked_once(response, &request)),
            Ok(response) => return Ok(response),
            Err(error) if !session.is_open() && error.code == ErrorCode::Unreachable => {}
            Err(error) if !session.is_open() && is_repeatable(&error, &request, &session) => lost = Some(error),
            Err(error) if is_change_lost => return Err(error.with_unknown_outcome()),
            Err(error) => return Err(error),
        }
    }
    Err(lost.unwrap_or_else(|| QueueError::new(ErrorCode::Unreachable, "the peer closes every connection")))
}

/// Waits over as many sessions as it takes. Asking again changes nothing, so a node that restarts does not end the wait.
/// `first` is the session to begin with; `again` opens the next one within the time that is left.
pub(super) async fn wait<A: Future<Output = Result<Session, QueueError>>>(
    wait: Wait,
    first: impl Future<Output = Result<Session, QueueError>>,
    again: impl Fn(Duration) -> A,
    runtime: &dyn Runtime,
) -> Result<Response, QueueError> {
    let started = runtime.now();
    let whole = seconds(wait.timeout_s);
    let left = || whole.saturating_sub(runtime.now().saturating_duration_since(started));
    let mut session = first.await?;
    loop {
        let request = Request::Wait(Wait { timeout_s: left().as_secs_f64(), ..wait.clone() });
        match session.call(&request, left() + LONG_POLL_MARGIN).await {
            Err(error) if is_broken(&error) && left() > RETRY_PAUSE => {}
            answer => return answer,
        }
        runtime.sleep_until(runtime.now() + RETRY_PAUSE).await;
        session = again(left()).await?;
    }
}

/// Whether the other end has gone away.
const fn is_broken(error: &QueueError) -> bool {
    matches!(error.code, ErrorCode::Interrupted | ErrorCode::Unreachable | ErrorCode::ShuttingDown)
}

/// Whether a request whose connection broke before the answer may be asked again.
fn is_repeatable(error: &QueueError, request: &Request, session: &Session) -> bool {
    let may_change_twice = match request.repeat() {
        Repeat::Reads => true,
        Repeat::Same => session.may_repeat(),
        Repeat::Known => {
            let Adds::Tasks(submits) = request.adds() else { return false };
            session.may_repeat() && submits.iter().all(is_known_again)
        }
        Repeat::Differs => false,
    };
    may_change_twice && error.code == ErrorCode::Interrupted
}

/// Whether the owner still knows the task when the request comes again. It knows the task by its id, because it keeps every
/// record for long enough, or by its key. A record that is purged in between is not known again.
fn is_known_again(submit: &Submit) -> bool {
    let is_keyed = submit.idempotency_key.is_some() && submit.idempotency_window_s >= limits::RESULT_KEPT_S_MIN;
    submit.task_id.is_some() || is_keyed
}

/// The answer to a repetition, without the marks that only say that it is one.
fn as_asked_once(mut response: Response, request: &Request) -> Response {
    match (&mut response, request) {
        (Response::Submitted(submitted), Request::Submit(submit)) => forget_duplicate(submitted, submit),
        (Response::SubmittedMany(answer), Request::SubmitMany(many)) => {
            let submitted = answer.results.iter_mut().map(|SubmitResult { submitted, .. }| submitted);
            for (submitted, submit) in submitted.zip(&many.tasks) {
                submitted.iter_mut().for_each(|submitted| forget_duplicate(submitted, submit));
            }
        }
        (Response::Completed(completed), Request::Complete(complete)) => {
            completed.repeated &= completed.submitted.len() != complete.submit.len();
        }
        _ => {}
    }
    response
}

/// This node has drawn the id itself, so a task that has it comes from the request whose answer was lost.
fn forget_duplicate(submitted: &mut Submitted, submit: &Submit) {
    if submit.task_id == Some(submitted.task_id) {
        submitted.duplicate = false;
    }
}

/// How long a wait goes on while the task's owner may be restarting, before it fails. The same holds for a change whose
/// answer was lost.
pub(super) const RESTART_GRACE: Duration = Duration::from_secs(5);

/// The pause between two tries of a wait, so that a peer that refuses is not asked all the time.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How many sessions a request is tried on: one that may have ended, and a new one.
const SESSIONS_MAX: usize = 2;

// A request and its repetition together take no longer than an owner keeps a record.
const _: () = assert!(2.0 * REQUEST_TIMEOUT.as_secs_f64() <= limits::RESULT_KEPT_S_MIN);

#[cfg(test)]
#[path = "repeat_tests.rs"]
mod tests;
