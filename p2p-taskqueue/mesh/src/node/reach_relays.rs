//! The relays through which this node is to be reached.

use std::{io, time::Instant};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, multiaddr::Protocol};

use super::{reach::ReachEvent, redial::Redial};

/// The relays, with one reservation at each.
#[derive(Debug, Default)]
pub(super) struct Relays {
    relays: Vec<Relay>,
}

#[derive(Debug)]
struct Relay {
    peer: PeerId,
    /// The relay's own address, which ends in its peer id.
    address: Multiaddr,
    /// The listener through the relay. It exists from the request for a reservation until the request is refused, or
    /// the connection to the relay ends.
    listener: Option<ListenerId>,
    is_reserved: bool,
    /// When to ask for a reservation again.
    redial: Redial,
}

/// A reservation to ask for, over the connection with the relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reserve {
    pub(super) relay: PeerId,
    /// The address to listen on, which leads through the relay.
    pub(super) listen_at: Multiaddr,
}

impl Relays {
    /// Keeps a reservation at the relay. `address` leads to it and ends in its peer id.
    pub(super) fn keep(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        // One reservation at each relay, however many addresses it has: a second one would end the first.
        if self.relays.iter().all(|known| known.peer != peer) {
            let redial = Redial::at_once(now);
            self.relays.push(Relay { peer, address, listener: None, is_reserved: false, redial });
        }
    }

    /// Returns the reservations that are to be asked for now: at relays with a direct connection and without a
    /// listener.
    pub(super) fn due(&self, is_connected: impl Fn(&PeerId) -> bool, now: Instant) -> Vec<Reserve> {
        let due = self.waiting(is_connected).filter(|relay| relay.redial.next() <= now);
        due.map(|relay| Reserve { relay: relay.peer, listen_at: relay.address.clone().with(Protocol::P2pCircuit) })
            .collect()
    }

    /// Returns when the next reservation is to be asked for.
    pub(super) fn next_due(&self, is_connected: impl Fn(&PeerId) -> bool) -> Option<Instant> {
        self.waiting(is_connected).map(|relay| relay.redial.next()).min()
    }

    fn waiting(&self, is_connected: impl Fn(&PeerId) -> bool) -> impl Iterator<Item = &Relay> {
        self.relays.iter().filter(move |relay| relay.listener.is_none() && is_connected(&relay.peer))
    }

    /// Notes that a reservation was asked for. The events of this listener tell what becomes of it.
    pub(super) fn asked(&mut self, relay: PeerId, listener: ListenerId) {
        if let Some(relay) = self.relays.iter_mut().find(|known| known.peer == relay) {
            relay.listener = Some(listener);
        }
    }

    /// Notes that the reservation could not even be asked for. `chance` is from 0 to 1.
    pub(super) fn not_asked(&mut self, relay: PeerId, now: Instant, chance: f64) {
        if let Some(relay) = self.relays.iter_mut().find(|known| known.peer == relay) {
            relay.redial.failed(now, chance);
        }
    }

    /// Notes that the listener has an address. Returns whether the listener is that of a relay, whose reservation is
    /// then granted.
    pub(super) fn listening(&mut self, listener: ListenerId) -> bool {
        let Some(relay) = self.of(listener) else { return false };
        tracing::info!(relay = %relay.address, "reachable through a relay");
        relay.is_reserved = true;
        true
    }

    /// Notes that the listener is closed. If it was that of a relay, plans to ask for the reservation again. `chance`
    /// is from 0 to 1.
    pub(super) fn closed(&mut self, listener: ListenerId, reason: &io::Result<()>, now: Instant, chance: f64) {
        let Some(relay) = self.of(listener) else { return };
        relay.listener = None;
        if std::mem::take(&mut relay.is_reserved) {
            relay.redial = Redial::after_loss(now);
        } else {
            relay.redial.failed(now, chance);
        }
        match reason {
            Ok(()) => tracing::debug!(relay = %relay.address, "no longer reachable through a relay"),
            Err(error) => tracing::warn!(relay = %relay.address, %error, "a relay refused a reservation"),
        }
    }

    fn of(&mut self, listener: ListenerId) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.listener == Some(listener))
    }
}

/// Logs an event. The node does not act on these events, because the behaviours themselves do what has to be done.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::{address::with_peer, machine_tests::address};

    fn everybody(_: &PeerId) -> bool {
        true
    }

    /// Adds a relay. Returns it, and the address on which this node listens through it.
    fn kept(relays: &mut Relays, port: u16, now: Instant) -> (PeerId, Multiaddr) {
        let peer = PeerId::random();
        let address = with_peer(address(port), peer);
        relays.keep(peer, address.clone(), now);
        (peer, address.with(Protocol::P2pCircuit))
    }

    #[test]
    fn a_reservation_is_asked_for_once_the_relay_is_connected_and_only_once() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let (relay, listen_at) = kept(&mut relays, 1, now);
        let (other, _) = kept(&mut relays, 2, now);
        assert_eq!(relays.due(|_| false, now), []);
        assert_eq!(relays.next_due(|_| false), None);
        let only = |peer: &PeerId| *peer == relay;
        assert_eq!(relays.due(only, now), [Reserve { relay, listen_at }]);
        let listener = ListenerId::next();
        relays.asked(relay, listener);
        assert_eq!((relays.due(only, now), relays.next_due(only)), (Vec::new(), None));
        assert!(relays.listening(listener) && !relays.listening(ListenerId::next()));
        assert_eq!(relays.due(everybody, now).iter().map(|due| due.relay).collect::<Vec<_>>(), [other]);
    }

    #[test]
    fn a_reservation_that_stood_is_asked_for_again_soon_and_a_refused_one_ever_later() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        let (relay, _) = kept(&mut relays, 1, now);
        let listener = ListenerId::next();
        relays.asked(relay, listener);
        relays.listening(listener);
        relays.closed(ListenerId::next(), &Ok(()), now, 1.0);
        assert_eq!(relays.due(everybody, now), [], "the listener of something else says nothing of it");
        relays.closed(listener, &Ok(()), now, 1.0);
        let again = relays.next_due(everybody).unwrap();
        assert!(again > now && again < now + Duration::from_secs(1));
        let later = now + Duration::from_secs(40);
        let refused = ListenerId::next();
        relays.asked(relay, refused);
        relays.closed(refused, &Err(io::ErrorKind::ConnectionRefused.into()), later, 1.0);
        assert_eq!(relays.next_due(everybody), Some(later + Duration::from_secs(10)));
        relays.not_asked(relay, later + Duration::from_secs(40), 1.0);
        assert_eq!(relays.next_due(everybody), Some(later + Duration::from_secs(60)));
    }

    #[test]
    fn a_relay_with_two_addresses_gets_one_reservation() {
        let (mut relays, now, relay) = (Relays::default(), Instant::now(), PeerId::random());
        for port in [1, 2] {
            relays.keep(relay, with_peer(address(port), relay), now);
        }
        assert_eq!(relays.due(everybody, now).len(), 1);
    }
}
