use std::collections::BTreeMap;

use crate::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{
    Durability, QueueError,
    check::{Check, name, seconds},
    limits::{CALL_TIMEOUT_S_MAX, CLOCK_BYTES_MAX},
};
use crate::Json;

/// Asks a node for its identity and its state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusQuery {
    /// How long to wait for the answer, in seconds.
    #[serde(default = "default_timeout_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 600)))]
    pub timeout_s: f64,
    /// Also say how queue, peers, bridge and store stand.
    #[serde(default)]
    pub detail: bool,
}

impl Default for StatusQuery {
    fn default() -> Self {
        Self { timeout_s: default_timeout_s(), detail: false }
    }
}

impl Check for StatusQuery {
    fn check(&self) -> Result<(), QueueError> {
        seconds("timeout_s", Some(self.timeout_s), 0.0..=CALL_TIMEOUT_S_MAX)
    }
}

/// The answer to a [`StatusQuery`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Who answers.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "crate::peer_text")]
    pub peer_id: PeerId,
    /// The node's version.
    pub version: String,
    /// How its HTTP and p2p sides are joined: `bridge`, `native` or `daemon`.
    pub mode: String,
    /// The runtime under its p2p side.
    pub p2p_runtime: String,
    /// Since when it runs, in seconds.
    pub uptime_s: f64,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Where it can be reached.
    #[serde(default, deserialize_with = "super::place::addresses")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<Multiaddr>,
    /// With `detail`: the tasks that it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// With `detail`: where it keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStatus>,
    /// With `detail`: the peers that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<Peer>>,
    /// With `detail`: its connections, and what it has refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportStatus>,
    /// With `detail`: the boundary between its runtimes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeStatus>,
}

/// What a node can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capabilities {
    /// The task types that its own workers take.
    #[serde(default)]
    pub task_types: Vec<String>,
    /// The operations that it answers.
    #[serde(default)]
    pub operations: Vec<String>,
}

/// How many tasks stand where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueStatus {
    /// Tasks by state.
    #[serde(default)]
    pub totals: BTreeMap<String, u64>,
    /// How long the oldest claimable task has waited, in seconds.
    #[serde(default)]
    pub oldest_queued_s: Option<f64>,
}

/// How a store stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreStatus {
    /// `sqlite` or `memory`.
    pub kind: String,
    /// What is known of a change when it is answered.
    pub durability: Durability,
    /// What a look over the whole store found wrong, which follows an end that was not in order; null when none was
    /// called for or it is under way. Above 0, stop the node and run `taskmesh repair`.
    #[serde(default)]
    pub problems: Option<u64>,
}

/// A node's connections, and what it has refused since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransportStatus {
    /// Connections that stand, those of strangers among them.
    #[serde(default)]
    pub connections: u64,
    /// Connections whose other end has not proved that it belongs to the mesh.
    #[serde(default)]
    pub unproven: u64,
    /// Connections that are being set up.
    #[serde(default)]
    pub pending: u64,
    /// Sessions that stand: connections on which requests can travel.
    #[serde(default)]
    pub sessions: u64,
    /// What was refused since the start, counted by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

/// What crossed the boundary between the runtimes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BridgeStatus {
    /// Whether calls run without a crossing.
    #[serde(default)]
    pub inline: bool,
    /// Calls since the start.
    #[serde(default)]
    pub calls: u64,
    /// Calls not yet answered.
    #[serde(default)]
    pub in_flight: u64,
    /// Calls whose caller went away.
    #[serde(default)]
    pub cancelled: u64,
    /// Calls that panicked.
    #[serde(default)]
    pub panicked: u64,
    /// Calls refused because the bound was reached.
    #[serde(default)]
    pub overloaded: u64,
}

/// Asks a node for the peers that it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Peers {
    /// Only those with a standing connection.
    #[serde(default)]
    pub connected_only: bool,
}

impl Check for Peers {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to [`Peers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeersListed {
    /// Who answers.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub self_peer_id: PeerId,
    /// The peers.
    pub peers: Vec<Peer>,
}

/// A peer, as a node knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Peer {
    /// Who it is.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// Its name in the mesh. Absent for a peer that is no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether there is a connection on which it has shown that it is a member of the mesh.
    pub connected: bool,
    /// Where it said that it can be reached, or was reached.
    #[serde(default, deserialize_with = "super::place::addresses")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<Multiaddr>,
    /// When it was last heard of, in Unix seconds.
    #[serde(default)]
    pub last_seen: Option<f64>,
    /// The version that it runs.
    #[serde(default)]
    pub version: Option<String>,
    /// What the last attempt to reach it came to, when it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_dial: Option<DialOutcome>,
}

/// What an attempt to reach a peer came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DialOutcome {
    /// When, in Unix seconds.
    pub at: f64,
    /// What went wrong.
    pub error: String,
}

/// Reports that a program is alive: its name and its vector clock. This does not renew a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// Who it is, in its own words.
    pub peer_id: String,
    /// Its vector clock, up to 64 KiB: `{"vector":{NODE:COUNT}}`; the higher counts are taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<BTreeMap<String, Json>>"))]
    pub clock: Option<Json>,
}

impl Check for Heartbeat {
    fn check(&self) -> Result<(), QueueError> {
        name("peer_id", &self.peer_id)?;
        match self.clock.as_ref().map(Json::len_bytes) {
            Some(bytes) if bytes > CLOCK_BYTES_MAX => {
                Err(QueueError::over_limit("clock", bytes, CLOCK_BYTES_MAX, "bytes"))
            }
            _ => Ok(()),
        }
    }
}

/// The answer to a [`Heartbeat`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heard {
    /// Who gave a sign of life of late.
    pub scheduler: Scheduler,
}

/// The peers that were heard of recently, and the merged clock of all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scheduler {
    /// This node's clock.
    pub clock: VectorClock,
    /// The peers, the last heard of first.
    pub known_peers: Vec<HeardPeer>,
}

/// A clock with a count for each node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VectorClock {
    /// Whose clock it is.
    #[serde(default)]
    pub node_id: String,
    /// The count of each node.
    #[serde(default)]
    pub vector: BTreeMap<String, u64>,
    /// The SHA-256 of the sorted `[node, count]` pairs as JSON, in hex.
    #[serde(default)]
    pub merkle_root: String,
}

/// A peer that has sent a heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeardPeer {
    /// As it called itself.
    pub peer_id: String,
    /// When, in Unix seconds.
    pub last_seen: f64,
}

const fn default_timeout_s() -> f64 {
    10.0
}
