//! The bounds and deadlines of a node, each with its reason.

use std::time::Duration;

/// Connections in all: a node of a mesh of hundreds, at some tens of kilobytes each.
pub(super) const CONNECTIONS_MAX: usize = 512;

/// Connections of peers that have not proved that they belong to the mesh: they must leave room for those that do.
pub(super) const UNPROVEN_MAX: usize = 128;

/// Connections from one address that are being set up or whose other end has not proved itself. A second machine behind the
/// same address, with a few clients of its own, has room.
pub(super) const PER_UNKNOWN_ADDRESS_MAX: usize = 8;

/// Connections of one peer that has never proved anything.
pub(super) const PER_UNKNOWN_PEER_MAX: usize = 8;

/// Connections of one peer that has: its node, and as many command-line clients with the same identity as a script starts.
pub(super) const PER_PROVEN_PEER_MAX: usize = 64;

/// Connections that are being set up, each way.
pub(super) const PENDING_MAX: usize = 64;

/// Streams of one connection. This protocol uses one; those of discovery, some short ones; a relay, one for each circuit.
pub(super) const STREAMS_MAX: usize = 64;

/// What a peer may send on one QUIC stream before it is read: the window that a frame of a megabyte fills on a long path.
pub(super) const QUIC_STREAM_BYTES: u32 = 2 * 1024 * 1024;

/// The same for all streams of a QUIC connection.
pub(super) const QUIC_CONNECTION_BYTES: u32 = 4 * 1024 * 1024;

/// A QUIC connection is kept open by a packet this often: address translators forget what is silent for half a minute.
pub(super) const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A QUIC connection on which nothing comes for this long is dead: as long as the session's own pulse allows.
pub(super) const QUIC_IDLE: Duration = Duration::from_secs(30);

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

/// Peers that discovery has come up with and that have not proved themselves. The local network decides how many there are.
pub(super) const FOUND_MAX: usize = 256;

/// The local network is asked for peers this often, in case a packet was lost.
pub(super) const MDNS_QUERY_EVERY: Duration = Duration::from_secs(60);

/// The peer ids of an allow or a deny list: as many as a node remembers.
pub(super) const LISTED_PEERS_MAX: usize = PEERS_MAX;

/// Nodes that are reached through this one. Each costs an entry and a renewal in an hour; the connections are bounded besides.
pub(super) const RELAY_RESERVATIONS_MAX: usize = 256;

/// Reservations of one node: it has one, and for a moment a second one while an old connection has not been noticed to be
/// dead.
pub(super) const RELAY_RESERVATIONS_PER_PEER_MAX: usize = 4;

/// A reservation is renewed before this ends; a node that is gone for good is forgotten after it.
pub(super) const RELAY_RESERVATION: Duration = Duration::from_secs(3_600);

/// Circuits in all: every node of a mesh of some tens with every other one. Each costs two buffers of some kilobytes.
pub(super) const RELAY_CIRCUITS_MAX: usize = 512;

/// Circuits that one node has asked for or is at the other end of: below the streams of one connection, which carries them
/// all.
pub(super) const RELAY_CIRCUITS_PER_PEER_MAX: usize = 48;

/// A circuit is for work that goes on all day, for members only; when it is cut, its ends connect anew.
pub(super) const RELAY_CIRCUIT_DURATION: Duration = Duration::from_secs(24 * 3_600);

/// What a circuit may carry in its life: sixteen thousand results of the largest size, or a day at 190 kB/s. It ends a flood
/// that nobody watches, and costs a new connection otherwise.
pub(super) const RELAY_CIRCUIT_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// Searches that one way serves at a time: more than the tools of one node ask for.
pub(super) const SEARCHES_MAX: usize = 64;

/// A rendezvous point is asked for new peers this often.
pub(super) const POINTS_EVERY: Duration = Duration::from_secs(60);

/// What a rendezvous point has refused or not answered is tried again after this.
pub(super) const POINTS_RETRY: Duration = Duration::from_secs(5);

/// What this node tells the hash table waits this long: addresses and peers come in groups.
pub(super) const PUBLISH_AFTER: Duration = Duration::from_millis(200);

/// The numbers of this node's records count seconds: two within one would be the same to those who keep them.
pub(super) const PUBLISH_PAUSE: Duration = Duration::from_secs(2);

/// This node tells the hash table where it is this often, a quarter of the time for which it is remembered there.
pub(super) const PUBLISH_EVERY: Duration = Duration::from_secs(30 * 60);

/// What nobody has taken is told again after this.
pub(super) const PUBLISH_RETRY: Duration = Duration::from_secs(30);

/// The peers whose records one search asks the hash table for.
pub(super) const LOOKUPS_MAX: usize = 128;
