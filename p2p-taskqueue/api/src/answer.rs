use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    QueueError,
    check::{Check, inputs},
};
use crate::{Json, TaskId, TaskStatus};

/// Answers the questions of a task's worker. Keys that have no open question are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    /// The task.
    pub task_id: TaskId,
    /// An answer for each key of the task's `input_requests`, or for some of them. To a form it is
    /// `{"action":"accept","content":{…}}`, or `{"action":"decline"}`.
    pub input_responses: BTreeMap<String, Json>,
}

impl Check for Answer {
    fn check(&self) -> Result<(), QueueError> {
        if self.input_responses.is_empty() {
            return Err(QueueError::invalid("input_responses", "must not be empty"));
        }
        inputs("input_responses", &self.input_responses)
    }
}

/// The answer to an [`Answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answered {
    /// How many questions this answered.
    pub accepted: u32,
    /// How many are still open.
    pub open: u32,
    /// Where the task stands.
    pub status: TaskStatus,
}
