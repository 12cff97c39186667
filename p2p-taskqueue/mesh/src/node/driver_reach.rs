//! The loop's part about the node's own addresses: listening on them, getting more through relays, and telling others
//! of them.

use std::{collections::HashSet, io, sync::Arc};

use futures::{FutureExt, StreamExt};
use libp2p::{Multiaddr, TransportError, core::transport::ListenerId, swarm::SwarmEvent};
use taskqueue_api::{Method, peer_of};

use super::{
    super::{
        NodeError, address::is_relayed, limits::LISTEN_TIMEOUT, own_addresses::as_told, reach_relays::Reserve,
        redial::chance, transport,
    },
    NodeLoop,
};
use crate::{discovery::announcement_of, wire::within};

impl NodeLoop {
    /// Listens on every address, and waits until each listener has reported its address.
    pub(in crate::node) async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), NodeError> {
        // Check all addresses before listening on the first one: a port on which this node itself listens must not
        // count as taken.
        addresses.iter().try_for_each(transport::check_free)?;
        for address in addresses {
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| refused(address, error))?;
            self.listeners.push(listener);
        }
        let runtime = Arc::clone(&self.directory.runtime);
        let listening = within(LISTEN_TIMEOUT, self.until_listening(addresses), &*runtime).await;
        listening.unwrap_or_else(|| Err(silent(addresses)))
    }

    async fn until_listening(&mut self, addresses: &[Multiaddr]) -> Result<(), NodeError> {
        let mut waiting: HashSet<ListenerId> = self.listeners.iter().copied().collect();
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(waiting.remove(listener_id)),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    let at = self.listeners.iter().position(|listener| listener == listener_id);
                    let address = at.and_then(|at| addresses.get(at)).cloned().unwrap_or_else(Multiaddr::empty);
                    let error = reason.as_ref().err().map_or(io::ErrorKind::Other, io::Error::kind);
                    return Err(transport::listen_error(&address, error.into()));
                }
                _ => {}
            }
            self.on_swarm_event(event);
        }
        // A wildcard address has a listen address for each interface, and the others follow at once. Take them now, so
        // that a caller who asks for the addresses gets all of them.
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.on_swarm_event(event);
        }
        Ok(())
    }

    /// Keeps a connection to every relay, as to a configured peer, and a reservation there.
    pub(in crate::node) fn keep_relays(&mut self, addresses: &[Multiaddr]) {
        let (now, own) = (self.now(), self.directory.peer_id);
        for address in addresses {
            if let Some(relay) = peer_of(address).filter(|relay| *relay != own) {
                self.peers.configure(relay, address.clone(), now);
                self.relays.keep(relay, address.clone(), now);
            }
        }
    }

    /// Asks for the reservations that are due.
    pub(super) fn reserve_due(&mut self) {
        if self.ending.has_begun() {
            return;
        }
        let now = self.now();
        for Reserve { relay, listen_at } in self.relays.due(|relay| self.peers.has_direct_session(relay), now) {
            match self.swarm.listen_on(listen_at) {
                Ok(listener) => self.relays.asked(relay, listener),
                Err(error) => {
                    tracing::warn!(%relay, %error, "failed to listen through a relay");
                    self.relays.not_asked(relay, now, chance());
                }
            }
        }
    }

    pub(super) fn on_listen_address(&mut self, listener: ListenerId, address: &Multiaddr) {
        if !self.relays.listening(listener) && self.directory.is_relay && !is_relayed(address) {
            // A relay tells its external addresses to the nodes that reserve: through these they can be reached.
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

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, reason: &io::Result<()>) {
        self.relays.closed(listener, reason, self.now(), chance());
        self.on_listeners_changed();
    }

    pub(super) fn on_listeners_changed(&mut self) {
        let (own, addresses) = (self.directory.peer_id, self.own_addresses());
        let is_announcing = self.service.is_some() && self.directory.discovery.is_on(Method::AnnounceFile);
        if let Some(announcement) = announcement_of(own, &addresses).filter(|_| is_announcing)
            && let Err(error) = self.directory.files.announce(&announcement)
        {
            tracing::warn!(%error, "failed to write the announce file");
        }
        self.ends.addresses.send_replace(addresses);
        let change = self.own_addresses.listening_at(self.swarm.listeners());
        change.gone.iter().for_each(|gone| self.swarm.remove_external_address(gone));
        change.new.iter().for_each(|new| self.swarm.add_external_address(new.clone()));
        if !change.is_empty() {
            self.own_addresses_changed();
        }
    }

    /// Tells the rendezvous points and the hash table soon that this node's addresses have changed.
    pub(super) fn own_addresses_changed(&mut self) {
        let now = self.now();
        self.points.register_soon(now);
        self.lookups.publish_soon(now);
    }

    /// Returns the addresses at which this node can be reached, as far as it knows: those on which it listens, directly
    /// or through relays, and those that are confirmed.
    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        as_told(self.directory.peer_id, self.swarm.listeners().chain(self.swarm.external_addresses()))
    }
}

fn refused(address: &Multiaddr, error: TransportError<io::Error>) -> NodeError {
    match error {
        TransportError::MultiaddrNotSupported(_) => NodeError::UnsupportedAddress { address: address.clone() },
        TransportError::Other(error) => transport::listen_error(address, error),
    }
}

fn silent(addresses: &[Multiaddr]) -> NodeError {
    let address = addresses.first().cloned().unwrap_or_else(Multiaddr::empty);
    NodeError::Listen { address, source: io::ErrorKind::TimedOut.into() }
}
