//! The loop's part about finding peers: what the local network and other ways come up with.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId, mdns};

use super::{driver::NodeLoop, limits::FOUND_MAX};
use crate::{api::Method, discovery::Search};

/// What the ways of finding peers that need the swarm have come up with, and who listens to them.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// The peers that the local network says are there, and where.
    near: BTreeMap<PeerId, Vec<Multiaddr>>,
    listeners: Vec<Search>,
}

impl NodeLoop {
    /// Serves a search by a way that is on.
    pub(super) fn on_search(&mut self, method: Method, search: Search) {
        match method {
            Method::Mdns => self.finding.listen(search),
            _ => search.fail("this node does not look for peers in this way"),
        }
    }

    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                for (peer, address) in found {
                    let addresses = self.finding.came(peer, address);
                    self.found(peer, addresses);
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer, address) in gone {
                    if self.finding.went(peer, &address) {
                        self.peers.lost_sight(&peer);
                    }
                }
            }
        }
    }

    /// A way has come up with a peer: it is dialled, and kept if it belongs to the mesh.
    pub(super) fn found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let now = self.directory.runtime.now();
        if peer != self.directory.peer_id && self.service.is_some() {
            self.peers.found(peer, addresses, now);
        }
    }
}

impl Finding {
    fn listen(&mut self, search: Search) {
        self.listeners.retain(|search| !search.is_over());
        for (peer, addresses) in &self.near {
            search.tell(*peer, addresses);
        }
        self.listeners.push(search);
    }

    fn came(&mut self, peer: PeerId, address: Multiaddr) -> Vec<Multiaddr> {
        if self.near.len() >= FOUND_MAX && !self.near.contains_key(&peer) {
            return Vec::new();
        }
        let addresses = self.near.entry(peer).or_default();
        if !addresses.contains(&address) && addresses.len() < crate::wire::limits::ADDRESSES_MAX {
            addresses.push(address);
        }
        let addresses = addresses.clone();
        self.listeners.retain(|search| !search.is_over());
        self.listeners.iter().for_each(|search| search.tell(peer, &addresses));
        addresses
    }

    /// Forgets an address; says whether it was the peer's last.
    fn went(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
        let Some(addresses) = self.near.get_mut(&peer) else { return false };
        addresses.retain(|known| known != address);
        let is_gone = addresses.is_empty();
        if is_gone {
            self.near.remove(&peer);
        }
        is_gone
    }
}
