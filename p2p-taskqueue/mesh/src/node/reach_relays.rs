//! The loop's part about reaching: the relays through which this node listens, and where it says that it is.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, multiaddr::Protocol};
use taskqueue_api::peer_of;

use super::{
    address::{is_relayed, with_peer},
    driver::NodeLoop,
    reach::ReachEvent,
    redial::{Redial, chance},
};

/// A relay through which this node is to be reached.
#[derive(Debug)]
pub(super) struct Relay {
    peer: PeerId,
    /// The relay's own, ending in its peer id.
    address: Multiaddr,
    /// Stands from the request for a reservation until it is refused, or the connection to the relay ends.
    listener: Option<ListenerId>,
    is_reserved: bool,
    /// When to ask for a reservation again.
    redial: Redial,
}

impl Relay {
    /// None when the address does not say which peer it leads to.
    pub(super) fn new(address: &Multiaddr, now: Instant) -> Option<Self> {
        let peer = peer_of(address)?;
        Some(Self { peer, address: address.clone(), listener: None, is_reserved: false, redial: Redial::at_once(now) })
    }
}

impl NodeLoop {
    /// Keeps a connection to every relay, as to a peer that was joined.
    pub(super) fn keep_relays(&mut self, addresses: &[Multiaddr]) {
        let (now, own) = (self.directory.runtime.now(), self.directory.peer_id);
        for relay in addresses.iter().filter_map(|address| Relay::new(address, now)).filter(|relay| relay.peer != own) {
            self.peers.configure(relay.peer, relay.address.clone(), now);
            // One reservation at each, however many addresses it has: a second one would end the first.
            if self.relays.iter().all(|known| known.peer != relay.peer) {
                self.relays.push(relay);
            }
        }
    }

    /// Asks for a reservation where none stands, over the connection that has to stand first.
    pub(super) fn reserve_due(&mut self) {
        let now = self.directory.runtime.now();
        if self.ending.has_begun() {
            return;
        }
        for relay in &mut self.relays {
            let is_due = relay.listener.is_none() && relay.redial.next() <= now;
            let is_connected = || self.peers.has_direct_session(&relay.peer);
            if is_due && is_connected() {
                match self.swarm.listen_on(relay.address.clone().with(Protocol::P2pCircuit)) {
                    Ok(listener) => relay.listener = Some(listener),
                    Err(error) => {
                        tracing::warn!(relay = %relay.address, %error, "failed to listen through a relay");
                        relay.redial.failed(now, chance());
                    }
                }
            }
        }
    }

    /// When the next reservation is to be asked for.
    pub(super) fn next_reservation(&self) -> Option<Instant> {
        let is_waiting = |relay: &&Relay| relay.listener.is_none() && self.peers.has_direct_session(&relay.peer);
        self.relays.iter().filter(is_waiting).map(|relay| relay.redial.next()).min()
    }

    pub(super) fn on_listen_address(&mut self, listener: ListenerId, address: &Multiaddr) {
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.listener == Some(listener)) {
            tracing::info!(relay = %relay.address, "reachable through a relay");
            relay.is_reserved = true;
        } else if self.directory.is_relay && !is_relayed(address) {
            // What a relay tells those that reserve: where they can be reached through it.
            self.swarm.add_external_address(address.clone());
        }
        self.on_listeners_changed();
    }

    pub(super) fn on_listen_address_gone(&mut self, address: &Multiaddr) {
        if self.directory.is_relay && !is_relayed(address) {
            self.swarm.remove_external_address(address);
        }
        self.on_listeners_changed();
    }

    /// If it was a relay's, it is asked for again.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, reason: Result<(), std::io::Error>) {
        let now = self.directory.runtime.now();
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.listener == Some(listener)) {
            relay.listener = None;
            if std::mem::take(&mut relay.is_reserved) {
                relay.redial = Redial::after_loss(now);
            } else {
                relay.redial.failed(now, chance());
            }
            match reason {
                Ok(()) => tracing::debug!(relay = %relay.address, "no longer reachable through a relay"),
                Err(error) => tracing::warn!(relay = %relay.address, %error, "a relay refused a reservation"),
            }
        }
        self.on_listeners_changed();
    }

    /// Where this node can be reached, as far as it knows: where it listens, through relays too, and what is confirmed.
    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        let own = self.directory.peer_id;
        let known = self.swarm.listeners().chain(self.swarm.external_addresses());
        let mut addresses: Vec<Multiaddr> = known.map(|address| with_peer(address.clone(), own)).collect();
        // A peer takes a limited number of them: the direct ones first.
        addresses.sort_unstable_by(|a, b| is_relayed(a).cmp(&is_relayed(b)).then_with(|| a.cmp(b)));
        addresses.dedup();
        addresses
    }
}

/// Nothing follows from these events but what the swarm does by itself; they tell what happened.
pub(super) fn trace(event: &ReachEvent) {
    match event {
        ReachEvent::HolePunching(outcome) => {
            let (peer, result) = (outcome.remote_peer_id, &outcome.result);
            tracing::debug!(%peer, ?result, "an attempt at a direct connection");
        }
        ReachEvent::AutonatClient(test) => {
            tracing::debug!(address = %test.tested_addr, result = ?test.result, "an own address was tested");
        }
        ReachEvent::Upnp(event) => tracing::debug!(?event, "the router"),
        ReachEvent::RelayServer(event) => tracing::debug!(?event, "as a relay"),
        ReachEvent::RelayClient(event) => tracing::debug!(?event, "through a relay"),
        ReachEvent::Identify(_) | ReachEvent::AutonatServer(_) => {}
    }
}
