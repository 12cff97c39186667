//! What is asked again when the answer may have been lost, and how.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use runtime_bridge::Runtime;

use super::timeout::timeout_of;
use crate::{
    ErrorCode, QueueError, Request, Response,
    api::{Submit, SubmitResult, Submitted},
    wire::{Session, limits::REQUEST_TIMEOUT},
};

/// Where sessions with one peer come from.
pub(super) trait Sessions: Sync {
    /// A session that stands, or a new one, within the time. With `waits`, a peer that is restarting is waited for: what
    /// became of a change is then worth the time.
    fn session(&self, waits: bool, within: Duration) -> impl Future<Output = Result<Session, QueueError>> + Send;
}

/// What comes of asking the same thing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twice {
    /// Nothing is changed either time.
    Reads,
    /// The second time finds what the first has left, and leaves it so.
    Same,
    /// As [`Same`](Self::Same), as long as every task has an idempotency key.
    Keyed,
    /// Something else.
    Differs,
}

/// Says for every operation what comes of asking twice. The one place that decides what is safe to repeat.
const fn twice(request: &Request) -> Twice {
    match request {
        Request::Get(_)
        | Request::GetMany(_)
        | Request::Wait(_)
        | Request::List(_)
        | Request::StatsQuery(_)
        | Request::StatusQuery(_)
        | Request::Peers(_)
        | Request::ListTools(_)
        | Request::CacheGet(_)
        | Request::CacheHas(_) => Twice::Reads,
        Request::Submit(_) | Request::SubmitMany(_) => Twice::Keyed,
        // A completion and its children are one transaction under one fence: whoever repeats it adds no child. A task that
        // it claimed besides would be lost until its lease ends.
        Request::Complete(complete) => {
            if complete.claim_next.is_none() {
                Twice::Same
            } else {
                Twice::Differs
            }
        }
        // These set something to a value, or extend a lease from now on.
        Request::Renew(_)
        | Request::Cancel(_)
        | Request::Pause(_)
        | Request::Resume(_)
        | Request::Limit(_)
        | Request::CacheSet(_) => Twice::Same,
        // These hand out, take back, count or remove: the second answer is not the first one's.
        Request::Claim(_)
        | Request::ClaimMany(_)
        | Request::Fail(_)
        | Request::Release(_)
        | Request::Retry(_)
        | Request::Purge(_)
        | Request::CacheDelete(_)
        | Request::Heartbeat(_)
        | Request::CallTool(_)
        // No peer answers these.
        | Request::Discover(_)
        | Request::Invite(_)
        | Request::Join(_)
        | Request::At(_) => Twice::Differs,
    }
}

/// Asks a peer, on a second session when the first one breaks: always when the request was not sent, and when it was, if
/// asking twice comes to the same.
///
/// The answer to a repetition is given as if the question had been asked once: `duplicate` and `repeated` speak of what
/// the caller did, not of what was lost on the way. Only a completion that submits tasks keeps its `repeated`, since the
/// answer then lacks their ids. An error after a change that may have been made says so in its outcome.
pub(super) async fn ask<S: Sessions>(
    sessions: &S,
    mut request: Request,
    runtime: &dyn Runtime,
) -> Result<Response, QueueError> {
    let twice = twice(&request);
    let timeout = timeout_of(&request);
    let started = runtime.now();
    let left = || timeout.saturating_sub(runtime.now().saturating_duration_since(started));
    let mut key = None;
    // What became of a request that may have been applied.
    let mut lost: Option<QueueError> = None;
    for _ in 0..SESSIONS_MAX {
        let is_change_lost = lost.is_some() && twice != Twice::Reads;
        let session = match sessions.session(is_change_lost, left()).await {
            Ok(session) => session,
            // That nobody can be asked again is no answer to what was asked first.
            Err(error) => return Err(lost.unwrap_or(error)),
        };
        if twice == Twice::Keyed && lost.is_none() && session.may_repeat() {
            key = give_keys(&mut request);
        }
        match session.call(&request, left()).await {
            Ok(response) if lost.is_some() => return Ok(as_asked_once(response, &request, key.as_deref())),
            Ok(response) => return Ok(response),
            Err(error) if !session.is_open() && error.code == ErrorCode::Unreachable => {}
            Err(error) if !session.is_open() && is_repeatable(&error, &request, &session) => lost = Some(error),
            Err(error) if is_change_lost => return Err(error.with_unknown_outcome()),
            Err(error) => return Err(error),
        }
    }
    Err(lost.unwrap_or_else(|| QueueError::new(ErrorCode::Unreachable, "the peer closes every connection")))
}

/// Whether a request whose connection broke before the answer may be asked again.
fn is_repeatable(error: &QueueError, request: &Request, session: &Session) -> bool {
    let may_change_twice = match twice(request) {
        Twice::Reads => true,
        Twice::Same => session.may_repeat(),
        Twice::Keyed => session.may_repeat() && submits(request).iter().all(is_keyed),
        Twice::Differs => false,
    };
    may_change_twice && error.code == ErrorCode::Interrupted
}

/// Whether the owner still knows the key when the request comes again.
fn is_keyed(submit: &Submit) -> bool {
    submit.idempotency_key.is_some() && submit.idempotency_window_s >= KEY_WINDOW.as_secs_f64()
}

fn submits(request: &Request) -> &[Submit] {
    match request {
        Request::Submit(submit) => std::slice::from_ref(submit),
        Request::SubmitMany(many) => &many.tasks,
        _ => &[],
    }
}

fn submits_mut(request: &mut Request) -> &mut [Submit] {
    match request {
        Request::Submit(submit) => std::slice::from_mut(submit),
        Request::SubmitMany(many) => &mut many.tasks,
        _ => &mut [],
    }
}

/// Gives every task that has no idempotency key one of its own; answers how those begin. None when there is nothing to
/// give, or no randomness: the request is then not repeated.
fn give_keys(request: &mut Request) -> Option<String> {
    let without = |submit: &&mut Submit| submit.idempotency_key.is_none();
    let mut without = submits_mut(request).iter_mut().filter(without).enumerate().peekable();
    without.peek()?;
    let mut random = [0; KEY_RANDOM_BYTES];
    getrandom::fill(&mut random).ok()?;
    // The time first: keys that follow each other then lie together in the owner's table, where they are put and removed.
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let start = format!("auto-{millis:012x}-{}", HEXLOWER.encode(&random));
    for (at, submit) in without {
        submit.idempotency_key = Some(format!("{start}-{at}"));
        submit.idempotency_window_s = KEY_WINDOW.as_secs_f64();
    }
    Some(start)
}

/// The answer to a repetition, without what only says that it is one.
fn as_asked_once(mut response: Response, request: &Request, key: Option<&str>) -> Response {
    match (&mut response, request) {
        (Response::Submitted(submitted), Request::Submit(submit)) => forget_duplicate(submitted, submit, key),
        (Response::SubmittedMany(answer), Request::SubmitMany(many)) => {
            let submitted = answer.results.iter_mut().map(|SubmitResult { submitted, .. }| submitted);
            for (submitted, submit) in submitted.zip(&many.tasks) {
                submitted.iter_mut().for_each(|submitted| forget_duplicate(submitted, submit, key));
            }
        }
        (Response::Completed(completed), Request::Complete(complete)) if complete.submit.is_empty() => {
            completed.repeated = false;
        }
        _ => {}
    }
    response
}

/// A key that was made here is known to nobody else: what has it already is the request whose answer was lost.
fn forget_duplicate(submitted: &mut Submitted, submit: &Submit, made: Option<&str>) {
    if let (Some(key), Some(made)) = (&submit.idempotency_key, made)
        && key.starts_with(made)
    {
        submitted.duplicate = false;
    }
}

/// A request is asked on this many sessions: one that ended meanwhile and a new one.
const SESSIONS_MAX: usize = 2;

/// How long the owner remembers a key that was made here: twice the time in which the request can come again. Each costs
/// a row there for so long.
const KEY_WINDOW: Duration = REQUEST_TIMEOUT.saturating_mul(2);

/// Nobody guesses one, and no two are the same.
const KEY_RANDOM_BYTES: usize = 16;

#[cfg(test)]
#[path = "repeat_tests.rs"]
mod tests;
