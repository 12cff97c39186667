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
use crate::{Identity, MeshSecret, discovery::DiscoveryConfig};

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub(crate) identity: Identity,
    pub(crate) secret: MeshSecret,
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

/// How many connections a node has at most. The defaults suit a mesh of hundreds of nodes.
///
/// A newcomer for whom there is no room takes the place of a connection that has not proved itself: of the address that has the most,
/// the one that has waited longest without saying anything. An address from which a member has proved itself keeps
/// `per_unknown_address` connections against newcomers from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all: 512.
    pub connections: usize,
    /// Of peers that have not proved that they belong to the mesh, in all: 128.
    pub unproven: usize,
    /// Of one peer that never has: 8.
    pub per_unknown_peer: usize,
    /// Of one peer that has, its command-line clients among them: 64.
    pub per_proven_peer: usize,
    /// From one address from which nobody has proved itself, those being set up among them: 8. An IPv6 network of one
    /// customer counts as one address. Loopback has no such bound, since all programs of the machine share it.
    pub per_unknown_address: usize,
    /// That are being set up, each way: 64.
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
    /// A node of this identity in the mesh of this secret. It needs an address to listen on, or a relay.
    #[must_use]
    pub fn new(identity: Identity, secret: MeshSecret) -> Self {
        Self {
            identity,
            secret,
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

    /// A node that only asks: it listens nowhere, is asked nothing and redials nobody.
    pub(super) fn client(identity: Identity, secret: MeshSecret) -> Self {
        Self { serves: false, ..Self::new(identity, secret) }
    }

    /// Listens on these addresses, for example `/ip4/127.0.0.1/tcp/9710`; port 0 takes a free one.
    #[must_use]
    pub fn with_listen(self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        Self { listen: addresses.into_iter().collect(), ..self }
    }

    /// What `status` says of how the node's HTTP and p2p sides are joined.
    #[must_use]
    pub fn with_mode(self, mode: impl Into<String>) -> Self {
        Self { mode: mode.into(), ..self }
    }

    /// Finds peers in these ways.
    #[must_use]
    pub fn with_discovery(self, discovery: DiscoveryConfig) -> Self {
        Self { discovery, ..self }
    }

    /// Is reached in these ways.
    #[must_use]
    pub fn with_reach(self, reach: ReachConfig) -> Self {
        Self { reach, ..self }
    }

    /// Takes no more connections than these.
    #[must_use]
    pub fn with_limits(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// Connects only with these peers, if there is a list. Relays and bootstrap peers have to be on it.
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

    /// What `status` says of the runtime under the node.
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
