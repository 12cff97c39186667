use crate::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{
    ErrorCode, Peer, QueueError,
    check::{Check, seconds},
    limits::{CALL_TIMEOUT_S_MAX, DISCOVER_LIMIT_MAX, METHODS_MAX},
};

/// A way to find peers. The ways are tried in this order: cheap and reliable ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Method {
    /// The address that the caller gave.
    Explicit,
    /// The peers that the node has seen before.
    AddressBook,
    /// The files in which nodes of this machine announce themselves.
    AnnounceFile,
    /// The peers of the configuration.
    Bootstrap,
    /// The rendezvous points of the configuration.
    Rendezvous,
    /// The distributed hash table of the mesh; `dht` is understood as well.
    #[serde(alias = "dht")]
    Kademlia,
    /// The local network.
    Mdns,
}

impl Method {
    /// All methods, in the order in which they are tried.
    pub const ALL: [Self; 7] = [
        Self::Explicit,
        Self::AddressBook,
        Self::AnnounceFile,
        Self::Bootstrap,
        Self::Rendezvous,
        Self::Kademlia,
        Self::Mdns,
    ];

    /// The name that requests and answers carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::AddressBook => "address_book",
            Self::AnnounceFile => "announce_file",
            Self::Bootstrap => "bootstrap",
            Self::Rendezvous => "rendezvous",
            Self::Kademlia => "kademlia",
            Self::Mdns => "mdns",
        }
    }
}

/// Looks for peers by every method that is switched on, and reports the outcome of each attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Discover {
    /// The peer to find; without it all that can be found.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::place::some_peer_id")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub peer_id: Option<PeerId>,
    /// An address to try first.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::place::some_address")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub multiaddr: Option<Multiaddr>,
    /// Only these ways; without any all that are switched on.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// How long to look, in seconds.
    #[serde(default = "default_timeout_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 600)))]
    pub timeout_s: f64,
    /// How many peers at the most.
    #[serde(default = "default_limit")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000)))]
    pub limit: u32,
}

impl Default for Discover {
    fn default() -> Self {
        Self {
            peer_id: None,
            multiaddr: None,
            methods: Vec::new(),
            timeout_s: default_timeout_s(),
            limit: default_limit(),
        }
    }
}

impl Check for Discover {
    fn check(&self) -> Result<(), QueueError> {
        if self.methods.len() > METHODS_MAX {
            return Err(QueueError::over_limit("methods", self.methods.len(), METHODS_MAX, "entries"));
        }
        if !(1..=DISCOVER_LIMIT_MAX).contains(&self.limit) {
            return Err(QueueError::invalid("limit", format_args!("must be from 1 to {DISCOVER_LIMIT_MAX}")));
        }
        seconds("timeout_s", Some(self.timeout_s), 0.0..=CALL_TIMEOUT_S_MAX)
    }
}

/// The answer to a [`Discover`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Discovered {
    /// The peers of the mesh that were found and have proved that they belong to it.
    pub peers: Vec<Peer>,
    /// What was tried, in the order in which it ended.
    pub attempts: Vec<SearchAttempt>,
}

/// One attempt to find or to reach a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Attempt"))]
pub struct SearchAttempt {
    /// By which way.
    pub method: Method,
    /// The address that was tried; null when the way came up with none.
    #[serde(default, deserialize_with = "super::place::some_address")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub multiaddr: Option<Multiaddr>,
    /// The peer that was tried.
    #[serde(default, deserialize_with = "super::place::some_peer_id")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub peer_id: Option<PeerId>,
    /// Whether the peer answered and belongs to the mesh.
    pub ok: bool,
    /// Why not.
    #[serde(default)]
    pub code: Option<ErrorCode>,
    /// Why not, in words.
    #[serde(default)]
    pub error: Option<String>,
    /// When it began, in seconds after the search did.
    pub started_s: f64,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
}

const fn default_timeout_s() -> f64 {
    10.0
}

const fn default_limit() -> u32 {
    50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_written_as_named() {
        for way in Method::ALL {
            assert_eq!(serde_json::to_value(way).unwrap(), way.as_str());
        }
    }
}
