use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    QueueError,
    check::{Check, ids, name, seconds, task_types, text},
    limits::{LIST_LIMIT_MAX, NAME_BYTES_MAX, WAIT_S_MAX},
};
use crate::{TaskId, TaskRecord, TaskStatus};

/// Asks for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Get {
    /// The task.
    pub task_id: TaskId,
}

impl Check for Get {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to a [`Get`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Got {
    /// The record.
    pub task: TaskRecord,
}

/// Asks for several records, all read at the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetMany {
    /// The tasks, up to 1,000.
    pub task_ids: Vec<TaskId>,
}

impl Check for GetMany {
    fn check(&self) -> Result<(), QueueError> {
        ids("task_ids", &self.task_ids)
    }
}

/// The answer to a [`GetMany`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GotMany {
    /// The records that there are, in the order asked for.
    pub tasks: Vec<TaskRecord>,
    /// The ids for which there is none.
    #[serde(default)]
    pub missing: Vec<TaskId>,
}

/// Asks for the number of tasks in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatsQuery {}

impl Check for StatsQuery {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to a [`StatsQuery`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats {
    /// Tasks by state.
    pub totals: BTreeMap<String, u64>,
    /// Tasks by type and state, for up to 1,000 types, by name.
    pub by_type: BTreeMap<String, TypeStats>,
    /// Whether the whole queue is paused; single types say so under `by_type`.
    pub paused: bool,
    /// Whether the whole queue takes no new tasks.
    #[serde(default)]
    pub draining: bool,
    /// How long the oldest claimable task has waited, in seconds.
    pub oldest_queued_s: Option<f64>,
}

/// The tasks of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TypeStats {
    /// Waiting for a worker.
    pub queued: u64,
    /// Claimed under a lease.
    pub running: u64,
    /// Ended with a result.
    pub completed: u64,
    /// Ended without one.
    pub failed: u64,
    /// Called off.
    pub cancelled: u64,
    /// Its tasks are not given out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// It takes no new tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// How many of them may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
}

impl TypeStats {
    /// How many tasks have this status.
    #[must_use]
    pub const fn count(&self, status: TaskStatus) -> u64 {
        match status {
            TaskStatus::Queued => self.queued,
            TaskStatus::Running => self.running,
            TaskStatus::Completed => self.completed,
            TaskStatus::Failed => self.failed,
            TaskStatus::Cancelled => self.cancelled,
        }
    }
}

/// Waits until a task, or each of several, has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Wait {
    /// The task; either this or `task_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The tasks, up to 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<TaskId>,
    /// How long to wait, in seconds.
    #[serde(default = "default_timeout_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 3_600)))]
    pub timeout_s: f64,
}

impl Wait {
    /// Makes a wait for one task.
    #[must_use]
    pub const fn one(task_id: TaskId, timeout_s: f64) -> Self {
        Self { task_id: Some(task_id), task_ids: Vec::new(), timeout_s }
    }
}

impl Check for Wait {
    fn check(&self) -> Result<(), QueueError> {
        if self.task_id.is_some() != self.task_ids.is_empty() {
            return Err(QueueError::invalid("task_id", "give either task_id or task_ids"));
        }
        if self.task_id.is_none() {
            ids("task_ids", &self.task_ids)?;
        }
        seconds("timeout_s", Some(self.timeout_s), 0.0..=WAIT_S_MAX)
    }
}

/// The answer to a [`Wait`]. At the timeout it has the records as they are then, and `done` is false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Waited {
    /// The record, when one task was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskRecord>,
    /// The records in the order asked for, when several were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<TaskRecord>>,
    /// Whether all have ended.
    pub done: bool,
}

/// Asks for a page of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct List {
    /// Only those in this state.
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
    /// How many at the most; a page ends early at 512 KiB.
    #[serde(default = "default_limit")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000)))]
    pub limit: u32,
    /// Where the last page ended: its `next_cursor`, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// By time of submission, the last one first unless it says `oldest`.
    #[serde(default)]
    pub order: Order,
}

impl Default for List {
    fn default() -> Self {
        Self {
            status: None,
            task_types: Vec::new(),
            session: None,
            label: None,
            limit: default_limit(),
            cursor: None,
            order: Order::default(),
        }
    }
}

impl Check for List {
    fn check(&self) -> Result<(), QueueError> {
        task_types("task_types", &self.task_types)?;
        self.session.iter().try_for_each(|session| name("session", session))?;
        self.label.iter().try_for_each(|label| name("label", label))?;
        self.cursor.iter().try_for_each(|cursor| text("cursor", cursor, NAME_BYTES_MAX))?;
        if self.limit == 0 {
            return Err(QueueError::invalid("limit", "must be at least 1"));
        }
        if self.limit > LIST_LIMIT_MAX {
            return Err(QueueError::over_limit("limit", self.limit as usize, LIST_LIMIT_MAX as usize, "records"));
        }
        Ok(())
    }
}

/// The end from which a list starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The last submitted first: what somebody who looks asks about, however long the list is.
    #[default]
    Newest,
    /// The first submitted first.
    Oldest,
}

/// The answer to a [`List`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listed {
    /// The records.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page starts; null at the end.
    pub next_cursor: Option<String>,
}

const fn default_timeout_s() -> f64 {
    60.0
}

const fn default_limit() -> u32 {
    50
}
