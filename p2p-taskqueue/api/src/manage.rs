use serde::{Deserialize, Serialize};

use super::{
    QueueError,
    check::{Check, ids, name, seconds, task_types},
    limits::{RUNNING_MAX_MAX, SELECTED_MAX, SPAN_S_MAX},
};
use crate::{PeerId, TaskId, TaskStatus};

/// Selects ended tasks: either the tasks that are named, or the tasks of a state that pass the filters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Selection {
    /// The tasks, up to 1,000; either this or `status`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<TaskId>,
    /// All tasks that ended like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// Only those of these types, up to 256; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_types: Vec<String>,
    /// Only those of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only those with this label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Only those that ended at least so many seconds ago.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub older_than_s: f64,
    /// How many at the most, up to 10,000.
    #[serde(default = "default_limit")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10_000)))]
    pub limit: u32,
}

impl Selection {
    /// Selects the tasks with these ids.
    #[must_use]
    pub fn ids(task_ids: Vec<TaskId>) -> Self {
        Self { task_ids, ..Self::none() }
    }

    /// Selects every task that ended with this status, up to 1,000 at once.
    #[must_use]
    pub fn ended(status: TaskStatus) -> Self {
        Self { status: Some(status), ..Self::none() }
    }

    const fn none() -> Self {
        Self {
            task_ids: Vec::new(),
            status: None,
            task_types: Vec::new(),
            session: None,
            label: None,
            older_than_s: 0.0,
            limit: default_limit(),
        }
    }

    fn is_filtered(&self) -> bool {
        !self.task_types.is_empty() || self.session.is_some() || self.label.is_some() || self.older_than_s > 0.0
    }

    fn check(&self, allowed: &[TaskStatus]) -> Result<(), QueueError> {
        match self.status {
            None if self.task_ids.is_empty() => {
                return Err(QueueError::invalid(
                    "task_ids",
                    "give task_ids, or the status of the tasks that are meant",
                ));
            }
            None if self.is_filtered() => {
                return Err(QueueError::invalid("status", "filters go with a status, not with task_ids"));
            }
            None => ids("task_ids", &self.task_ids)?,
            Some(_) if !self.task_ids.is_empty() => {
                return Err(QueueError::invalid("status", "give either task_ids or status"));
            }
            Some(status) if !allowed.contains(&status) => {
                let allowed: Vec<_> = allowed.iter().map(|status| status.as_str()).collect();
                return Err(QueueError::invalid("status", format!("must be {}", allowed.join(" or "))));
            }
            Some(_) => {}
        }
        task_types("task_types", &self.task_types)?;
        self.session.iter().try_for_each(|session| name("session", session))?;
        self.label.iter().try_for_each(|label| name("label", label))?;
        seconds("older_than_s", Some(self.older_than_s), 0.0..=SPAN_S_MAX)?;
        if self.limit == 0 {
            return Err(QueueError::invalid("limit", "must be at least 1"));
        }
        if self.limit > SELECTED_MAX {
            return Err(QueueError::over_limit("limit", self.limit as usize, SELECTED_MAX as usize, "tasks"));
        }
        Ok(())
    }
}

/// The states of tasks that can be queued again.
const RETRIED: [TaskStatus; 2] = [TaskStatus::Failed, TaskStatus::Cancelled];

/// The states of tasks that can be removed.
const PURGED: [TaskStatus; 3] = [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled];

#[cfg(feature = "schema")]
fn takes_retried(schema: &mut schemars::Schema) {
    takes(schema, &RETRIED);
}

#[cfg(feature = "schema")]
fn takes_purged(schema: &mut schemars::Schema) {
    takes(schema, &PURGED);
}

/// Restricts the schema to the states that the operation accepts.
#[cfg(feature = "schema")]
fn takes(schema: &mut schemars::Schema, states: &[TaskStatus]) {
    let Some(status) = schema.pointer_mut("/properties/status") else { return };
    let states: Vec<_> = states.iter().map(|status| status.as_str()).collect();
    *status = serde_json::json!({
        "type": "string",
        "enum": states,
        "description": "All tasks that ended like this; either this or `task_ids`.",
    });
}

/// Queues dead letters again: tasks that failed, or were called off. Their attempts start anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = takes_retried))]
pub struct Retry {
    /// Which; `failed` or `cancelled` ones.
    #[serde(flatten)]
    pub selection: Selection,
}

impl Check for Retry {
    fn check(&self) -> Result<(), QueueError> {
        self.selection.check(&RETRIED)
    }
}

/// The answer to a [`Retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Retried {
    /// Tasks that are queued again.
    pub retried: u64,
    /// Those that are not there, that neither failed nor were called off, or that come after one which did not complete.
    pub skipped: u64,
    /// Whether there are more that pass the filter: call it again.
    pub more: bool,
}

/// Removes ended tasks with their results for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = takes_purged))]
pub struct Purge {
    /// Which.
    #[serde(flatten)]
    pub selection: Selection,
}

impl Check for Purge {
    fn check(&self) -> Result<(), QueueError> {
        self.selection.check(&PURGED)
    }
}

/// The answer to a [`Purge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Purged {
    /// Tasks that are gone.
    pub purged: u64,
    /// Named tasks that are not there or have not ended.
    pub skipped: u64,
    /// Whether there are more that pass the filter: call it again.
    pub more: bool,
}

/// Pauses the queue, or some of its types. Running tasks go on. The pause survives restarts and lasts until `resume`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pause {
    /// Only these types, up to 256; empty is the whole queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_types: Vec<String>,
    /// The other way round: new tasks are refused as `paused`, and those that are queued are still given out.
    #[serde(default)]
    pub drain: bool,
}

impl Check for Pause {
    fn check(&self) -> Result<(), QueueError> {
        task_types("task_types", &self.task_types)
    }
}

/// The answer to a [`Pause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Paused {
    /// Tasks that are queued there now.
    pub queued: u64,
    /// Tasks that run there now.
    pub running: u64,
}

/// Ends a pause or a drain, which [`Pause`] began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resume {
    /// Only these types, up to 256; empty is the whole queue, with every type that was paused by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_types: Vec<String>,
}

impl Check for Resume {
    fn check(&self) -> Result<(), QueueError> {
        task_types("task_types", &self.task_types)
    }
}

/// The answer to a [`Resume`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resumed {
    /// Tasks that are queued there now.
    pub queued: u64,
    /// Tasks that run there now.
    pub running: u64,
}

/// Sets how many tasks of a type, or with a concurrency key, may run at once. The limit survives restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limit {
    /// The type; either this or `concurrency_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// The key that tasks were submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// How many may run at once; none takes the limit away (a key then allows 1 again).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000)))]
    pub running_max: Option<u32>,
}

impl Check for Limit {
    fn check(&self) -> Result<(), QueueError> {
        if self.task_type.is_some() == self.concurrency_key.is_some() {
            return Err(QueueError::invalid("task_type", "give either task_type or concurrency_key"));
        }
        self.task_type.iter().try_for_each(|task_type| name("task_type", task_type))?;
        self.concurrency_key.iter().try_for_each(|key| name("concurrency_key", key))?;
        match self.running_max {
            Some(0) => Err(QueueError::invalid("running_max", "must be at least 1; to hold a type, pause it")),
            Some(max) if max > RUNNING_MAX_MAX => {
                Err(QueueError::over_limit("running_max", max as usize, RUNNING_MAX_MAX as usize, "tasks"))
            }
            _ => Ok(()),
        }
    }
}

/// The answer to a [`Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limited {
    /// How many run now; above a new limit none is stopped.
    pub running: u64,
}

/// Ends every lease that a machine holds, as if the leases had expired at this moment.
///
/// The attempts count. The tasks wait for their next attempts, or are dead letters. The machine's fences are no longer
/// valid. It ends the leases that the machine holds when it is asked. A claim that comes later, or waits, is not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Free {
    /// Which machine. The leases of local workers are those of the machine that keeps the tasks.
    #[serde(with = "crate::peer_text")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub machine: PeerId,
}

impl Check for Free {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to a [`Free`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Freed {
    /// How many leases were ended.
    pub freed: u64,
}

const fn default_limit() -> u32 {
    1_000
}
