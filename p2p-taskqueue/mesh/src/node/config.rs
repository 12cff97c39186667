use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId};
use taskqueue_api::QueueError;

use super::{
    ReachConfig,
    limits::{
        CONNECTIONS_MAX, LISTED_PEERS_MAX, PENDING_MAX, PER_PROVEN_PEER_MAX, PER_UNKNOWN_ADDRESS_MAX,
        PER_UNKNOWN_PEER_MAX, UNPROVEN_MAX,
    },
};
use crate::{Identity, Mesh, Ticket, discovery::DiscoveryConfig, members::Wish};

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub(crate) identity: Identity,
    pub(crate) mesh: Mesh,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) serves: bool,
    pub(crate) mode: String,
    pub(crate) p2p_runtime: String,
    pub(crate) discovery: DiscoveryConfig,
    pub(crate) reach: ReachConfig,
    pub(super) limits: ConnectionLimits,
    pub(super) allowed: Option<BTreeSet<PeerId>>,
    pub(super) denied: BTreeSet<PeerId>,
}

/// How a client becomes a member.
#[derive(Debug, Clone)]
pub(super) struct Entering {
    pub(super) ticket: Ticket,
    pub(super) wish: Wish,
}

/// The bounds on a node's connections. The defaults suit a mesh of hundreds of nodes.
///
/// A new connection for which there is no room takes the place of one whose peer has not proved itself: from the
/// address that has the most of them, the one that has waited longest without sending anything. An address from which a
/// member has proved itself keeps `per_unknown_address` connections against newcomers from addresses without members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// All connections; 512 by default.
    pub connections: usize,
    /// Connections of peers that have not proved that they belong to the mesh; 128 by default.
    pub unproven: usize,
    /// Connections of one peer that has never proved itself; 8 by default.
    pub per_unknown_peer: usize,
    /// Connections of one peer that has proved itself, including its command-line clients; 64 by default.
    pub per_proven_peer: usize,
    /// Connections from one address from which nobody has proved itself, including those being set up; 8 by default.
    /// The IPv6 network of one customer counts as one address. Loopback has no such bound, because all programs of the
    /// machine share it.
    pub per_unknown_address: usize,
    /// Connections that are being set up, in each direction; 64 by default.
    pub pending: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            unproven: UNPROVEN_MAX,
            per_unknown_peer: PER_UNKNOWN_PEER_MAX,
            per_proven_peer: PER_PROVEN_PEER_MAX,
            per_unknown_address: PER_UNKNOWN_ADDRESS_MAX,
            pending: PENDING_MAX,
        }
    }
}

impl NodeConfig {
    /// Creates the configuration of a node with this identity and this part in a mesh. The node needs an address to
    /// listen on, or a relay.
    #[must_use]
    pub fn new(identity: Identity, mesh: Mesh) -> Self {
        Self {
            identity,
            mesh,
            listen: Vec::new(),
            serves: true,
            mode: "bridge".to_owned(),
            p2p_runtime: "tokio".to_owned(),
            discovery: DiscoveryConfig::default(),
            reach: ReachConfig::default(),
            limits: ConnectionLimits::default(),
            allowed: None,
            denied: BTreeSet::new(),
        }
    }

    /// Creates the configuration of a node that only asks: it does not listen, answers no requests and dials nobody
    /// again.
    pub(super) fn client(identity: Identity, mesh: Mesh) -> Self {
        Self { serves: false, ..Self::new(identity, mesh) }
    }

    /// Listens on these addresses, for example `/ip4/127.0.0.1/tcp/9710`; port 0 takes a free one.
    #[must_use]
    pub fn with_listen(self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        Self { listen: addresses.into_iter().collect(), ..self }
    }

    /// Sets what `status` says about how the node's HTTP and p2p sides are joined.
    #[must_use]
    pub fn with_mode(self, mode: impl Into<String>) -> Self {
        Self { mode: mode.into(), ..self }
    }

    /// Finds peers by these methods.
    #[must_use]
    pub fn with_discovery(self, discovery: DiscoveryConfig) -> Self {
        Self { discovery, ..self }
    }

    /// Sets how the node is reached from networks that cannot dial it.
    #[must_use]
    pub fn with_reach(self, reach: ReachConfig) -> Self {
        Self { reach, ..self }
    }

    /// Sets the bounds on the node's connections.
    #[must_use]
    pub fn with_limits(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// Connects only with these peers; `None` allows all. Relays and bootstrap peers have to be on the list.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` when there are more than 1,024.
    pub fn with_allowed_peers(self, peers: Option<BTreeSet<PeerId>>) -> Result<Self, QueueError> {
        check_listed("allowed_peers", peers.as_ref().map_or(0, BTreeSet::len))?;
        Ok(Self { allowed: peers, ..self })
    }

    /// Never connects with these peers, whether they are allowed or not.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` when there are more than 1,024.
    pub fn with_denied_peers(self, peers: BTreeSet<PeerId>) -> Result<Self, QueueError> {
        check_listed("denied_peers", peers.len())?;
        Ok(Self { denied: peers, ..self })
    }

    /// Sets what `status` says about the runtime under the node.
    #[must_use]
    pub fn with_p2p_runtime(self, name: impl Into<String>) -> Self {
        Self { p2p_runtime: name.into(), ..self }
    }
}

fn check_listed(field: &str, count: usize) -> Result<(), QueueError> {
    if count <= LISTED_PEERS_MAX {
        Ok(())
    } else {
        Err(QueueError::over_limit(field, count, LISTED_PEERS_MAX, "peers"))
    }
}
