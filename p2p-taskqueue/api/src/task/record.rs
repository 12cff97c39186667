use std::collections::BTreeMap;

use crate::PeerId;
use serde::{Deserialize, Serialize};

use crate::WaitingFor;

use super::{Attempt, Fence, Json, TaskId, TaskStatus};

/// The record of a task, as every operation answers it.
///
/// Points in time are Unix seconds. Fields that a newer peer adds are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Task"))]
pub struct TaskRecord {
    /// Its identity.
    pub task_id: TaskId,
    /// What kind of work it is; workers claim by it.
    pub task_type: String,
    /// Which model it asks for; empty when none.
    #[serde(default)]
    pub model_name: String,
    /// The work's input, as given.
    #[serde(default)]
    pub payload: Json,
    /// Where it stands.
    pub status: TaskStatus,
    /// Why no worker has claimed it. Absent when it is not queued, and when a worker is free for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// 1 to 10, 10 first.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10)))]
    pub priority: u8,
    /// How often it has been claimed.
    pub attempt: u32,
    /// How often it may be claimed; 0 is without limit.
    pub max_attempts: u32,
    /// When it was submitted.
    pub created_at: f64,
    /// When it last changed.
    pub updated_at: f64,
    /// Not claimable before this time.
    pub not_before: Option<f64>,
    /// When it is given up.
    pub deadline: Option<f64>,
    /// Who holds or last held its lease.
    pub assigned_worker: Option<String>,
    /// The last attempts, up to 10, the oldest first. While the task runs, the last one has no end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// When the current lease ends if it is not renewed.
    pub lease_until: Option<f64>,
    /// 0 to 1, as the worker last said.
    pub progress: Option<f64>,
    /// What the worker last said of its progress.
    pub status_message: Option<String>,
    /// The result, as the worker gave it; null until there is one.
    pub result: Option<Json>,
    /// The last failure's text.
    pub error: Option<String>,
    /// Who ended it as failed; none unless it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by: Option<FailedBy>,
    /// What its worker asks for and nobody has answered, by key; see `answer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_requests: BTreeMap<String, Json>,
    /// Who submitted it, as the server that let them in calls them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<String>,
    /// The machine that submitted it. Absent when that was the machine that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::peer_text::optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub submitted_by: Option<PeerId>,
    /// What the submitter marked it with, for listing.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The labels that its worker must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// How long the record is kept after the task's end, in seconds; a minute at the least.
    #[serde(default = "crate::default_day_s")]
    pub result_ttl_s: f64,
    /// The session that it belongs to.
    pub session: Option<String>,
    /// The only machine whose workers may take it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::peer_text::optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub pin_to: Option<PeerId>,
    /// The key of which only so many tasks run at once as its limit says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// The tasks that it comes after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<TaskId>,
    /// The peer that keeps it.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "crate::peer_text")]
    pub owner: PeerId,
    /// Failed with no attempts left, or permanently.
    #[serde(default)]
    pub dead: bool,
    /// The proof of the lease: only in the answer to the claim that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// Who ended a task as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailedBy {
    /// Its worker said so: the work was done and did not succeed.
    Worker,
    /// The queue gave it up: its deadline passed, its worker vanished, or a task that it comes after failed.
    Queue,
}
