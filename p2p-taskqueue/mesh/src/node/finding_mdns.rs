//! The peers on the local network, and the searches that listen for them.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};

use super::{
    finding::TOO_MANY_SEARCHES,
    limits::{FOUND_MAX, SEARCHES_MAX},
};
use crate::{discovery::Search, wire::limits::ADDRESSES_MAX};

/// The peers that mDNS shows on the local network, with their addresses.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    near: BTreeMap<PeerId, Vec<Multiaddr>>,
    listeners: Vec<Search>,
}

impl Neighbours {
    /// Tells the search which peers are there, and later which ones come.
    pub(super) fn listen(&mut self, search: Search) {
        self.listeners.retain(|search| !search.is_over());
        if self.listeners.len() >= SEARCHES_MAX {
            return search.fail(TOO_MANY_SEARCHES);
        }
        for (peer, addresses) in &self.near {
            search.tell(*peer, addresses);
        }
        self.listeners.push(search);
    }

    /// Takes an address at which mDNS shows the peer. Returns all addresses of the peer. Returns none, and leaves the
    /// peer out, if there are too many peers already.
    pub(super) fn came(&mut self, peer: PeerId, address: Multiaddr) -> Vec<Multiaddr> {
        if self.near.len() >= FOUND_MAX && !self.near.contains_key(&peer) {
            return Vec::new();
        }
        let addresses = self.near.entry(peer).or_default();
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
        let addresses = addresses.clone();
        self.listeners.retain(|search| !search.is_over());
        self.listeners.iter().for_each(|search| search.tell(peer, &addresses));
        addresses
    }

    /// Removes an address at which mDNS no longer shows the peer. Returns whether it was the peer's last.
    pub(super) fn went(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
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
    use crate::{discovery::search, node::machine_tests::address};

    #[test]
    fn no_more_searches_are_listened_to_than_there_is_room_for() {
        let mut neighbours = Neighbours::default();
        let mut open: Vec<_> = (0..=SEARCHES_MAX).map(|_| search(None)).collect();
        let (last, mut findings) = open.pop().unwrap();
        let (searches, listening): (Vec<_>, Vec<_>) = open.into_iter().unzip();
        searches.into_iter().for_each(|search| neighbours.listen(search));
        neighbours.listen(last);
        assert_eq!(findings.try_recv().unwrap(), Err(TOO_MANY_SEARCHES.to_owned()));
        // A search whose listener is gone makes room.
        drop(listening);
        let (next, mut findings) = search(None);
        neighbours.listen(next);
        assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn a_search_hears_who_is_there_and_who_comes_and_no_other_peer_than_the_one_it_wants() {
        let (mut neighbours, [wanted, other]) = (Neighbours::default(), [PeerId::random(), PeerId::random()]);
        neighbours.came(wanted, address(1));
        let (search, mut findings) = search(Some(wanted));
        neighbours.listen(search);
        neighbours.came(other, address(2));
        assert_eq!(neighbours.came(wanted, address(3)), [address(1), address(3)]);
        let mut heard = || findings.try_recv().map(|found| found.unwrap().addresses);
        assert_eq!(heard(), Ok(vec![address(1)]));
        assert_eq!(heard(), Ok(vec![address(1), address(3)]));
        assert_eq!(heard(), Err(TryRecvError::Empty));
    }

    #[test]
    fn a_crowd_on_the_network_displaces_nobody_and_gives_way_when_it_goes() {
        let (mut neighbours, known) = (Neighbours::default(), PeerId::random());
        neighbours.came(known, address(1));
        let crowd: Vec<_> = (1..FOUND_MAX).map(|_| PeerId::random()).collect();
        crowd.iter().for_each(|peer| drop(neighbours.came(*peer, address(2))));
        let newcomer = PeerId::random();
        assert_eq!(neighbours.came(newcomer, address(3)), []);
        for port in 10..100 {
            neighbours.came(known, address(port));
        }
        assert_eq!(neighbours.came(known, address(1)).len(), ADDRESSES_MAX);
        assert!(!neighbours.went(crowd[0], &address(9)), "it is not known there");
        assert!(neighbours.went(crowd[0], &address(2)) && !neighbours.went(crowd[0], &address(2)));
        assert_eq!(neighbours.came(newcomer, address(3)), [address(3)]);
    }
}
