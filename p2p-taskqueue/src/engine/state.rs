use std::{collections::BTreeMap, sync::Arc};

use libp2p::PeerId;

use super::{Inputs, Wall};
use crate::{
    api::OnParentFailure,
    task::{FailedBy, Fence, Json, Task, TaskId, TaskStatus},
};

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
    pub terms: Terms,
}

/// The numbers that decide what follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
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
    /// Queued, and not claimable before `ready_at`.
    Delayed,
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
    pub ready_at: Wall,
    /// The time that it was told to wait for, as the record shows it.
    pub not_before: Option<Wall>,
    /// When it is given up.
    pub deadline: Option<Wall>,
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
    pub terms: Terms,
}

impl Live {
    /// A task that is ready, and that nobody has claimed.
    pub(crate) const fn unclaimed(ready_at: Wall, updated_at: Wall, terms: Terms) -> Self {
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
            cancel: None,
            progress: None,
            status_message: None,
            error: None,
            inputs: None,
            updated_at,
            terms,
        }
    }

    /// Its status, as records carry it.
    #[must_use]
    pub const fn status(&self) -> TaskStatus {
        match self.phase {
            Phase::Ready | Phase::Delayed | Phase::Blocked => TaskStatus::Queued,
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
    pub expires_at: Wall,
    /// The time that it was told to wait for.
    pub not_before: Option<Wall>,
    /// When it would have been given up.
    pub deadline: Option<Wall>,
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
    /// Who ended it as failed; not known of tasks that an earlier version ended.
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

/// A task as a store keeps it: all but the peer that owns the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What the submit fixed.
    pub spec: Spec,
    /// The work's input.
    pub payload: Json,
    /// Where it stands.
    pub standing: Standing,
    /// What came out of it.
    pub result: Option<Json>,
}

impl Record {
    /// Bytes of what its worker asks and was answered.
    #[must_use]
    pub fn inputs_bytes(&self) -> usize {
        match &self.standing {
            Standing::Live(Live { inputs: Some(inputs), .. }) => inputs.bytes(),
            _ => 0,
        }
    }

    /// The record that operations answer, for a store that `owner` keeps.
    #[must_use]
    pub fn into_task(self, owner: PeerId) -> Task {
        let Self { spec, payload, standing, result } = self;
        let status = standing.status();
        let Shown {
            updated_at,
            not_before,
            deadline,
            attempt,
            worker,
            lease_until,
            progress,
            status_message,
            error,
            dead,
            failed_by,
            input_requests,
        } = standing.into();
        Task {
            task_id: spec.id,
            task_type: spec.task_type,
            model_name: spec.model_name,
            payload,
            status,
            priority: spec.priority,
            attempt,
            max_attempts: spec.terms.max_attempts,
            created_at: spec.created_at.as_secs(),
            updated_at: updated_at.as_secs(),
            not_before: not_before.map(Wall::as_secs),
            deadline: deadline.map(Wall::as_secs),
            assigned_worker: worker,
            lease_until: lease_until.map(Wall::as_secs),
            progress,
            status_message,
            result,
            error,
            failed_by,
            input_requests,
            submitter: spec.submitter,
            labels: spec.labels,
            result_ttl_s: spec.terms.result_ttl_s,
            session: spec.session,
            after: spec.after,
            owner,
            dead,
            fence: None,
        }
    }
}

/// What a record shows of either standing.
struct Shown {
    updated_at: Wall,
    not_before: Option<Wall>,
    deadline: Option<Wall>,
    attempt: u32,
    worker: Option<String>,
    lease_until: Option<Wall>,
    progress: Option<f64>,
    status_message: Option<String>,
    error: Option<String>,
    dead: bool,
    failed_by: Option<FailedBy>,
    input_requests: BTreeMap<String, Json>,
}

impl From<Standing> for Shown {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Live(live) => Self {
                updated_at: live.updated_at,
                not_before: live.not_before,
                deadline: live.deadline,
                attempt: live.attempt,
                worker: live.worker,
                lease_until: live.lease_until,
                progress: live.progress,
                status_message: live.status_message,
                error: live.error,
                dead: false,
                failed_by: None,
                input_requests: live.inputs.map(Arc::unwrap_or_clone).map(Inputs::into_open).unwrap_or_default(),
            },
            Standing::Ended(ended) => Self {
                updated_at: ended.at,
                not_before: ended.not_before,
                deadline: ended.deadline,
                attempt: ended.attempt,
                worker: ended.worker,
                lease_until: None,
                progress: ended.progress,
                status_message: ended.status_message,
                error: ended.error,
                dead: ended.dead,
                failed_by: ended.failed_by,
                input_requests: BTreeMap::new(),
            },
        }
    }
}
