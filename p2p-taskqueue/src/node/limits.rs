//! The bounds and deadlines of a node, each with its reason.

use std::time::Duration;

/// Connections in all: a node of a mesh of hundreds, at some tens of kilobytes each.
pub(super) const CONNECTIONS_MAX: usize = 512;

/// Connections of peers that have not proved that they belong to the mesh: they must leave room for those that do.
pub(super) const UNPROVEN_MAX: usize = 128;

/// Connections of one peer that has never proved anything.
pub(super) const PER_UNKNOWN_PEER_MAX: usize = 8;

/// Connections of one peer that has: its node, and as many command-line clients with the same identity as a script starts.
pub(super) const PER_PROVEN_PEER_MAX: usize = 64;

/// Connections that are being set up, each way.
pub(super) const PENDING_MAX: usize = 64;

/// Streams of one connection. This protocol uses one.
pub(super) const STREAMS_MAX: usize = 16;

/// One attempt at one address, encryption included.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection without a stream is closed after this.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the dial to the proof; covers a dial whose first addresses do not answer.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a join waits for the connection before it answers without one.
pub(crate) const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The peers that are remembered.
pub(super) const PEERS_MAX: usize = 1_024;

/// Callers that wait for a connection to one peer.
pub(super) const WAITERS_MAX: usize = 1_024;

/// Commands that wait for the node's loop, which takes microseconds for each.
pub(super) const COMMANDS_MAX: usize = 1_024;

/// What sessions report to the loop: each at most twice.
pub(super) const REPORTS_MAX: usize = 64;

/// The first redial of a peer that went away.
pub(super) const REDIAL_FIRST: Duration = Duration::from_millis(100);

/// Redials are never further apart.
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(30);

/// A peer of another mesh may join this one some day; until then it is left in peace.
pub(super) const REDIAL_OTHER_MESH: Duration = Duration::from_secs(60);

/// Changes to the peers are saved together.
pub(super) const SAVE_AFTER: Duration = Duration::from_secs(2);

/// What is under way when the node stops has this long to end: half of what a shutdown may take.
pub(super) const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// How long a listener may take to say where it listens.
pub(super) const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
