use taskqueue_api::{FailedBy, OnParentFailure, TaskId, TaskStatus};

use super::{Ended, Live, Now, Phase, Spec, Step, attempts::clipped, finish, lease::requeued};

/// Holds a task back until `waiting` other tasks have ended (clause T10). With 0 the task does not wait.
pub(crate) fn block(live: Live, waiting: u32) -> Live {
    if waiting == 0 { live } else { Live { phase: Phase::Blocked, waiting, ..live } }
}

/// Decides what the end of a task means for a task that comes after it (clause T10).
pub(crate) fn parent_ended(live: Live, parent: TaskId, ended: &Ended, on_failure: OnParentFailure, now: Now) -> Step {
    match (ended.status, on_failure) {
        (TaskStatus::Completed, _) | (_, OnParentFailure::Run) => {}
        _ => return Step::End(parent_failed(live, parent, ended, now)),
    }
    let waiting = live.waiting.saturating_sub(1);
    if waiting > 0 {
        return Step::Stay(Live { waiting, ..live });
    }
    if live.not_before.is_some_and(|date| date > now.wall) {
        return Step::Stay(Live { waiting, phase: Phase::Scheduled, updated_at: now.wall, ..live });
    }
    // The delay that the task was submitted with may still run.
    let ready_at = live.ready_at.max(now.elapsed);
    Step::Stay(requeued(Live { waiting, ready_at, ..live }, now))
}

/// Fails a task because of a task that it comes after.
pub(crate) fn parent_failed(live: Live, parent: TaskId, ended: &Ended, now: Now) -> Ended {
    let how = if ended.status == TaskStatus::Cancelled { "was called off" } else { "failed" };
    let why = ended.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let error = format!("task {parent}, which it comes after, {how}{why}");
    // A chain of failures repeats the first text in each link, so only this much of it is kept.
    let error = clipped(&error, REASON_BYTES_MAX).to_owned();
    finish::failed(live, error, FailedBy::Queue, now)
}

/// Makes a task ready because its delay is over or its date has come. Its place in line is the one for the time that it
/// waited for, not for the present time.
pub(crate) fn time_came(live: Live, now: Now) -> Live {
    let ready_at = match (live.phase, live.not_before) {
        (Phase::Scheduled, Some(date)) => now.elapsed_at(date).min(now.elapsed),
        _ => live.ready_at,
    };
    Live { phase: Phase::Ready, ready_at, updated_at: now.wall, ..live }
}

/// Queues a dead letter again as if it were new. The old fence stays, so that the next one differs from it.
pub(crate) fn retry(spec: &Spec, ended: &Ended, now: Now) -> Live {
    Live {
        deadline: spec.deadline_s.map(|seconds| now.elapsed.after(seconds)),
        fence: ended.fence,
        error: ended.error.clone(),
        attempts: ended.attempts.clone(),
        ..Live::unclaimed(now.elapsed, now.wall, spec.policy)
    }
}

/// The longest reason, in bytes: as long as a message.
const REASON_BYTES_MAX: usize = taskqueue_api::limits::MESSAGE_BYTES_MAX;
