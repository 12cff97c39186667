//! Operations on the workers of the mesh: which there are, and what each of them takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    PeerId, QueueError, ToolOffer,
    check::{Check, labels, name},
    limits::{OFFER_BYTES_MAX, TASK_TYPES_MAX, WORKERS_TOLD_MAX},
};

/// Asks a node for the workers that it knows: its own, and those of the other machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Workers {
    /// Only those that take tasks of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// Only those with this label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Also give the JSON Schema of the arguments of each type.
    #[serde(default)]
    pub schemas: bool,
}

impl Check for Workers {
    fn check(&self) -> Result<(), QueueError> {
        self.task_type.iter().try_for_each(|task_type| name("task_type", task_type))?;
        self.label.iter().try_for_each(|label| name("label", label))
    }
}

/// The answer to [`Workers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkersListed {
    /// The node that answers.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub self_peer_id: PeerId,
    /// The workers, by their machines.
    pub workers: Vec<WorkerInfo>,
}

/// A worker, as a node knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerInfo {
    /// The name of its machine.
    pub machine: String,
    /// The peer id of its machine.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// The name that it gives itself.
    pub worker_id: String,
    /// Whether it is there: its machine is connected to the node that answers, and has not said that it has stopped.
    pub connected: bool,
    /// When its machine was last heard of, in Unix seconds. Absent while it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
    /// The task types that it takes. An empty list means any type.
    pub takes: Vec<ToolOffer>,
    /// The labels that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The session whose tasks it takes in addition to tasks without a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How many tasks it runs at a time. Absent for a program that claims by itself and tells nothing of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How many it runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<u32>,
    /// Since when it runs, in Unix seconds of its machine's clock.
    pub since: f64,
}

/// What a worker tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerOffer {
    /// A text that no other worker of the machine has, drawn when it starts.
    pub instance: String,
    /// The name that it gives itself, as in its claims.
    pub worker_id: String,
    /// The task types that it takes. An empty list means any type.
    #[serde(deserialize_with = "super::bounded::offered_types")]
    pub takes: Vec<ToolOffer>,
    /// The labels that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The session whose tasks it takes in addition to tasks without a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How many tasks it runs at a time.
    pub slots: u32,
    /// How many it runs now.
    pub busy: u32,
    /// Since when it runs, in Unix seconds.
    pub since: f64,
}

impl WorkerOffer {
    /// The bytes of the descriptions and schemas.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.takes.iter().map(ToolOffer::content_bytes).sum()
    }

    /// Leaves out descriptions and schemas, the largest first, until the rest is within [`OFFER_BYTES_MAX`]. Returns
    /// the types that lost theirs.
    pub fn fit(&mut self) -> Vec<String> {
        let mut lost = Vec::new();
        let mut bytes = self.content_bytes();
        while bytes > OFFER_BYTES_MAX {
            let Some(largest) = self.takes.iter_mut().max_by_key(|tool| tool.content_bytes()) else { break };
            lost.push(largest.name.clone());
            bytes -= largest.content_bytes();
            largest.strip();
            bytes += largest.content_bytes();
        }
        lost
    }

    fn check(&self) -> Result<(), QueueError> {
        name("instance", &self.instance)?;
        name("worker_id", &self.worker_id)?;
        labels("labels", &self.labels, super::limits::LABELS_MAX)?;
        self.session.iter().try_for_each(|session| name("session", session))?;
        if self.takes.len() > TASK_TYPES_MAX {
            return Err(QueueError::over_limit("takes", self.takes.len(), TASK_TYPES_MAX, "types"));
        }
        self.takes.iter().try_for_each(|tool| name("takes", &tool.name))?;
        match self.content_bytes() {
            bytes if bytes > OFFER_BYTES_MAX => Err(QueueError::over_limit("takes", bytes, OFFER_BYTES_MAX, "bytes")),
            _ => Ok(()),
        }
    }
}

/// Tells a node about workers of the machine that tells: a worker tells the node of its own machine, and that node tells
/// its peers.
///
/// What a worker tells stands for [`WORKER_STANDS_S`](super::limits::WORKER_STANDS_S) seconds, so it is told again before.
/// What a node tells its peers stands as long as the session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TellWorkers {
    /// The workers that are new, or have changed.
    #[serde(default, deserialize_with = "super::bounded::offers", skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerOffer>,
    /// How many tasks each worker runs now, by its instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub busy: BTreeMap<String, u32>,
    /// The workers that have stopped, by their instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<String>,
    /// Whether `workers` are all workers of the machine. Those that were told before and are not named have stopped.
    #[serde(default)]
    pub all: bool,
}

impl TellWorkers {
    /// The bytes of the descriptions and schemas.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.workers.iter().map(WorkerOffer::content_bytes).sum()
    }
}

impl Check for TellWorkers {
    fn check(&self) -> Result<(), QueueError> {
        for (field, count) in
            [("workers", self.workers.len()), ("busy", self.busy.len()), ("stopped", self.stopped.len())]
        {
            if count > WORKERS_TOLD_MAX {
                return Err(QueueError::over_limit(field, count, WORKERS_TOLD_MAX, "workers"));
            }
        }
        self.busy.keys().chain(&self.stopped).try_for_each(|instance| name("instance", instance))?;
        let check =
            |(at, offer): (usize, &WorkerOffer)| offer.check().map_err(|error| error.within(&format!("workers[{at}]")));
        self.workers.iter().enumerate().try_for_each(check)
    }
}

/// The answer to [`TellWorkers`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersTold {
    /// Instances in `busy` that the node does not know: it has to be told what they take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}
