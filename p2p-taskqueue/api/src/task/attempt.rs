use serde::{Deserialize, Serialize};

use crate::PeerId;

/// One attempt at a task: who took it, when, and how that ended.
///
/// Points in time are Unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attempt {
    /// The machine whose worker claimed the task.
    #[serde(with = "crate::peer_text")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub machine: PeerId,
    /// The name of that machine in the mesh, as the node that answers knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// The name that the worker gave itself.
    pub worker_id: String,
    /// When the worker claimed it.
    pub started_at: f64,
    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<f64>,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// What the worker said at its end, or why the queue ended it, cut to 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Its worker completed the task.
    Completed,
    /// Its worker reported a failure, for good or for another attempt.
    Failed,
    /// Its worker gave the task back. The attempt does not count.
    Released,
    /// Its worker did not renew the lease in time.
    LeaseExpired,
    /// The task had been called off, and its worker stopped.
    Cancelled,
    /// The task's deadline passed while it ran.
    DeadlinePassed,
    /// Somebody took its machine out of work; see `free`.
    Freed,
}

impl AttemptOutcome {
    /// All outcomes.
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::Failed,
        Self::Released,
        Self::LeaseExpired,
        Self::Cancelled,
        Self::DeadlinePassed,
        Self::Freed,
    ];
}
