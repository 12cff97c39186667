//! Functions that read one address: its host, its relay, and the peer id at its end.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// Returns whether the address begins with a loopback IP address, and so leads to this machine only.
#[must_use]
pub fn is_loopback(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_loopback())
}

/// Returns the IP address that the address begins with, or `None` when it begins with a name or with a peer id.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

/// Returns whether the address leads through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Returns whether the address leads through this relay.
pub(super) fn is_relayed_by(address: &Multiaddr, relay: PeerId) -> bool {
    let mut before = address.iter().take_while(|part| *part != Protocol::P2pCircuit);
    is_relayed(address) && before.any(|part| part == Protocol::P2p(relay))
}

/// Returns the address without the peer id at its end, if it has one there.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Returns the address with this peer id at its end, as other nodes use it.
pub(super) fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    without_peer(address).with(Protocol::P2p(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_through_a_relay_names_the_relay_before_the_circuit() {
        let (relay, behind) = (PeerId::random(), PeerId::random());
        let circuit = address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{behind}"));
        assert!(is_relayed(&circuit) && is_relayed_by(&circuit, relay));
        assert!(!is_relayed_by(&circuit, behind), "it is what the circuit leads to");
        assert!(!is_relayed_by(&address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}")), relay), "there is no circuit");
    }

    #[test]
    fn the_peer_at_the_end_is_taken_off_and_put_on_once() {
        let peer = PeerId::random();
        let (bare, named) = (address("/ip4/192.0.2.1/tcp/1"), address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}")));
        assert_eq!((without_peer(named.clone()), without_peer(bare.clone())), (bare.clone(), bare.clone()));
        assert_eq!((with_peer(named.clone(), peer), with_peer(bare, peer)), (named.clone(), named));
    }

    #[test]
    fn loopback_is_told_by_the_host_that_an_address_begins_with() {
        for (text, expected) in [
            ("/ip4/127.0.0.2/tcp/1", true),
            ("/ip6/::1/udp/1/quic-v1", true),
            ("/ip6/::ffff:127.0.0.1/tcp/1", true),
            ("/ip4/192.0.2.1/tcp/1", false),
            ("/dns4/localhost/tcp/1", false),
        ] {
            assert_eq!(is_loopback(&address(text)), expected, "{text}");
        }
    }
}
