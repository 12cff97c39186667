use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId};

use super::address::{is_loopback, is_relayed, with_peer};

/// The addresses of this node that it publishes by the discovery methods.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    /// Whether a method that publishes addresses is switched on.
    is_told: bool,
    told: BTreeSet<Multiaddr>,
}

/// A change of the published addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) gone: Vec<Multiaddr>,
    pub(super) new: Vec<Multiaddr>,
}

impl Change {
    pub(super) const fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }
}

impl OwnAddresses {
    pub(super) const fn new(is_told: bool) -> Self {
        Self { is_told, told: BTreeSet::new() }
    }

    /// Takes the addresses at which the node listens now. Returns how the published addresses change.
    pub(super) fn listening_at<'a>(&mut self, listeners: impl Iterator<Item = &'a Multiaddr>) -> Change {
        if !self.is_told {
            return Change::default();
        }
        let now = worth_telling(listeners);
        let before = std::mem::replace(&mut self.told, now);
        let gone = before.difference(&self.told).cloned().collect();
        Change { gone, new: self.told.difference(&before).cloned().collect() }
    }
}

/// Returns the addresses that lead here from another machine or, if there are none, the loopback addresses.
fn worth_telling<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> BTreeSet<Multiaddr> {
    let (near, far): (BTreeSet<_>, BTreeSet<_>) = addresses.cloned().partition(is_loopback);
    if far.is_empty() { near } else { far }
}

/// Returns the addresses as other nodes use them, each once. The direct ones come first, because a peer takes a limited
/// number.
pub(super) fn as_told<'a>(own: PeerId, addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let mut addresses: Vec<Multiaddr> = addresses.map(|address| with_peer(address.clone(), own)).collect();
    addresses.sort_unstable_by(|a, b| is_relayed(a).cmp(&is_relayed(b)).then_with(|| a.cmp(b)));
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::machine_tests::address;

    fn near() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    #[test]
    fn loopback_is_told_only_when_there_is_nothing_else() {
        assert_eq!(worth_telling([&near(), &address(1)].into_iter()), BTreeSet::from([address(1)]));
        assert_eq!(worth_telling([near()].iter()), BTreeSet::from([near()]));
    }

    #[test]
    fn what_has_changed_is_told_once() {
        let mut own = OwnAddresses::new(true);
        assert_eq!(own.listening_at([near()].iter()), Change { gone: Vec::new(), new: vec![near()] });
        assert!(own.listening_at([near()].iter()).is_empty());
        let change = own.listening_at([near(), address(1)].iter());
        assert_eq!(change, Change { gone: vec![near()], new: vec![address(1)] });
        let change = own.listening_at([].iter());
        assert_eq!(change, Change { gone: vec![address(1)], new: Vec::new() });
    }

    #[test]
    fn a_node_without_a_way_to_tell_tells_nothing() {
        assert!(OwnAddresses::new(false).listening_at([address(1)].iter()).is_empty());
    }

    #[test]
    fn the_direct_addresses_come_first_and_each_once() {
        let own = PeerId::random();
        let circuit: Multiaddr = format!("/ip4/192.0.2.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap();
        let known = [circuit.clone(), address(2), with_peer(address(2), own), address(1)];
        let expected = [address(1), address(2), circuit].map(|address| with_peer(address, own));
        assert_eq!(as_told(own, known.iter()), expected);
    }
}
