//! Everything that the swarm runs: the links, which carry the node's own protocol, and what finds peers.

use std::io;

use libp2p::{
    PeerId, mdns, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::{NodeConfig, NodeError, admission::Admission, limits::MDNS_QUERY_EVERY, links::Links, reach::Reach};
use crate::api::Method;

/// The behaviours of a node. What is switched off is not there.
#[derive(NetworkBehaviour)]
pub(super) struct Net {
    pub(super) links: Links,
    mdns: Toggle<mdns::tokio::Behaviour>,
    reach: Reach,
}

impl Net {
    /// To be called in a tokio context, which mDNS needs.
    pub(super) fn new(config: &NodeConfig, relay_client: relay::client::Behaviour) -> Result<Self, NodeError> {
        let peer_id = config.identity.peer_id();
        let admission = Admission::new(config);
        let reach = Reach::new(&config.identity, &config.reach, relay_client, admission.members());
        let mdns = config.discovery.is_on(Method::Mdns).then(|| mdns_behaviour(peer_id)).transpose();
        Ok(Self { links: Links::new(admission), mdns: mdns.map_err(NodeError::Mdns)?.into(), reach })
    }
}

fn mdns_behaviour(peer_id: PeerId) -> io::Result<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config { query_interval: MDNS_QUERY_EVERY, ..mdns::Config::default() }, peer_id)
}
