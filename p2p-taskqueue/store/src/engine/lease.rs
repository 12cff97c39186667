use std::time::Duration;

use taskqueue_api::{
    AttemptOutcome, ErrorCode, Fence, PeerId, QueueError, Release, Renew, Renewed, TaskId, TaskStatus,
};

use super::{Live, Now, Phase, Standing, Step, finish::cancelled, inputs, time::unsigned_zero};

/// The number of low bits of a fence's epoch that are drawn at random at each opening of a store.
///
/// With them a copy of a data folder issues other fences than the original folder. One copy in four billion would issue
/// the same ones.
pub(crate) const EPOCH_RANDOM_BITS: u32 = 32;

/// The lease that a claim gives out.
#[derive(Debug, Clone)]
pub(crate) struct NewLease {
    /// A new fence, never issued before in the life of the store.
    pub(crate) fence: Fence,
    /// The machine that the worker is on.
    pub(crate) machine: PeerId,
    /// The worker that claims.
    pub(crate) worker: String,
    /// The length of the lease, in seconds.
    pub(crate) lease_s: f64,
}

/// Gives out a ready task.
pub(crate) fn grant(live: &Live, grant: NewLease, now: Now) -> Live {
    let attempts = live.attempts.clone().begun(grant.machine, grant.worker.clone(), now.wall);
    Live {
        phase: Phase::Running,
        attempt: live.attempt.saturating_add(1),
        fence: Some(grant.fence),
        worker: Some(grant.worker),
        lease_s: grant.lease_s,
        lease_until: Some(now.wall.after(grant.lease_s)),
        kept_until: None,
        progress: None,
        status_message: None,
        attempts,
        updated_at: now.wall,
        ..live.clone()
    }
}

/// Extends the lease, and notes the progress and the questions of the worker. Answers whether the worker should stop,
/// and the answers to its questions.
///
/// # Errors
///
/// `already_finished` or `stale_fence`; `limit_exceeded` when the questions are too large.
pub(crate) fn renew(
    standing: Standing,
    lease_end: Option<Duration>,
    request: &Renew,
    now: Now,
) -> Result<(Live, Renewed), QueueError> {
    let live = held(standing, lease_end, request.task_id, request.fence, now)?;
    let lease_until = now.wall.after(request.lease_s);
    let inputs = inputs::asked(live.inputs, &request.input_requests)?;
    let renewed = Renewed {
        lease_until: lease_until.as_secs(),
        cancel_requested: live.cancel.is_some(),
        deadline: live.deadline.map(|at| now.date_of(at).as_secs()),
        input_responses: inputs::responses(inputs.as_deref(), &request.input_requests),
    };
    let live = Live {
        lease_s: request.lease_s,
        lease_until: Some(lease_until),
        kept_until: None,
        progress: request.progress.map(unsigned_zero).or(live.progress),
        status_message: request.status_message.clone().or(live.status_message),
        inputs,
        updated_at: now.wall,
        ..live
    };
    Ok((live, renewed))
}

/// Takes a task back because its worker asks for that. The attempt does not count.
///
/// # Errors
///
/// `already_finished` or `stale_fence`.
pub(crate) fn release(
    standing: Standing,
    lease_end: Option<Duration>,
    request: &Release,
    now: Now,
) -> Result<Step, QueueError> {
    let live = uncounted(held(standing, lease_end, request.task_id, request.fence, now)?);
    let reason = Some(request.reason.as_str()).filter(|reason| !reason.is_empty());
    if live.cancel.is_some() {
        return Ok(cancelled(attempted(live, AttemptOutcome::Cancelled, reason, now), None, now));
    }
    let live = attempted(live, AttemptOutcome::Released, reason, now);
    Ok(Step::Stay(requeued(Live { ready_at: now.elapsed.after(request.delay_s), ..live }, now)))
}

/// Takes back a task whose claim nobody received. The task goes to its old place, as if it had not been claimed. `None`
/// when the fence is no longer the current one.
pub(crate) fn give_back(standing: Standing, id: TaskId, fence: Fence, now: Now) -> Option<Step> {
    // An expired lease does not matter here, because nobody knows the fence.
    let live = held(standing, Some(Duration::MAX), id, fence, now).ok()?;
    let attempts = live.attempts.clone().undone();
    let live = uncounted(Live { attempts, ..live });
    if live.cancel.is_some() {
        return Some(cancelled(live, None, now));
    }
    let inputs = inputs::closed(live.inputs);
    Some(Step::Stay(unleased(Live { phase: Phase::Ready, inputs, updated_at: now.wall, ..live })))
}

/// Notes how the running attempt has ended.
pub(super) fn attempted(live: Live, outcome: AttemptOutcome, error: Option<&str>, now: Now) -> Live {
    let attempts = live.attempts.ended(outcome, error, now.wall);
    Live { attempts, ..live }
}

fn uncounted(live: Live) -> Live {
    Live { attempt: live.attempt.saturating_sub(1), ..live }
}

/// Puts a task back in line at the place of its `ready_at`.
pub(super) fn requeued(live: Live, now: Now) -> Live {
    let inputs = inputs::closed(live.inputs);
    let phase = if live.ready_at > now.elapsed { Phase::Delayed } else { Phase::Ready };
    unleased(Live { phase, inputs, updated_at: now.wall, ..live })
}

fn unleased(live: Live) -> Live {
    Live { lease_until: None, kept_until: None, ..live }
}

/// Returns the task if the fence is its current one and the lease has not ended (clause T3).
pub(super) fn held(
    standing: Standing,
    lease_end: Option<Duration>,
    id: TaskId,
    fence: Fence,
    now: Now,
) -> Result<Live, QueueError> {
    let live = match standing {
        Standing::Live(live) => live,
        Standing::Ended(ended) => return Err(already_finished(id, ended.status)),
    };
    if live.phase != Phase::Running || live.fence != Some(fence) {
        let message = format!("task {id}: this fence is not its current one; another claim or none holds the task");
        return Err(QueueError::new(ErrorCode::StaleFence, message));
    }
    if lease_end.is_none_or(|end| end <= now.monotonic) {
        return Err(QueueError::new(ErrorCode::StaleFence, format!("task {id}: the lease of this fence has expired")));
    }
    Ok(live)
}

pub(super) fn already_finished(id: TaskId, status: TaskStatus) -> QueueError {
    QueueError::new(ErrorCode::AlreadyFinished, format!("task {id} is {status}; that cannot be changed"))
}
