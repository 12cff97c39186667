//! The behaviours that make a node reachable beyond its own network: relays, hole punching and mapped ports.
//!
//! A behaviour that is switched off is absent. Only the relay's client is always there: every node needs it to dial an
//! address that leads through a relay.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId,
    autonat::v2 as autonat,
    dcutr, identify, relay,
    swarm::{ConnectionId, NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};

use super::{
    ReachConfig,
    admission::Members,
    finding_gate::Gated,
    limits::{
        RELAY_CIRCUIT_BYTES, RELAY_CIRCUIT_DURATION, RELAY_CIRCUITS_MAX, RELAY_CIRCUITS_PER_PEER_MAX,
        RELAY_RESERVATION, RELAY_RESERVATIONS_MAX, RELAY_RESERVATIONS_PER_PEER_MAX,
    },
    reach_config::Means,
};
use crate::Identity;

/// What identify says about the program: enough to tell it from others, and nothing about the machine.
const AGENT: &str = "taskmesh";

/// What identify says about the protocols.
const IDENTIFY_PROTOCOL: &str = "taskmesh/1";

/// The behaviours that make a node reachable.
#[derive(NetworkBehaviour)]
pub(super) struct Reach {
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<Gated<relay::Behaviour>>,
    identify: Toggle<identify::Behaviour>,
    autonat_client: Toggle<autonat::client::Behaviour>,
    autonat_server: Toggle<Gated<autonat::server::Behaviour>>,
    hole_punching: Toggle<dcutr::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
}

impl Reach {
    /// Creates the behaviours. It has to be called in a tokio context, which UPnP needs. `relay_client` is the other
    /// half of the relay transport.
    pub(super) fn new(
        identity: &Identity,
        config: &ReachConfig,
        relay_client: relay::client::Behaviour,
        members: Members,
    ) -> Self {
        let peer = identity.peer_id();
        // These means need to know how others see this node, or to tell others how it sees them. Identify is off
        // otherwise, because it says more to strangers than the node itself does.
        let needs_identify =
            [Means::Autonat, Means::HolePunching, Means::RelayServer].into_iter().any(|one| config.is_on(one));
        Self {
            relay_client,
            relay_server: config.is_on(Means::RelayServer).then(|| Gated::new(relay_server(peer, members))).into(),
            identify: needs_identify.then(|| identify_behaviour(identity)).into(),
            autonat_client: config.is_on(Means::Autonat).then(autonat::client::Behaviour::default).into(),
            autonat_server: config
                .is_on(Means::Autonat)
                .then(|| Gated::new(autonat::server::Behaviour::default()))
                .into(),
            hole_punching: config.is_on(Means::HolePunching).then(|| dcutr::Behaviour::new(peer)).into(),
            upnp: config.is_on(Means::Upnp).then(upnp::tokio::Behaviour::default).into(),
        }
    }

    /// Tells the behaviours that the peer at the other end of this connection has proved that it belongs to the mesh.
    pub(super) fn proven(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(relay) = self.relay_server.as_mut() {
            relay.open(peer, connection);
        }
        if let Some(server) = self.autonat_server.as_mut() {
            server.open(peer, connection);
        }
    }
}

fn identify_behaviour(identity: &Identity) -> identify::Behaviour {
    let config = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), identity.keypair().public())
        .with_agent_version(AGENT.to_owned())
        // Identify keeps no addresses: those of peers come from peers that have proved themselves.
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

/// Creates a relay for members. The gate leaves a peer's requests unread until the proof, and the relay checks for a
/// reservation once more that the proof was given.
fn relay_server(peer: PeerId, members: Members) -> relay::Behaviour {
    let only_members = move |peer: PeerId, _: &Multiaddr, _: Instant| members.contains(&peer);
    let config = relay::Config {
        max_reservations: RELAY_RESERVATIONS_MAX,
        max_reservations_per_peer: RELAY_RESERVATIONS_PER_PEER_MAX,
        reservation_duration: RELAY_RESERVATION,
        reservation_rate_limiters: vec![Box::new(only_members)],
        max_circuits: RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: RELAY_CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: RELAY_CIRCUIT_DURATION,
        max_circuit_bytes: RELAY_CIRCUIT_BYTES,
        circuit_src_rate_limiters: Vec::new(),
    };
    let mut relay = relay::Behaviour::new(peer, config);
    // Without this it serves only once it knows that it can be reached from the whole internet.
    relay.set_status(Some(relay::Status::Enable));
    relay
}
