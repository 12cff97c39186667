use serde::{Deserialize, Serialize};

/// Why a queued task has not been claimed.
///
/// It is found out when somebody asks, from what the node that keeps the task knows at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitingFor {
    /// What it waits for.
    pub reason: WaitReason,
    /// The same as a sentence, with what can be done.
    pub message: String,
    /// For `worker_absent`: the first demand of the task that no worker meets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking: Option<Lacking>,
    /// For `worker_absent`: the known name that is most like the one that the task asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// For `worker_busy` the machines with workers for it, for `worker_absent` the absent machines that would take it. At
    /// most eight names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
}

/// What a queued task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitReason {
    /// No worker that is there may take it.
    WorkerAbsent,
    /// All workers that may take it are busy.
    WorkerBusy,
    /// The time before which its submitter did not want it to run.
    Delayed,
    /// The pause before its next attempt.
    Backoff,
    /// The end of tasks that it comes after.
    After,
    /// The limit of running tasks of its type or its concurrency key.
    Limit,
    /// The end of a pause of the queue or of its type.
    Paused,
    /// A reason that a newer version knows.
    #[serde(other)]
    Other,
}

/// The demand of a task that no worker meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lacking {
    /// Its type.
    Type,
    /// The only machine that may run it.
    Machine,
    /// Its session.
    Session,
    /// The labels that it requires.
    Labels,
    /// Nothing: the workers that meet all demands are absent.
    Nothing,
    /// A demand that a newer version knows.
    #[serde(other)]
    Other,
}

impl WaitingFor {
    /// Makes a reason without further details.
    #[must_use]
    pub fn new(reason: WaitReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), lacking: None, nearest: None, machines: Vec::new() }
    }
}

/// Returns a span of time as people say it: `4 s`, `12 min`, `3 h`, `5 days`.
#[must_use]
pub fn span_text(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{:.1} s", seconds.max(0.0)),
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}
