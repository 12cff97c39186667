//! The loop's part about finding peers: what the local network and other ways come up with.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId, mdns};
use taskqueue_api::Method;

use super::{
    address::is_loopback,
    driver::NodeLoop,
    finding_kademlia::Lookups,
    finding_rendezvous::Points,
    limits::{FOUND_MAX, SEARCHES_MAX},
};
use crate::{
    Identity,
    discovery::{DiscoveryConfig, Namespace, Search},
};

/// What is said of a search that there is no room for.
pub(super) const TOO_MANY_SEARCHES: &str = "too many searches are open here: try again in a moment";

/// What the ways of finding peers that need the swarm have come up with, and who listens to them.
#[derive(Debug)]
pub(super) struct Finding {
    /// Signs where this node is.
    pub(super) identity: Identity,
    /// The peers that the local network says are there, and where.
    near: BTreeMap<PeerId, Vec<Multiaddr>>,
    listeners: Vec<Search>,
    /// Searches that wait for the first connections.
    deferred: Vec<(Method, Search)>,
    pub(super) points: Points,
    pub(super) lookups: Lookups,
    /// The addresses that this node says are its own.
    own: BTreeSet<Multiaddr>,
}

impl NodeLoop {
    /// Takes a search by a way that is on. While those who could answer are on their way, right after the start, it waits.
    pub(super) fn on_search(&mut self, method: Method, search: Search) {
        let has_room = self.finding.deferred.len() < SEARCHES_MAX;
        if has_room && !self.is_ready(method) && self.peers.are_configured_coming() {
            self.finding.deferred.push((method, search));
        } else {
            self.serve_search(method, search);
        }
    }

    fn is_ready(&mut self, method: Method) -> bool {
        match method {
            Method::Rendezvous => !self.askable_points().is_empty(),
            Method::Kademlia => self.is_table_filled(),
            _ => true,
        }
    }

    fn serve_search(&mut self, method: Method, search: Search) {
        match method {
            Method::Mdns => self.finding.listen(search),
            Method::Rendezvous => self.search_points(search),
            Method::Kademlia => self.search_table(search),
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
        self.peers.found(peer, addresses, self.directory.runtime.now());
    }

    /// Does what is due.
    pub(super) fn find_due(&mut self) {
        if !self.ending.has_begun() {
            let now = self.directory.runtime.now();
            self.ask_points_due(now);
            self.publish_due(now);
            for (method, search) in std::mem::take(&mut self.finding.deferred) {
                if !search.is_over() {
                    self.on_search(method, search);
                }
            }
        }
    }

    /// A peer has proved itself, or serves a role: the ways of finding peers may use it.
    pub(super) fn can_be_asked(&mut self, peer: PeerId) {
        let now = self.directory.runtime.now();
        self.finding.points.connected(&peer, now);
        self.route_to(peer, now);
    }

    /// Under which name this node looks for its mesh.
    pub(super) fn namespace(&self) -> Namespace {
        self.directory.discovery.namespace(&self.directory.secret())
    }

    /// This node has joined another mesh: what it said and heard in the old one is of no use.
    pub(super) fn leave_namespace(&mut self, old: &Namespace) {
        if *old != self.namespace() {
            self.leave_points(old);
            self.leave_table(old);
        }
    }

    /// Tells the ways of finding peers where this node is.
    pub(super) fn addresses_changed(&mut self) {
        let behaviour = self.swarm.behaviour();
        if !behaviour.rendezvous.is_enabled() && !behaviour.kademlia.is_enabled() {
            return;
        }
        let own = worth_telling(self.swarm.listeners());
        let before = std::mem::replace(&mut self.finding.own, own.clone());
        for gone in before.difference(&own) {
            self.swarm.remove_external_address(gone);
        }
        for new in own.difference(&before) {
            self.swarm.add_external_address(new.clone());
        }
        if own != before {
            self.own_addresses_changed();
        }
    }

    /// What is known of this node elsewhere is out of date.
    pub(super) fn own_addresses_changed(&mut self) {
        let now = self.directory.runtime.now();
        self.finding.points.register_soon(now);
        self.publish_soon(now);
    }
}

/// The addresses that lead here from another machine; if there are none, those that lead here from this one.
fn worth_telling<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> BTreeSet<Multiaddr> {
    let (near, far): (BTreeSet<_>, BTreeSet<_>) = addresses.cloned().partition(is_loopback);
    if far.is_empty() { near } else { far }
}

impl Finding {
    pub(super) fn new(identity: Identity, discovery: &DiscoveryConfig) -> Self {
        Self {
            identity,
            near: BTreeMap::new(),
            listeners: Vec::new(),
            deferred: Vec::new(),
            points: Points::new(discovery.points()),
            lookups: Lookups::default(),
            own: BTreeSet::new(),
        }
    }

    /// When there is something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.points.next_due(), self.lookups.next_due()].into_iter().flatten().min()
    }

    fn listen(&mut self, search: Search) {
        self.listeners.retain(|search| !search.is_over());
        if self.listeners.len() >= SEARCHES_MAX {
            return search.fail(TOO_MANY_SEARCHES);
        }
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

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;
    use crate::discovery::search;

    #[test]
    fn no_more_searches_are_listened_to_than_there_is_room_for() {
        let identity = Identity::generate().unwrap();
        let mut finding = Finding::new(identity, &DiscoveryConfig::default());
        let mut open: Vec<_> = (0..=SEARCHES_MAX).map(|_| search(None)).collect();
        let (last, mut findings) = open.pop().unwrap();
        let (searches, listening): (Vec<_>, Vec<_>) = open.into_iter().unzip();
        searches.into_iter().for_each(|search| finding.listen(search));
        finding.listen(last);
        assert_eq!(findings.try_recv().unwrap(), Err(TOO_MANY_SEARCHES.to_owned()));
        // Whoever goes makes room.
        drop(listening);
        let (next, mut findings) = search(None);
        finding.listen(next);
        assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn loopback_is_told_only_when_there_is_nothing_else() {
        let [near, far]: [Multiaddr; 2] =
            ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/1"].map(|text| text.parse().unwrap());
        assert_eq!(worth_telling([&near, &far].into_iter()), BTreeSet::from([far]));
        assert_eq!(worth_telling([near.clone()].iter()), BTreeSet::from([near]));
    }
}
