use std::time::Duration;

use taskqueue_api::{
    AttemptOutcome, Cancel, Complete, CompletedStatus, Fail, FailedBy, Json, QueueError, TaskStatus,
    limits::RESULT_KEPT_S_MIN,
};

use super::{
    Ended, Live, Now, Phase, Standing,
    backoff::backoff_s,
    lease::{already_finished, attempted, held, requeued},
};

/// The result of a decision about a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The task lives on in this state.
    Stay(Live),
    /// The task has ended.
    End(Ended),
}

/// The result of a completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Completion {
    /// The task ends.
    End(Ended),
    /// The task had already ended by the same completion.
    Repeated(TaskStatus),
}

/// Ends a task because its worker says so.
///
/// A completion that is repeated with the same fence and the same result is acknowledged again. `stored` is the result
/// that the store has.
///
/// # Errors
///
/// `already_finished` or `stale_fence`.
pub(crate) fn complete(
    standing: Standing,
    stored: Option<&Json>,
    lease_end: Option<Duration>,
    request: &Complete,
    now: Now,
) -> Result<Completion, QueueError> {
    let status = match request.status {
        CompletedStatus::Completed => TaskStatus::Completed,
        CompletedStatus::Failed => TaskStatus::Failed,
    };
    if let Standing::Ended(ended) = &standing {
        let same = ended.fence == Some(request.fence)
            && ended.status == status
            && stored == request.result.as_ref()
            && ended.error == request.error;
        return if same {
            Ok(Completion::Repeated(status))
        } else {
            Err(already_finished(request.task_id, ended.status))
        };
    }
    let live = held(standing, lease_end, request.task_id, request.fence, now)?;
    let outcome = match request.status {
        CompletedStatus::Completed => AttemptOutcome::Completed,
        CompletedStatus::Failed => AttemptOutcome::Failed,
    };
    let live = attempted(live, outcome, request.error.as_deref(), now);
    let failed_by = (status == TaskStatus::Failed).then_some(FailedBy::Worker);
    Ok(Completion::End(ended(live, status, request.error.clone(), failed_by, now)))
}

/// Ends a failed attempt: the task waits for the next attempt, or is dead. `chance` (at least 0, below 1) decides the
/// jitter.
///
/// # Errors
///
/// `already_finished` or `stale_fence`.
pub(crate) fn fail(
    standing: Standing,
    lease_end: Option<Duration>,
    request: &Fail,
    chance: f64,
    now: Now,
) -> Result<Step, QueueError> {
    let live = held(standing, lease_end, request.task_id, request.fence, now)?;
    let outcome = if live.cancel.is_some() { AttemptOutcome::Cancelled } else { AttemptOutcome::Failed };
    let live = attempted(live, outcome, Some(&request.error), now);
    if live.cancel.is_some() {
        return Ok(cancelled(live, Some(request.error.clone()), now));
    }
    if !request.retryable || !has_attempts_left(&live) {
        return Ok(Step::End(failed(live, request.error.clone(), FailedBy::Worker, now)));
    }
    let wait_s = request.delay_s.unwrap_or_else(|| backoff_s(live.policy, live.attempt, chance));
    Ok(retried(Live { error: Some(request.error.clone()), ..live }, wait_s, now))
}

/// Cancels a task. A queued task ends at once; the worker of a running task is told at its next renewal. `None` when
/// the task had been cancelled before.
///
/// # Errors
///
/// `already_finished` when the task completed or failed first.
pub(crate) fn cancel(standing: Standing, request: &Cancel, now: Now) -> Result<Option<Step>, QueueError> {
    let live = match standing {
        Standing::Ended(ended) if ended.status == TaskStatus::Cancelled => return Ok(None),
        Standing::Ended(ended) => return Err(already_finished(request.task_id, ended.status)),
        Standing::Live(live) => live,
    };
    let live = Live { cancel: Some(request.reason.clone()), updated_at: now.wall, ..live };
    Ok(Some(match live.phase {
        Phase::Ready | Phase::Delayed | Phase::Scheduled | Phase::Blocked => cancelled(live, None, now),
        Phase::Running => Step::Stay(live),
    }))
}

/// Ends a lease that was not renewed in time (clause T4). The task waits for its next attempt, or is dead and keeps its
/// last error.
pub(crate) fn expire(live: Live, chance: f64, now: Now) -> Step {
    let live = attempted(live, AttemptOutcome::LeaseExpired, Some("the lease was not renewed in time"), now);
    lost(live, EXPIRED, chance, now)
}

/// Ends the lease of a machine that was taken out of work. The rest is as for a lease that has expired.
pub(crate) fn free(live: Live, chance: f64, now: Now) -> Step {
    let live = attempted(live, AttemptOutcome::Freed, Some("its machine was taken out of work"), now);
    lost(live, FREED, chance, now)
}

/// Decides what follows from the end of a lease. `how` says in the error what became of the lease.
fn lost(live: Live, how: &str, chance: f64, now: Now) -> Step {
    if live.cancel.is_some() {
        return cancelled(live, None, now);
    }
    if has_attempts_left(&live) {
        let wait_s = backoff_s(live.policy, live.attempt, chance);
        let error = live.error.clone().or_else(|| Some(format!("{how} at attempt {}", live.attempt)));
        return retried(Live { error, ..live }, wait_s, now);
    }
    let attempts = if live.attempt == 1 { "1 attempt".to_owned() } else { format!("{} attempts", live.attempt) };
    let error = match &live.error {
        Some(last) if ![EXPIRED, FREED].iter().any(|how| last.starts_with(how)) => {
            format!("{how} after {attempts}; the last error was: {last}")
        }
        _ => format!("{how} after {attempts}"),
    };
    Step::End(failed(live, error, FailedBy::Queue, now))
}

/// The beginnings of the errors of tasks whose leases were lost.
const EXPIRED: &str = "the lease expired";
const FREED: &str = "the lease was ended, because its machine was taken out of work,";

/// Ends a task whose deadline has passed, whatever its state.
pub(crate) fn give_up(live: Live, now: Now) -> Ended {
    let live = attempted(live, AttemptOutcome::DeadlinePassed, Some("the deadline has passed"), now);
    let error = match &live.error {
        Some(last) => format!("the deadline has passed; the last error was: {last}"),
        None => "the deadline has passed".to_owned(),
    };
    failed(live, error, FailedBy::Queue, now)
}

/// Ends a task as cancelled, with the reason that was given; without a reason, with the worker's own text.
pub(super) fn cancelled(live: Live, text: Option<String>, now: Now) -> Step {
    let reason = live.cancel.clone().filter(|reason| !reason.is_empty());
    let error = reason.or(text).or_else(|| live.error.clone());
    Step::End(ended(live, TaskStatus::Cancelled, error, None, now))
}

const fn has_attempts_left(live: &Live) -> bool {
    live.policy.max_attempts == 0 || live.attempt < live.policy.max_attempts
}

fn retried(live: Live, wait_s: f64, now: Now) -> Step {
    Step::Stay(requeued(Live { ready_at: now.elapsed.after(wait_s), ..live }, now))
}

/// Ends a task as failed, with no attempt left.
pub(super) fn failed(live: Live, error: String, by: FailedBy, now: Now) -> Ended {
    ended(live, TaskStatus::Failed, Some(error), Some(by), now)
}

fn ended(live: Live, status: TaskStatus, error: Option<String>, failed_by: Option<FailedBy>, now: Now) -> Ended {
    Ended {
        status,
        at: now.wall,
        expires_at: now.elapsed.after(live.policy.result_ttl_s.max(RESULT_KEPT_S_MIN)),
        not_before: live.not_before,
        deadline: live.deadline,
        attempt: live.attempt,
        fence: live.fence,
        worker: live.worker,
        progress: live.progress,
        status_message: live.status_message,
        error,
        dead: failed_by.is_some(),
        failed_by,
        attempts: live.attempts,
    }
}
