use serde::{Deserialize, Serialize};

use super::{
    QueueError,
    check::{Check, content, name, seconds},
    limits::CALL_TIMEOUT_S_MAX,
};
use crate::{Json, TaskRecord};

/// Asks a node for its tools: the tasks that its workers accept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListTools {}

impl Check for ListTools {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to a [`ListTools`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolsListed {
    /// The tools, by name.
    pub tools: Vec<ToolOffer>,
}

/// A tool that a node offers. Its name is the task type of its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolOffer {
    /// What to call it by: the task type.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// A JSON Schema of its arguments, which become the task's payload; null when it takes any.
    #[serde(default)]
    pub input_schema: Json,
}

impl ToolOffer {
    /// Makes the offer of a tool of which only its name is known.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: String::new(), input_schema: Json::null() }
    }

    /// The bytes of the description and the schema.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.description.len() + self.input_schema.len_bytes()
    }

    /// Leaves the description and the schema out.
    pub fn strip(&mut self) {
        *self = Self::named(std::mem::take(&mut self.name));
    }
}

/// Calls a tool of a node: queues a durable task of that type and waits for its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallTool {
    /// Who calls it, as the server that let them in calls them: the submitter of the task. No proof of anything by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub submitter: Option<String>,
    /// Which tool, as `list_tools` names it.
    pub tool_name: String,
    /// Its arguments: the task's payload.
    #[serde(default)]
    pub args: Json,
    /// How long to wait for the result, in seconds. The task goes on when the time is up.
    #[serde(default = "default_timeout_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 600)))]
    pub timeout_s: f64,
}

impl CallTool {
    /// Makes a call that waits for up to 30 seconds.
    #[must_use]
    pub fn new(tool_name: impl Into<String>, args: Json) -> Self {
        Self { submitter: None, tool_name: tool_name.into(), args, timeout_s: default_timeout_s() }
    }
}

impl Check for CallTool {
    fn check(&self) -> Result<(), QueueError> {
        self.submitter.iter().try_for_each(|submitter| name("submitter", submitter))?;
        name("tool_name", &self.tool_name)?;
        content("args", &self.args)?;
        seconds("timeout_s", Some(self.timeout_s), 0.0..=CALL_TIMEOUT_S_MAX)
    }
}

/// The answer to a [`CallTool`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolCalled {
    /// What it gave, as given; null when the task has not completed.
    #[serde(default)]
    pub result: Json,
    /// The task that did it: its status, and its error if it failed. When it has not ended, it goes on: wait for it.
    pub task: TaskRecord,
}

const fn default_timeout_s() -> f64 {
    30.0
}
