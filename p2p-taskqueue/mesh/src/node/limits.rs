//! The bounds and deadlines of a node, each with its reason.

use std::time::Duration;

/// The most connections in all. They suffice for a node of a mesh of hundreds, and each costs some tens of kilobytes.
pub(super) const CONNECTIONS_MAX: usize = 512;

/// The most connections of peers that have not proved that they belong to the mesh. They must leave room for members.
pub(super) const UNPROVEN_MAX: usize = 128;

/// The most connections from one address that are being set up or whose peer has not proved itself. They leave room for
/// a second machine behind the same address, with a few clients of its own.
pub(super) const PER_UNKNOWN_ADDRESS_MAX: usize = 8;

/// The most connections of one peer that has never proved itself.
pub(super) const PER_UNKNOWN_PEER_MAX: usize = 8;

/// The most connections of one peer that has proved itself: its node, and as many command-line clients with the same
/// identity as a script starts.
pub(super) const PER_PROVEN_PEER_MAX: usize = 64;

/// The most connections that are being set up, in each direction.
pub(super) const PENDING_MAX: usize = 64;

/// The most streams of one connection. The node's own protocol uses one, discovery uses some short ones, and a relay
/// uses one for each circuit.
pub(super) const STREAMS_MAX: usize = 64;

/// The most bytes that a peer may send on one QUIC stream before they are read. It is the window that a frame of a
/// megabyte fills on a long path.
pub(super) const QUIC_STREAM_BYTES: u32 = 2 * 1024 * 1024;

/// The same bound for all streams of a QUIC connection together.
pub(super) const QUIC_CONNECTION_BYTES: u32 = 4 * 1024 * 1024;

/// The pause between the packets that keep a QUIC connection open. Address translators forget a connection that is
/// silent for half a minute.
pub(super) const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The time after which a QUIC connection is dead if nothing comes on it. A session allows as long a silence.
pub(super) const QUIC_IDLE: Duration = Duration::from_secs(30);

/// The deadline of one attempt at one address, encryption included.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time after which a connection without a stream is closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadline of a caller from the dial to the proof. It covers a dial whose first addresses do not answer.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer has to answer what it is told about members or workers. A peer that does not take news of the members
/// is disconnected.
pub(crate) const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a join waits for the connection before it answers without one.
pub(crate) const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses between the attempts to join a mesh whose machine cannot be reached yet.
pub(crate) const JOIN_PAUSE_FIRST: Duration = Duration::from_secs(1);
pub(crate) const JOIN_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The most peers that are remembered.
pub(super) const PEERS_MAX: usize = 1_024;

/// The most callers that wait for a connection to one peer.
pub(super) const WAITERS_MAX: usize = 1_024;

/// The most commands that wait for the node's loop, which takes microseconds for each.
pub(super) const COMMANDS_MAX: usize = 1_024;

/// The most reports of links that wait for the loop. Each link reports at most twice.
pub(super) const REPORTS_MAX: usize = 64;

/// The pause before the first redial of a peer that went away.
pub(super) const REDIAL_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two redials.
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(30);

/// The pause before a peer of another mesh is dialled again. It may join this mesh some day.
pub(super) const REDIAL_OTHER_MESH: Duration = Duration::from_secs(60);

/// The time for which a change to the peers waits, so that changes are saved together.
pub(super) const SAVE_AFTER: Duration = Duration::from_secs(2);

/// The time that work under way has to end when the node stops: half of what a shutdown may take.
pub(super) const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// The time within which a listener must report where it listens.
pub(super) const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The most peers that discovery has found and that have not proved themselves. Without the bound, the local network
/// would decide how many there are.
pub(super) const FOUND_MAX: usize = 256;

/// The pause between two questions to the local network for peers. They are repeated in case a packet was lost.
pub(super) const MDNS_QUERY_EVERY: Duration = Duration::from_secs(60);

/// The most peer ids of an allow list or a deny list: as many as a node remembers.
pub(super) const LISTED_PEERS_MAX: usize = PEERS_MAX;

/// The most nodes that are reached through this one. Each costs an entry and a renewal in an hour. The connections have
/// a bound of their own.
pub(super) const RELAY_RESERVATIONS_MAX: usize = 256;

/// The most reservations of one node. It has one, and for a moment a second one while an old connection has not been
/// noticed to be dead.
pub(super) const RELAY_RESERVATIONS_PER_PEER_MAX: usize = 4;

/// The length of a reservation. It is renewed before it ends, and a node that is gone for good is forgotten after it.
pub(super) const RELAY_RESERVATION: Duration = Duration::from_secs(3_600);

/// The most circuits in all: one from every node of a mesh of some tens to every other one. Each costs two buffers of
/// some kilobytes.
pub(super) const RELAY_CIRCUITS_MAX: usize = 512;

/// The most circuits that one node has asked for or is at the other end of. It is below the number of streams of one
/// connection, which carries them all.
pub(super) const RELAY_CIRCUITS_PER_PEER_MAX: usize = 48;

/// The most circuits that strangers may ask for at once: newcomers that come in by a ticket of a member behind this
/// relay.
pub(super) const RELAY_STRANGERS_MAX: u32 = 8;

/// The time after which strangers may ask for one more circuit.
pub(super) const RELAY_STRANGER_EVERY: Duration = Duration::from_secs(5);

/// The longest life of a circuit. The work of members may go on all day. When it is cut, its ends connect anew. The
/// member at the other end closes the circuit of a stranger within seconds.
pub(super) const RELAY_CIRCUIT_DURATION: Duration = Duration::from_secs(24 * 3_600);

/// The most bytes that a circuit carries in its life: sixteen thousand results of the largest size, or a day at 190
/// kB/s. The bound ends a flood that nobody watches; to others it costs a new connection.
pub(super) const RELAY_CIRCUIT_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// The most searches that one discovery method serves at a time: more than the tools of one node ask for.
pub(super) const SEARCHES_MAX: usize = 64;

/// The pause between two questions to a rendezvous point for new peers.
pub(super) const POINTS_EVERY: Duration = Duration::from_secs(60);

/// The pause before a rendezvous point is tried again with what it has refused or not answered.
pub(super) const POINTS_RETRY: Duration = Duration::from_secs(5);

/// The time for which a publication in the hash table waits, because changes of addresses and peers come in groups.
pub(super) const PUBLISH_AFTER: Duration = Duration::from_millis(200);

/// The shortest pause between two publications. The numbers of this node's records count seconds, so the nodes that
/// keep them could not tell apart two within one second.
pub(super) const PUBLISH_PAUSE: Duration = Duration::from_secs(2);

/// The pause between two publications without a change: a quarter of the time for which the table keeps a record.
pub(super) const PUBLISH_EVERY: Duration = Duration::from_secs(30 * 60);

/// The pause before a record that no node has taken is published again.
pub(super) const PUBLISH_RETRY: Duration = Duration::from_secs(30);

/// The most peers whose records one search asks the hash table for.
pub(super) const LOOKUPS_MAX: usize = 128;
