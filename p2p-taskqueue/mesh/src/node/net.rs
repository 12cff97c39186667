//! Everything that the swarm runs: the links, which carry the node's own protocol, and the behaviours that find peers
//! and make the node reachable.

use std::io;

use libp2p::{
    PeerId, mdns, relay, rendezvous,
    swarm::{ConnectionId, NetworkBehaviour, behaviour::toggle::Toggle},
};
use taskqueue_api::{Method, peer_of};

use super::{
    NodeConfig, NodeError, admission::Admission, arrivals::Arrivals, finding_gate::Gated, finding_keep::Keep,
    limits::MDNS_QUERY_EVERY, links::Links, reach::Reach,
};
use crate::discovery::{
    kademlia::{self, Kademlia},
    rendezvous as points,
};

/// The behaviours of a node. A behaviour that is switched off is absent.
#[derive(NetworkBehaviour)]
pub(super) struct Net {
    pub(super) links: Links,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) rendezvous: Toggle<rendezvous::client::Behaviour>,
    rendezvous_server: Toggle<Gated<rendezvous::server::Behaviour>>,
    pub(super) kademlia: Toggle<Gated<Kademlia>>,
    pub(super) keep: Keep,
    reach: Reach,
}

impl Net {
    /// Creates the behaviours. It has to be called in a tokio context, which mDNS needs.
    pub(super) fn new(
        config: &NodeConfig,
        relay_client: relay::client::Behaviour,
        arrivals: Arrivals,
    ) -> Result<Self, NodeError> {
        let NodeConfig { identity, discovery, .. } = config;
        let peer_id = identity.peer_id();
        let admission = Admission::new(config, arrivals);
        let reach = Reach::new(identity, &config.reach, relay_client, &admission.members());
        let mdns = discovery.is_on(Method::Mdns).then(|| mdns_behaviour(peer_id)).transpose();
        Ok(Self {
            links: Links::new(admission),
            mdns: mdns.map_err(NodeError::Mdns)?.into(),
            rendezvous: discovery.is_on(Method::Rendezvous).then(|| points::client(identity)).into(),
            rendezvous_server: discovery.is_rendezvous_server.then(|| Gated::new(points::server())).into(),
            kademlia: discovery.is_on(Method::Kademlia).then(|| Gated::new(kademlia::kademlia(peer_id))).into(),
            keep: Keep::new(discovery.points().iter().filter_map(peer_of).collect()),
            reach,
        })
    }

    /// Returns this node's part of the hash table, or `None` if Kademlia is switched off.
    pub(super) fn table(&mut self) -> Option<&mut Kademlia> {
        self.kademlia.as_mut().map(|table| &mut table.inner)
    }

    /// Tells the behaviours that the peer at the other end of this connection has proved that it belongs to the mesh.
    pub(super) fn proven(&mut self, peer: PeerId, connection: ConnectionId) {
        self.links.admission.proven(connection, peer);
        self.reach.proven(peer, connection);
        if let Some(server) = self.rendezvous_server.as_mut() {
            server.open(peer, connection);
        }
        if let Some(table) = self.kademlia.as_mut() {
            table.open(peer, connection);
        }
    }
}

fn mdns_behaviour(peer_id: PeerId) -> io::Result<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config { query_interval: MDNS_QUERY_EVERY, ..mdns::Config::default() }, peer_id)
}
