use std::sync::Arc;

use taskqueue_api::PeerId;
use taskqueue_api::{FailedBy, Fence, OnParentFailure, TaskId, TaskStatus};

use super::{Attempts, Elapsed, Inputs, Wall};

/// The part of a task that the submit fixed for its whole life.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The id of the task.
    pub id: TaskId,
    /// The submitter, by the name that the server that let it in uses.
    pub submitter: Option<String>,
    /// The machine that submitted it; `None` for the machine that keeps it.
    pub submitted_by: Option<PeerId>,
    /// The kind of work.
    pub task_type: String,
    /// The model that the task asks for.
    pub model_name: String,
    /// The priority, from 1 to 10; 10 comes first.
    pub priority: u8,
    /// The time of submission.
    pub created_at: Wall,
    /// The time from acceptance, or from being queued again, to the deadline, in seconds.
    pub deadline_s: Option<f64>,
    /// Marks for listing.
    pub labels: Vec<String>,
    /// Labels that the worker must have.
    pub requires: Vec<String>,
    /// The session that it belongs to.
    pub session: Option<String>,
    /// The only peer whose workers may take it.
    pub pin_to: Option<PeerId>,
    /// Tasks that must end before this one may run.
    pub after: Vec<TaskId>,
    /// What happens to the task when one of these fails or is cancelled.
    pub on_parent_failure: OnParentFailure,
    /// The concurrency key: of the tasks with the same key only a limited number run at once.
    pub concurrency_key: Option<String>,
    /// The numbers for attempts and retention.
    pub policy: Policy,
}

/// The numbers that decide whether and when a failed attempt is followed by another one, and how long the result is
/// kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The most claims of the task; 0 means without limit.
    pub max_attempts: u32,
    /// Seconds before the second attempt.
    pub backoff_s: f64,
    /// The time for which the result is kept after the task's end, in seconds.
    pub result_ttl_s: f64,
}

/// The phases of a task that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Queued and claimable.
    Ready,
    /// Queued, but not claimable before `ready_at`, because a delay or a backoff runs.
    Delayed,
    /// Queued, but not claimable before the date `not_before`.
    Scheduled,
    /// Claimed under a lease.
    Running,
    /// Queued, but not claimable before the tasks that it comes after have ended.
    Blocked,
}

/// The part of a task that changes while it has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// The phase of the task.
    pub phase: Phase,
    /// The time from which it is claimable. It decides the task's place among tasks of the same priority (clause T6).
    pub ready_at: Elapsed,
    /// The date before which the submitter did not want it claimed.
    pub not_before: Option<Wall>,
    /// The deadline.
    pub deadline: Option<Elapsed>,
    /// The number of tasks that it comes after and that have not ended.
    pub waiting: u32,
    /// The number of claims so far.
    pub attempt: u32,
    /// The last fence that was issued for it.
    pub fence: Option<Fence>,
    /// The worker that holds its lease, or held it last.
    pub worker: Option<String>,
    /// The length of the current lease, in seconds, as the worker asked for it.
    pub lease_s: f64,
    /// The end of the current lease, to show to people. The lease itself runs on monotonic time.
    pub lease_until: Option<Wall>,
    /// Set when the store was opened again after the lease began: the store keeps the lease until then. A further
    /// opening does not extend it.
    pub kept_until: Option<Elapsed>,
    /// The reason of a cancellation that somebody asked for.
    pub cancel: Option<String>,
    /// The progress from 0 to 1, as the worker last reported it.
    pub progress: Option<f64>,
    /// The message about its progress that the worker last reported.
    pub status_message: Option<String>,
    /// The text of the last failure.
    pub error: Option<String>,
    /// The worker's questions and the answers. They are shared, because a task is copied with each change.
    pub inputs: Option<Arc<Inputs>>,
    /// The last attempts. The last one runs if the task does.
    pub attempts: Attempts,
    /// The time of the last change.
    pub updated_at: Wall,
    /// The numbers for attempts and retention.
    pub policy: Policy,
}

impl Live {
    /// Returns the state of a ready task that nobody has claimed.
    pub(crate) const fn unclaimed(ready_at: Elapsed, updated_at: Wall, policy: Policy) -> Self {
        Self {
            phase: Phase::Ready,
            ready_at,
            not_before: None,
            deadline: None,
            waiting: 0,
            attempt: 0,
            fence: None,
            worker: None,
            lease_s: 0.0,
            lease_until: None,
            kept_until: None,
            cancel: None,
            progress: None,
            status_message: None,
            error: None,
            inputs: None,
            attempts: Attempts::NONE,
            updated_at,
            policy,
        }
    }

    /// The status, as records show it.
    #[must_use]
    pub const fn status(&self) -> TaskStatus {
        match self.phase {
            Phase::Ready | Phase::Delayed | Phase::Scheduled | Phase::Blocked => TaskStatus::Queued,
            Phase::Running => TaskStatus::Running,
        }
    }
}

/// The end of a task. Nothing changes it any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Completed, failed or cancelled.
    pub status: TaskStatus,
    /// The time of the end.
    pub at: Wall,
    /// The time at which the record is removed.
    pub expires_at: Elapsed,
    /// The date before which the submitter did not want it claimed.
    pub not_before: Option<Wall>,
    /// The deadline that it had.
    pub deadline: Option<Elapsed>,
    /// The number of claims.
    pub attempt: u32,
    /// The last fence that was issued for it.
    pub fence: Option<Fence>,
    /// The worker that held its last lease.
    pub worker: Option<String>,
    /// The progress that the worker last reported.
    pub progress: Option<f64>,
    /// The message that the worker last reported.
    pub status_message: Option<String>,
    /// The reason of the failure or the cancellation.
    pub error: Option<String>,
    /// Whether it failed with no attempts left, or permanently.
    pub dead: bool,
    /// The side that ended it as failed, if it failed.
    pub failed_by: Option<FailedBy>,
    /// The last attempts.
    pub attempts: Attempts,
}

/// The part of a task that changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The task has not ended.
    Live(Live),
    /// The task has ended.
    Ended(Ended),
}

impl Standing {
    /// The status, as records show it.
    #[must_use]
    pub const fn status(&self) -> TaskStatus {
        match self {
            Self::Live(live) => live.status(),
            Self::Ended(ended) => ended.status,
        }
    }
}
