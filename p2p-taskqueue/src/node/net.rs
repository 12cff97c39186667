//! Everything that the swarm runs: the links, which carry the node's own protocol, and what finds peers.

use std::io;

use libp2p::{
    PeerId, mdns,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::{NodeError, limits::MDNS_QUERY_EVERY, links::Links};
use crate::{api::Method, discovery::DiscoveryConfig};

/// The behaviours of a node. What is switched off is not there.
#[derive(NetworkBehaviour)]
pub(super) struct Net {
    pub(super) links: Links,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Net {
    /// To be called in a tokio context, which mDNS needs.
    pub(super) fn new(peer_id: PeerId, discovery: &DiscoveryConfig) -> Result<Self, NodeError> {
        let mdns = discovery.is_on(Method::Mdns).then(|| mdns_behaviour(peer_id)).transpose();
        Ok(Self { links: Links::default(), mdns: mdns.map_err(NodeError::Mdns)?.into() })
    }
}

fn mdns_behaviour(peer_id: PeerId) -> io::Result<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config { query_interval: MDNS_QUERY_EVERY, ..mdns::Config::default() }, peer_id)
}
