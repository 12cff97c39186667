use std::sync::Arc;

use taskqueue_api::PeerId;
use taskqueue_api::{FailedBy, Fence, OnParentFailure, TaskId, TaskStatus};

use super::{Elapsed, Inputs, Wall};

/// What the submit fixed for the task's whole life.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Its identity.
    pub id: TaskId,
    /// Who submitted it, as the server that let them in calls them.
    pub submitter: Option<String>,
    /// What kind of work it is.
    pub task_type: String,
    /// Which model it asks for.
    pub model_name: String,
    /// 1 to 10, 10 first.
    pub priority: u8,
    /// When it was submitted.
    pub created_at: Wall,
    /// How long after it was accepted, or queued again, it is given up, in seconds.
    pub deadline_s: Option<f64>,
    /// Marks for listing.
    pub labels: Vec<String>,
    /// Labels that the worker must have.
    pub requires: Vec<String>,
    /// The session that it belongs to.
    pub session: Option<String>,
    /// The only peer whose workers may take it.
    pub pin_to: Option<PeerId>,
    /// Tasks that must end first.
    pub after: Vec<TaskId>,
    /// What becomes of it when one of these fails or is called off.
    pub on_parent_failure: OnParentFailure,
    /// Of the tasks with this key only so many run at once.
    pub concurrency_key: Option<String>,
    /// How attempts and retention go.
    pub policy: Policy,
}

/// The numbers that decide whether and when another attempt follows a failed one, and how long the result is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How often it may be claimed; 0 is without limit.
    pub max_attempts: u32,
    /// Seconds before the second attempt.
    pub backoff_s: f64,
    /// How long its result is kept after its end, in seconds.
    pub result_ttl_s: f64,
}

/// Where a task that has not ended stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Queued and claimable.
    Ready,
    /// Queued, and not claimable before `ready_at`: a delay or a backoff runs.
    Delayed,
    /// Queued, and not claimable before the date `not_before`.
    Scheduled,
    /// Claimed under a lease.
    Running,
    /// Queued, and not claimable before the tasks that it comes after have ended.
    Blocked,
}

/// What changes while a task has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Where it stands.
    pub phase: Phase,
    /// From when it is claimable; its place among tasks of the same priority (clause T6).
    pub ready_at: Elapsed,
    /// The date that it was told to wait for.
    pub not_before: Option<Wall>,
    /// When it is given up.
    pub deadline: Option<Elapsed>,
    /// How many of the tasks that it comes after have not ended.
    pub waiting: u32,
    /// How often it has been claimed.
    pub attempt: u32,
    /// The last fence that was issued for it.
    pub fence: Option<Fence>,
    /// Who holds or last held its lease.
    pub worker: Option<String>,
    /// How long the current lease was asked for, in seconds.
    pub lease_s: f64,
    /// When the current lease ends, for people; the lease itself runs on monotonic time.
    pub lease_until: Option<Wall>,
    /// The store was opened again after the lease began, and keeps it until then. A further opening adds nothing.
    pub kept_until: Option<Elapsed>,
    /// Somebody asked for it to be called off, with this reason.
    pub cancel: Option<String>,
    /// 0 to 1, as the worker last said.
    pub progress: Option<f64>,
    /// What the worker last said of its progress.
    pub status_message: Option<String>,
    /// The last failure's text.
    pub error: Option<String>,
    /// What its worker asks and was answered. Shared: a task is copied with each change.
    pub inputs: Option<Arc<Inputs>>,
    /// When it last changed.
    pub updated_at: Wall,
    /// How attempts and retention go.
    pub policy: Policy,
}

impl Live {
    /// A task that is ready, and that nobody has claimed.
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
            updated_at,
            policy,
        }
    }

    /// Its status, as records carry it.
    #[must_use]
    pub const fn status(&self) -> TaskStatus {
        match self.phase {
            Phase::Ready | Phase::Delayed | Phase::Scheduled | Phase::Blocked => TaskStatus::Queued,
            Phase::Running => TaskStatus::Running,
        }
    }
}

/// How a task ended. Nothing changes it any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Completed, failed or cancelled.
    pub status: TaskStatus,
    /// When.
    pub at: Wall,
    /// When the record is removed.
    pub expires_at: Elapsed,
    /// The date that it was told to wait for.
    pub not_before: Option<Wall>,
    /// When it would have been given up.
    pub deadline: Option<Elapsed>,
    /// How often it had been claimed.
    pub attempt: u32,
    /// The last fence that was issued for it.
    pub fence: Option<Fence>,
    /// Who held its last lease.
    pub worker: Option<String>,
    /// As the worker last said.
    pub progress: Option<f64>,
    /// As the worker last said.
    pub status_message: Option<String>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// Failed with no attempts left, or permanently.
    pub dead: bool,
    /// Who ended it as failed, if it failed.
    pub failed_by: Option<FailedBy>,
}

/// A task's changing part.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It has not ended.
    Live(Live),
    /// It has.
    Ended(Ended),
}

impl Standing {
    /// Its status, as records carry it.
    #[must_use]
    pub const fn status(&self) -> TaskStatus {
        match self {
            Self::Live(live) => live.status(),
            Self::Ended(ended) => ended.status,
        }
    }
}
