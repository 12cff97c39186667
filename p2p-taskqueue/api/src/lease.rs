use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::submit::check_all;
use super::{
    QueueError, Submit,
    check::{Check, content, inputs, labels, name, seconds, task_types, text},
    limits::{CLAIM_WAIT_S_MAX, CLAIMS_MAX, ERROR_BYTES_MAX, LABELS_MAX, LEASE_S_RANGE, MESSAGE_BYTES_MAX, SPAN_S_MAX},
};
use crate::{Fence, Json, TaskId, TaskRecord, TaskStatus};

/// Asks for one task to work on.
///
/// With `wait_s` it is a long poll: it answers as soon as there is a task, or with none at the end of the wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Claim {
    /// Who works on it: shown in the record; no proof of anything.
    pub worker_id: String,
    /// Which types to take, up to 256; empty is any.
    #[serde(default)]
    pub supported_task_types: Vec<String>,
    /// What the worker has; a task's `requires` must be among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The worker's session: it takes tasks of that session and those of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How long the lease runs without a renewal, in seconds.
    #[serde(default = "default_lease_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400)))]
    pub lease_s: f64,
    /// How long to wait for a task, in seconds.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 300)))]
    pub wait_s: f64,
}

impl Claim {
    /// A claim of any type with every default.
    #[must_use]
    pub fn new(worker_id: impl Into<String>) -> Self {
        Self {
            worker_id: worker_id.into(),
            supported_task_types: Vec::new(),
            labels: Vec::new(),
            session: None,
            lease_s: default_lease_s(),
            wait_s: 0.0,
        }
    }
}

impl Check for Claim {
    fn check(&self) -> Result<(), QueueError> {
        name("worker_id", &self.worker_id)?;
        task_types("supported_task_types", &self.supported_task_types)?;
        labels("labels", &self.labels, LABELS_MAX)?;
        self.session.iter().try_for_each(|session| name("session", session))?;
        seconds("lease_s", Some(self.lease_s), LEASE_S_RANGE)?;
        seconds("wait_s", Some(self.wait_s), 0.0..=CLAIM_WAIT_S_MAX)
    }
}

/// The answer to a [`Claim`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Claimed {
    /// The task with its `fence` and `lease_until`; null when there was none in time.
    pub task: Option<TaskRecord>,
}

/// Asks for several tasks at once. The answer comes as soon as there is one, with as many as there are, up to
/// `max_tasks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimMany {
    /// What is asked for.
    #[serde(flatten)]
    pub claim: Claim,
    /// How many at the most, up to 128; fewer when they are large.
    #[serde(default = "default_max_tasks")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 128)))]
    pub max_tasks: u32,
}

impl Check for ClaimMany {
    fn check(&self) -> Result<(), QueueError> {
        if self.max_tasks == 0 {
            return Err(QueueError::invalid("max_tasks", "must be at least 1"));
        }
        if self.max_tasks > CLAIMS_MAX {
            return Err(QueueError::over_limit("max_tasks", self.max_tasks as usize, CLAIMS_MAX as usize, "tasks"));
        }
        self.claim.check()
    }
}

/// The answer to a [`ClaimMany`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimedMany {
    /// The tasks, each with its own `fence`; empty when there was none in time.
    pub tasks: Vec<TaskRecord>,
}

/// Extends the lease and reports the progress of the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Renew {
    /// The task.
    pub task_id: TaskId,
    /// The fence that the claim answered.
    pub fence: Fence,
    /// How long the lease runs from now, in seconds.
    #[serde(default = "default_lease_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400)))]
    pub lease_s: f64,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub progress: Option<f64>,
    /// A sentence for whoever waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// What the worker asks whoever waits for: a request for each key, and a key for one question only. A form to fill in
    /// is `{"method":"elicitation/create","params":{"message":…,"requestedSchema":{…}}}`. The record shows those that are
    /// not answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_requests: BTreeMap<String, Json>,
    /// Answer only when there is something to tell the worker, or after so many seconds; less than `lease_s`.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 300)))]
    pub wait_s: f64,
}

impl Renew {
    /// Makes a renewal that extends the lease and reports nothing about the work.
    #[must_use]
    pub const fn new(task_id: TaskId, fence: Fence, lease_s: f64) -> Self {
        Self {
            task_id,
            fence,
            lease_s,
            progress: None,
            status_message: None,
            input_requests: BTreeMap::new(),
            wait_s: 0.0,
        }
    }
}

impl Check for Renew {
    fn check(&self) -> Result<(), QueueError> {
        seconds("lease_s", Some(self.lease_s), LEASE_S_RANGE)?;
        seconds("progress", self.progress, 0.0..=1.0)?;
        seconds("wait_s", Some(self.wait_s), 0.0..=CLAIM_WAIT_S_MAX)?;
        if self.wait_s >= self.lease_s {
            return Err(QueueError::invalid(
                "wait_s",
                "must be less than lease_s, else the lease ends during the wait",
            ));
        }
        inputs("input_requests", &self.input_requests)?;
        self.status_message.iter().try_for_each(|message| text("status_message", message, MESSAGE_BYTES_MAX))
    }
}

/// The answer to a [`Renew`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Renewed {
    /// When the lease now ends.
    pub lease_until: f64,
    /// Whether somebody asked for the task to be called off: stop, and fail or release it.
    #[serde(default)]
    pub cancel_requested: bool,
    /// When the task is given up.
    pub deadline: Option<f64>,
    /// The answers that there are to what this renewal asks for, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_responses: BTreeMap<String, Json>,
}

/// Ends a task that the caller holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Complete {
    /// The task.
    pub task_id: TaskId,
    /// The fence that the claim answered.
    pub fence: Fence,
    /// How it ended; `failed` is permanent, for a failure that may be tried again use `fail`.
    #[serde(default)]
    pub status: CompletedStatus,
    /// The result: any JSON value up to 1 MiB, nested up to 100 levels, stored as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// The failure's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Tasks to queue in the same transaction: all of them or, when one is refused, none, and the task stays as it was. When
    /// the completion is repeated, the same tasks again, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "super::bounded::submits")]
    pub submit: Vec<Submit>,
    /// Also claims the next task. Its `wait_s` holds the answer back, not the completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_next: Option<Claim>,
}

impl Complete {
    /// Ends the task with this result.
    #[must_use]
    pub const fn new(task_id: TaskId, fence: Fence, result: Option<Json>) -> Self {
        let status = CompletedStatus::Completed;
        Self { task_id, fence, status, result, error: None, submit: Vec::new(), claim_next: None }
    }
}

/// The two outcomes with which a worker may complete a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CompletedStatus {
    /// With a result.
    #[default]
    Completed,
    /// Without one, permanently.
    Failed,
}

impl Check for Complete {
    fn check(&self) -> Result<(), QueueError> {
        let bytes = self.result.as_ref().map_or(0, Json::len_bytes);
        self.result.iter().try_for_each(|result| content("result", result))?;
        self.error.iter().try_for_each(|error| text("error", error, ERROR_BYTES_MAX))?;
        check_all("submit", &self.submit, bytes)?;
        self.claim_next.iter().try_for_each(|claim| claim.check().map_err(|error| error.within("claim_next")))
    }
}

/// The answer to a [`Complete`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Completed {
    /// The task.
    pub task_id: TaskId,
    /// Where it stands now.
    pub status: TaskStatus,
    /// Whether the same completion had been acknowledged before. Its tasks were then submitted before, too: these are they.
    #[serde(default)]
    pub repeated: bool,
    /// The tasks of `submit`, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub submitted: Vec<TaskId>,
    /// With `claim_next`: the next task, or null when there was none in time.
    #[serde(default)]
    pub next: Option<TaskRecord>,
}

/// Reports that an attempt failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fail {
    /// The task.
    pub task_id: TaskId,
    /// The fence that the claim answered.
    pub fence: Fence,
    /// What went wrong.
    pub error: String,
    /// Whether another attempt makes sense.
    #[serde(default = "default_true")]
    pub retryable: bool,
    /// Seconds until the next attempt, instead of the backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub delay_s: Option<f64>,
}

impl Check for Fail {
    fn check(&self) -> Result<(), QueueError> {
        text("error", &self.error, ERROR_BYTES_MAX)?;
        seconds("delay_s", self.delay_s, 0.0..=SPAN_S_MAX)
    }
}

/// The answer to a [`Fail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failed {
    /// `queued` when it will be tried again, else `failed`; `cancelled` when that had been asked for.
    pub status: TaskStatus,
    /// How often it has been claimed.
    pub attempt: u32,
}

/// Gives a task back untouched; the attempt does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Release {
    /// The task.
    pub task_id: TaskId,
    /// The fence that the claim answered.
    pub fence: Fence,
    /// Not claimable for this many seconds.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub delay_s: f64,
    /// Why, up to 4 KiB.
    #[serde(default)]
    pub reason: String,
}

impl Check for Release {
    fn check(&self) -> Result<(), QueueError> {
        seconds("delay_s", Some(self.delay_s), 0.0..=SPAN_S_MAX)?;
        text("reason", &self.reason, MESSAGE_BYTES_MAX)
    }
}

/// The answer to a [`Release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Released {
    /// `queued`, or `cancelled` when that had been asked for.
    pub status: TaskStatus,
}

/// Calls a task off: at once when it is queued; when it runs, its worker is told. A valid completion that comes first wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancel {
    /// The task.
    pub task_id: TaskId,
    /// Why, up to 4 KiB; becomes the task's error text.
    #[serde(default)]
    pub reason: String,
}

impl Check for Cancel {
    fn check(&self) -> Result<(), QueueError> {
        text("reason", &self.reason, MESSAGE_BYTES_MAX)
    }
}

/// The answer to a [`Cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancelled {
    /// It is cancelled.
    pub cancelled: bool,
    /// It runs, and its worker is told.
    pub cancel_requested: bool,
    /// Where it stands now.
    pub status: TaskStatus,
}

const fn default_lease_s() -> f64 {
    300.0
}

const fn default_max_tasks() -> u32 {
    1
}

const fn default_true() -> bool {
    true
}
/// Takes a reference because serde calls it with one.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}
