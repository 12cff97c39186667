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
        RELAY_RESERVATION, RELAY_RESERVATIONS_MAX, RELAY_RESERVATIONS_PER_PEER_MAX, RELAY_STRANGER_EVERY,
        RELAY_STRANGERS_MAX,
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
    relay_server: Toggle<relay::Behaviour>,
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
        members: &Members,
    ) -> Self {
        let peer = identity.peer_id();
        // These means need to know how others see this node, or to tell others how it sees them. Identify is off
        // otherwise, because it says more to strangers than the node itself does.
        let needs_identify =
            [Means::Autonat, Means::HolePunching, Means::RelayServer].into_iter().any(|one| config.is_on(one));
        Self {
            relay_client,
            relay_server: config.is_on(Means::RelayServer).then(|| relay_server(peer, members)).into(),
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

/// Creates a relay. Only members are reached through it. A stranger may reach a member too, because it may be a newcomer
/// that has a ticket of that member.
fn relay_server(peer: PeerId, members: &Members) -> relay::Behaviour {
    let for_reservations = members.clone();
    let only_members = move |peer: PeerId, _: &Multiaddr, _: Instant| for_reservations.contains(&peer);
    let (for_circuits, mut strangers) = (members.clone(), Strangers::default());
    let few_strangers =
        move |peer: PeerId, _: &Multiaddr, now: Instant| for_circuits.contains(&peer) || strangers.take(now);
    let config = relay::Config {
        max_reservations: RELAY_RESERVATIONS_MAX,
        max_reservations_per_peer: RELAY_RESERVATIONS_PER_PEER_MAX,
        reservation_duration: RELAY_RESERVATION,
        reservation_rate_limiters: vec![Box::new(only_members)],
        max_circuits: RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: RELAY_CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: RELAY_CIRCUIT_DURATION,
        max_circuit_bytes: RELAY_CIRCUIT_BYTES,
        circuit_src_rate_limiters: vec![Box::new(few_strangers)],
    };
    let mut relay = relay::Behaviour::new(peer, config);
    // Without this it serves only once it knows that it can be reached from the whole internet.
    relay.set_status(Some(relay::Status::Enable));
    relay
}

/// The circuits that strangers may still ask for. A crowd of them keeps other strangers waiting, and no member.
#[derive(Debug)]
struct Strangers {
    left: u32,
    /// When one more was added last.
    added: Option<Instant>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { left: RELAY_STRANGERS_MAX, added: None }
    }
}

impl Strangers {
    fn take(&mut self, now: Instant) -> bool {
        let added = *self.added.get_or_insert(now);
        let due = now.saturating_duration_since(added).as_millis() / RELAY_STRANGER_EVERY.as_millis();
        if due > 0 {
            let due = u32::try_from(due).unwrap_or(RELAY_STRANGERS_MAX);
            self.left = self.left.saturating_add(due).min(RELAY_STRANGERS_MAX);
            self.added = Some(now);
        }
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn strangers_get_a_few_circuits_and_later_a_few_more() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let allowed = |strangers: &mut Strangers, at: Instant| (0..1_000).filter(|_| strangers.take(at)).count();
        assert_eq!(allowed(&mut strangers, start), RELAY_STRANGERS_MAX as usize);
        assert_eq!(allowed(&mut strangers, start + Duration::from_millis(10)), 0);
        assert_eq!(allowed(&mut strangers, start + 3 * RELAY_STRANGER_EVERY), 3);
        assert_eq!(allowed(&mut strangers, start + 1_000 * RELAY_STRANGER_EVERY), RELAY_STRANGERS_MAX as usize);
    }
}
