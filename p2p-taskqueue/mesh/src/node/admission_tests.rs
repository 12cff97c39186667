use libp2p::core::{Endpoint, transport::PortUse};

use super::*;
use crate::{Identity, testing::mesh};

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn came(from: &Multiaddr) -> ConnectedPoint {
    ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: from.clone() }
}

fn dialled(to: &str) -> ConnectedPoint {
    let (address, role_override, port_use) = (address(to), Endpoint::Dialer, PortUse::New);
    ConnectedPoint::Dialer { address, role_override, port_use }
}

fn config() -> NodeConfig {
    let identity = Identity::generate().unwrap();
    NodeConfig::new(identity.clone(), mesh(1, &identity))
}

fn admission() -> Admission {
    Admission::new(&config(), Arrivals::default())
}

/// Fills the bound of connections being set up, with eight from each of eight addresses.
fn full(admission: &mut Admission) {
    for number in 0..64 {
        admission.inbound(id(number), &address(&format!("/ip4/192.0.2.{}/tcp/1", number / 8))).unwrap();
    }
}

fn is_staying(admission: &Admission, number: usize) -> bool {
    admission.pending_inbound.get(&id(number)).is_some_and(|pending| !pending.is_leaving)
}

#[test]
fn a_stranger_gets_eight_connections_and_strangers_a_quarter_of_all() {
    let mut admission = admission();
    let (stranger, here) = (PeerId::random(), dialled("/ip4/192.0.2.1/tcp/1"));
    for number in 0..8 {
        assert!(admission.check(id(number), stranger).is_ok());
        admission.established(id(number), stranger, &here);
    }
    assert!(admission.check(id(8), stranger).is_err());
    for number in 8..128 {
        admission.established(id(number), PeerId::random(), &here);
    }
    // Connections that this node dialled are not pushed out.
    assert!(admission.check(id(128), PeerId::random()).is_err());
    admission.proven(id(0), stranger);
    assert!(admission.check(id(128), stranger).is_ok());
}

#[test]
fn what_has_gone_makes_room_and_so_does_the_longest_silent_one() {
    let mut admission = admission();
    let from = address("/ip4/127.0.0.1/tcp/1");
    for number in 0..64 {
        admission.inbound(id(number), &from).unwrap();
    }
    admission.settled(id(3));
    admission.inbound(id(64), &from).unwrap();
    assert_eq!((admission.pending_count(), admission.made_room()), (64, 0));
    admission.inbound(id(65), &from).unwrap();
    assert_eq!((admission.pending_count(), admission.made_room()), (64, 1));
    assert!(!is_staying(&admission, 0) && is_staying(&admission, 1));
    // Connections that were pushed out and have not gone yet count towards twice the bound.
    for number in 66..128 {
        admission.inbound(id(number), &from).unwrap();
    }
    admission.inbound(id(128), &from).unwrap();
    assert_eq!(admission.inbound(id(129), &from).unwrap_err().reason(), "pending_max");
    (0..129).for_each(|number| admission.settled(id(number)));
    assert_eq!(admission.pending_count(), 0);
    admission.established(id(3), PeerId::random(), &came(&from));
    admission.closed(id(3));
    assert!(admission.established.is_empty() && admission.unproven.is_empty() && admission.leaving.is_empty());
}

#[test]
fn an_address_gets_eight_connections_until_somebody_there_proves_itself() {
    let mut admission = admission();
    let from = |port: usize| address(&format!("/ip4/192.0.2.1/tcp/{port}"));
    for number in 0..4 {
        admission.inbound(id(number), &from(number)).unwrap();
        admission.settled(id(number));
        admission.established(id(number), PeerId::random(), &came(&from(number)));
        admission.spoke(id(number));
    }
    (4..8).for_each(|number| admission.inbound(id(number), &from(number)).unwrap());
    // The ninth takes the place of the one that has been silent longest.
    admission.inbound(id(8), &from(8)).unwrap();
    assert!(!is_staying(&admission, 4) && is_staying(&admission, 5));
    assert_eq!(admission.unproven_from([192, 0, 2, 1].into()), 8);
    assert!(admission.inbound(id(9), &address("/ip4/192.0.2.2/tcp/1")).is_ok(), "another address");
    admission.proven(id(0), PeerId::random());
    admission.inbound(id(10), &from(10)).unwrap();
    assert_eq!(admission.made_room(), 1);
}

#[test]
fn eight_addresses_full_of_silence_keep_no_ninth_out() {
    let mut admission = admission();
    full(&mut admission);
    admission.inbound(id(64), &address("/ip4/198.51.100.1/tcp/1")).unwrap();
    assert!(!is_staying(&admission, 0) && is_staying(&admission, 64));
    // A newcomer from one of these addresses takes a place of its own address.
    admission.inbound(id(65), &address("/ip4/192.0.2.3/tcp/9")).unwrap();
    assert!(!is_staying(&admission, 24) && is_staying(&admission, 65));
    assert_eq!(admission.pending_count(), 64);
}

#[test]
fn the_addresses_of_members_keep_a_share() {
    let mut admission = admission();
    let (home, member) = ("/ip4/192.0.2.1/tcp/1", PeerId::random());
    admission.established(id(1_000), member, &dialled(home));
    admission.proven(id(1_000), member);
    admission.closed(id(1_000));
    full(&mut admission);
    for number in 64..96 {
        let _refused_by_address = admission.inbound(id(number), &address(&format!("/ip4/198.51.100.{number}/tcp/1")));
    }
    assert!((8..16).all(|number| is_staying(&admission, number)), "members come from there");
    admission.forget_proofs();
    assert!(!admission.is_home([192, 0, 2, 1].into()));
}

#[test]
fn one_that_proves_nothing_makes_room_for_a_newcomer() {
    let mut admission = admission();
    let from = |number: usize| address(&format!("/ip4/192.0.2.{number}/tcp/1"));
    let peers: Vec<PeerId> = (0..128).map(|_| PeerId::random()).collect();
    for (number, peer) in peers.iter().enumerate() {
        admission.check(id(number), *peer).unwrap();
        admission.established(id(number), *peer, &came(&from(number)));
    }
    admission.spoke(id(0));
    admission.inbound(id(128), &address("/ip4/198.51.100.1/tcp/1")).unwrap();
    admission.check(id(128), PeerId::random()).unwrap();
    assert_eq!(admission.next_to_close(), Some((peers[1], id(1))));
    assert_eq!((admission.next_to_close(), admission.unproven_count()), (None, 127));
    admission.closed(id(1));
    assert!(admission.leaving.is_empty());
}

#[test]
fn the_addresses_of_one_ipv6_network_count_together() {
    let mut admission = admission();
    for number in 0..8 {
        admission.inbound(id(number), &address(&format!("/ip6/2001:db8::{}/tcp/1", number + 1))).unwrap();
    }
    admission.inbound(id(8), &address("/ip6/2001:db8:0:1::1/tcp/1")).unwrap();
    assert_eq!(admission.made_room(), 0);
    admission.inbound(id(9), &address("/ip6/2001:db8::ffff/tcp/1")).unwrap();
    assert_eq!(admission.made_room(), 1);
}

#[test]
fn a_list_decides_before_anything_is_counted() {
    let (friend, foe, other) = (PeerId::random(), PeerId::random(), PeerId::random());
    let listed = config().with_allowed_peers(Some([friend, foe].into())).unwrap();
    let mut admission = Admission::new(&listed.with_denied_peers([foe].into()).unwrap(), Arrivals::default());
    assert!(admission.check(id(0), friend).is_ok() && admission.outbound(id(0), Some(friend)).is_ok());
    assert_eq!(admission.check(id(1), foe), Err(Refusal::Unwelcome(Unwelcome::Denied)));
    assert_eq!(admission.outbound(id(1), Some(foe)), Err(Refusal::Unwelcome(Unwelcome::Denied)));
    assert_eq!(admission.check(id(1), other), Err(Refusal::Unwelcome(Unwelcome::NotAllowed)));
    assert_eq!(admission.pending_count(), 1, "only the one that is welcome");
}

#[test]
fn a_list_is_bounded() {
    let many: BTreeSet<PeerId> = (0..=1_024).map(|_| PeerId::random()).collect();
    assert!(config().with_denied_peers(many.clone()).is_err() && config().with_allowed_peers(Some(many)).is_err());
}
