use multiaddr::Protocol;

use crate::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{Check, QueueError, Request};

/// Which peer an operation is for. The address wins; none means the local node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Target {
    /// Where the peer is, for example `/ip4/192.0.2.7/tcp/9710/p2p/12D3…`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::place::some_address")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub remote_multiaddr: Option<Multiaddr>,
    /// Who the peer is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::place::some_peer_id")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub remote_peer_id: Option<PeerId>,
}

impl Target {
    /// Targets the peer with this id, wherever it is.
    #[must_use]
    pub const fn peer(peer: PeerId) -> Self {
        Self { remote_multiaddr: None, remote_peer_id: Some(peer) }
    }

    /// Whether no peer is named.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.remote_multiaddr.is_none() && self.remote_peer_id.is_none()
    }

    /// The peer that either field names.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        self.remote_multiaddr.as_ref().and_then(peer_of).or(self.remote_peer_id)
    }
}

impl From<PeerId> for Target {
    fn from(peer: PeerId) -> Self {
        Self::peer(peer)
    }
}

impl From<Multiaddr> for Target {
    fn from(address: Multiaddr) -> Self {
        Self { remote_multiaddr: Some(address), remote_peer_id: None }
    }
}

impl Check for Target {
    fn check(&self) -> Result<(), QueueError> {
        let named = self.remote_multiaddr.as_ref().and_then(peer_of);
        match (named, self.remote_peer_id) {
            (Some(named), Some(peer)) if named != peer => {
                Err(QueueError::invalid("remote_peer_id", "is another peer than the one that remote_multiaddr names"))
            }
            (None, None) if self.remote_multiaddr.is_some() => {
                Err(QueueError::invalid("remote_multiaddr", "does not say which peer: end it with /p2p/PEER_ID"))
            }
            _ => Ok(()),
        }
    }
}

/// Asks another peer. The local node passes the operation on, and passes the answer back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// Which peer.
    pub target: Target,
    /// What to ask it.
    pub request: Box<Request>,
}

/// Returns the peer that an address names at its end.
#[must_use]
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}
