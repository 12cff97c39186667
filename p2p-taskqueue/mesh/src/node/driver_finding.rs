//! The loop's part about finding peers: it passes the swarm's events to the discovery methods, and does what they ask
//! for.

use libp2p::{PeerId, mdns};
use taskqueue_api::Method;

use super::NodeLoop;
use crate::discovery::{Namespace, Search, kademlia::leave};

impl NodeLoop {
    /// Takes a search by one of the methods that need the swarm. The search waits while nobody can be asked yet but a
    /// configured peer is being dialled, as right after the start.
    pub(super) fn on_search(&mut self, method: Method, search: Search) {
        let waits = !self.is_ready(method) && self.peers.are_configured_coming();
        let served = if waits { self.deferred.wait(method, search) } else { Some(search) };
        if let Some(search) = served {
            self.serve_search(method, search);
        }
    }

    fn is_ready(&mut self, method: Method) -> bool {
        match method {
            Method::Rendezvous => self.points.can_ask(|point| self.peers.stands(point)),
            Method::Kademlia => self.is_table_filled(),
            _ => true,
        }
    }

    fn serve_search(&mut self, method: Method, search: Search) {
        match method {
            Method::Mdns => self.neighbours.listen(search),
            Method::Rendezvous => {
                let now = self.now();
                let actions = self.points.search(search, |point| self.peers.stands(point), now);
                self.do_at_points(actions);
            }
            Method::Kademlia => {
                let is_filled = self.is_table_filled();
                let actions = self.lookups.search(search, is_filled);
                self.do_in_table(actions);
            }
            _ => search.fail("this node does not look for peers in this way"),
        }
    }

    /// Does what is due: registers, asks, publishes, and tries the waiting searches again.
    pub(super) fn find_due(&mut self) {
        if self.ending.has_begun() {
            return;
        }
        let now = self.now();
        let actions = self.points.due(|point| self.peers.stands(point), now);
        self.do_at_points(actions);
        if self.lookups.take_due_to_publish(now) {
            self.publish();
        }
        for (method, search) in self.deferred.take() {
            self.on_search(method, search);
        }
    }

    /// Lets the discovery methods use a peer that has proved itself.
    pub(super) fn can_be_asked(&mut self, peer: PeerId) {
        let now = self.now();
        self.points.connected(&peer, now);
        if let Some(table) = self.swarm.behaviour_mut().table() {
            for address in self.peers.addresses(&peer) {
                table.add_address(&peer, address);
            }
        }
        self.lookups.publish_soon(now);
    }

    /// Returns the name under which the nodes of the mesh look for each other now.
    pub(super) fn namespace(&self) -> Namespace {
        self.directory.discovery.namespace(&self.directory.membership.newest_secret())
    }

    /// Withdraws what this node has published under an old name of the mesh, and forgets what it has heard there.
    pub(super) fn leave_namespace(&mut self, old: &Namespace) {
        let now = self.now();
        let actions = self.points.leave(old, now);
        self.do_at_points(actions);
        if let Some(table) = self.swarm.behaviour_mut().table() {
            leave(table, old);
        }
        self.lookups.publish_soon(now);
    }

    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        let now = self.now();
        match event {
            mdns::Event::Discovered(found) => {
                for (peer, address) in found {
                    let addresses = self.neighbours.came(peer, address);
                    self.peers.found(peer, addresses, now);
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer, address) in gone {
                    if self.neighbours.went(peer, &address) {
                        self.peers.lost_sight(&peer);
                    }
                }
            }
        }
    }
}
