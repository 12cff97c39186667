use std::{collections::HashSet, sync::Arc, time::Duration};

use taskqueue_api::{Grants, Role};
use tokio::sync::oneshot;

use super::*;
use crate::node::machine_tests::{address, moment, session};

fn keeping() -> Peers {
    Peers::new(PeerId::random(), true)
}

fn remembered(peer_id: PeerId, addresses: Vec<Multiaddr>, proven: Vec<Multiaddr>) -> RememberedPeer {
    RememberedPeer { peer_id, addresses, proven, last_seen: None }
}

fn seen(peer_id: PeerId, at: f64) -> RememberedPeer {
    RememberedPeer { last_seen: Some(at), ..remembered(peer_id, vec![address(1)], Vec::new()) }
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn dialled(to: u16) -> Way {
    Way { remote: address(to), is_dialled: true, is_relayed: false }
}

fn came() -> Way {
    Way { is_dialled: false, ..dialled(9) }
}

fn proof(instance: &str, addresses: Vec<Multiaddr>) -> Proof {
    Proof {
        session: session(),
        grants: Arc::new(Grants::of(Role::Member)),
        heard: 0,
        serves: true,
        instance: instance.into(),
        software: "taskmesh/1".into(),
        addresses,
    }
}

fn refused() -> QueueError {
    QueueError::new(ErrorCode::Unreachable, "refused")
}

type Answer = oneshot::Receiver<Result<Session, QueueError>>;

fn connect(peers: &mut Peers, peer: PeerId, at: Vec<Multiaddr>, patience: Patience, now: Instant) -> Answer {
    let (reply, answer) = oneshot::channel();
    peers.connect(peer, at, Waiter { patience, reply }, now);
    answer
}

fn is_known(peers: &Peers, peer: PeerId) -> bool {
    peers.entries.contains_key(&peer)
}

#[test]
fn a_packet_of_the_local_network_displaces_no_address_that_works() {
    let (mut peers, now, peer) = (keeping(), Instant::now(), PeerId::random());
    peers.configure(peer, address(1), now);
    peers.load(vec![remembered(peer, vec![address(2)], vec![address(2)])], now);
    for packet in 0..10 {
        peers.found(peer, (0..16).map(|port| address(100 + 16 * packet + port)).collect(), now);
    }
    assert_eq!(peers.addresses(&peer)[..2], [address(2), address(1)]);
    // What was proven is kept over a restart. What anybody may have said is not.
    peers.join(PeerId::random(), &[], now);
    let mut kept = peers.take_due_to_save(now).unwrap();
    kept.retain(|kept| kept.peer_id == peer);
    assert_eq!(kept, [remembered(peer, vec![address(2)], vec![address(2)])]);
}

#[test]
fn the_table_is_bounded_and_forgets_the_longest_unheard() {
    let (mut peers, now) = (keeping(), Instant::now());
    let first = PeerId::random();
    peers.load(vec![seen(first, 1.0)], now);
    for number in 1..=PEERS_MAX {
        peers.load(vec![seen(PeerId::random(), 1.0 + number as f64)], now);
    }
    assert_eq!(peers.entries.len(), PEERS_MAX);
    assert!(!is_known(&peers, first));
}

#[test]
fn a_full_table_gives_up_a_stranger_before_a_member_and_nobody_with_whom_a_session_stands() {
    let (mut peers, now) = (keeping(), moment(1.0));
    let [member, stranger, newcomer] = std::array::from_fn(|_| PeerId::random());
    peers.proven(member, id(1), came(), proof("a", Vec::new()), now);
    let _answer = connect(&mut peers, stranger, vec![address(1)], Patience::OneAttempt, now.instant);
    drop(_answer);
    peers.load((2..PEERS_MAX).map(|number| seen(PeerId::random(), 1.0 + number as f64)).collect(), now.instant);
    assert_eq!(peers.entries.len(), PEERS_MAX);
    // The caller has gone. `next_due` counts the callers again, and then the stranger's entry is not needed.
    peers.next_due();
    peers.load(vec![seen(newcomer, 9_999.0)], now.instant);
    assert!(is_known(&peers, member) && is_known(&peers, newcomer) && !is_known(&peers, stranger));
    assert_eq!(peers.entries.len(), PEERS_MAX);
}

#[test]
fn only_wanted_peers_with_an_address_are_dialled() {
    let (mut peers, now, peer) = (keeping(), moment(1.0), PeerId::random());
    let answer = connect(&mut peers, peer, vec![address(1)], Patience::OneAttempt, now.instant);
    assert_eq!(peers.due(now.instant), [Dial { peer, addresses: vec![address(1)] }]);
    drop(answer);
    assert_eq!(peers.due(now.instant), [], "nobody waits for it any more");
    peers.join(peer, &[], now.instant);
    assert_eq!(peers.due(now.instant), [Dial { peer, addresses: vec![address(1)] }]);
    peers.dialling(peer, id(1));
    assert_eq!(peers.due(now.instant), [], "one attempt at a time");
    peers.attempt_failed(peer, id(2), &refused(), now, 1.0);
    assert_eq!(peers.due(now.instant), [], "another connection's failure is not the attempt's");
    peers.attempt_failed(peer, id(1), &refused(), now, 1.0);
    peers.take_due_to_save(now.instant).unwrap();
    assert_eq!(peers.due(now.instant), []);
    let next = peers.next_due().unwrap();
    assert!(next > now.instant);
    assert_eq!(peers.due(next).len(), 1);
    // Without an address there is nothing to dial.
    peers.join(PeerId::random(), &[], next);
    assert_eq!(peers.due(next).len(), 1);
}

#[test]
fn a_peer_of_another_mesh_is_left_in_peace_for_longer_than_one_that_is_off() {
    let (mut peers, now) = (keeping(), moment(1.0));
    let [off, other] = std::array::from_fn(|_| PeerId::random());
    for (peer, code) in [(off, ErrorCode::Unreachable), (other, ErrorCode::Unauthorized)] {
        peers.join(peer, &[address(1)], now.instant);
        peers.dialling(peer, id(1));
        peers.attempt_failed(peer, id(1), &QueueError::new(code, "no"), now, 0.0);
    }
    let soon = peers.due(now.instant + Duration::from_secs(30));
    assert_eq!(soon.iter().map(|dial| dial.peer).collect::<Vec<_>>(), [off]);
    assert_eq!(peers.due(now.instant + Duration::from_secs(60)).len(), 2);
}

#[test]
fn a_stranger_that_was_not_reached_is_forgotten_and_nobody_else() {
    let (mut peers, now) = (keeping(), moment(1.0));
    let [stranger, found, sought, away, configured, told] = std::array::from_fn(|_| PeerId::random());
    let impatient = connect(&mut peers, stranger, vec![address(1)], Patience::OneAttempt, now.instant);
    peers.found(found, vec![address(2)], now.instant);
    let patient = connect(&mut peers, sought, vec![address(5)], Patience::UntilDropped, now.instant);
    peers.load(vec![seen(away, 1.0)], now.instant);
    peers.configure(configured, address(3), now.instant);
    peers.load(vec![remembered(told, vec![address(4)], Vec::new())], now.instant);
    for peer in [stranger, found, sought, away, configured, told] {
        peers.dialling(peer, id(1));
        peers.attempt_failed(peer, id(1), &refused(), now, 1.0);
    }
    drop(impatient);
    let listed: HashSet<_> = peers.list(false).into_iter().map(|peer| peer.peer_id).collect();
    assert_eq!(listed, [away, configured, told].into(), "members and the configured alone are shown");
    peers.due(now.instant);
    assert!(!is_known(&peers, stranger));
    // `found` goes on being dialled while a discovery method shows it, and `sought` while a caller waits for it.
    for peer in [found, sought, away, configured, told] {
        assert!(is_known(&peers, peer));
    }
    drop(patient);
    peers.lost_sight(&found);
    peers.due(now.instant);
    assert!(!is_known(&peers, found) && !is_known(&peers, sought));
}

#[test]
fn more_strangers_than_there_is_room_for_are_not_taken_and_known_peers_are() {
    let (mut peers, now, member) = (keeping(), Instant::now(), PeerId::random());
    peers.load(vec![seen(member, 1.0)], now);
    for _ in 0..=FOUND_MAX {
        peers.found(PeerId::random(), vec![address(1)], now);
    }
    assert_eq!(peers.entries.len(), 1 + FOUND_MAX);
    peers.found(member, vec![address(7)], now);
    assert!(peers.addresses(&member).contains(&address(7)));
}

#[test]
fn this_node_is_never_its_own_peer_and_a_client_finds_and_keeps_nobody() {
    let (own, other, now) = (PeerId::random(), PeerId::random(), moment(1.0));
    let mut peers = Peers::new(own, true);
    peers.load(vec![seen(own, 1.0)], now.instant);
    peers.configure(own, address(1), now.instant);
    peers.found(own, vec![address(1)], now.instant);
    assert!(!is_known(&peers, own));
    let mut client = Peers::new(own, false);
    client.found(other, vec![address(1)], now.instant);
    assert!(!is_known(&client, other));
    client.proven(other, id(1), dialled(1), proof("a", Vec::new()), now);
    client.lost(other, id(1), &refused(), now, 0.0);
    assert_eq!(client.due(now.instant + Duration::from_secs(60)), [], "nobody is dialled again");
    assert_eq!(client.take_unsaved(), None);
}

#[test]
fn a_session_answers_everybody_who_waits_and_whoever_comes_later() {
    let (mut peers, now, peer) = (keeping(), moment(5.0), PeerId::random());
    let mut waiting = [Patience::OneAttempt, Patience::UntilDropped]
        .map(|patience| connect(&mut peers, peer, vec![address(1)], patience, now.instant));
    peers.dialling(peer, id(1));
    peers.proven(peer, id(1), dialled(1), proof("a", Vec::new()), now);
    for answer in &mut waiting {
        assert!(answer.try_recv().unwrap().is_ok());
    }
    let mut later = connect(&mut peers, peer, Vec::new(), Patience::OneAttempt, now.instant);
    assert!(later.try_recv().unwrap().is_ok());
    assert_eq!((peers.serving(), peers.sessions(&peer).len()), (vec![peer], 1));
    // A session that has begun to end takes no requests.
    peers.sessions(&peer).remove(0).drain();
    let mut waits = connect(&mut peers, peer, Vec::new(), Patience::OneAttempt, now.instant);
    assert!(waits.try_recv().is_err());
}

#[test]
fn a_peer_without_an_address_is_unknown_and_one_without_the_protocol_is_not_waited_for() {
    let (mut peers, now, peer) = (keeping(), moment(1.0), PeerId::random());
    let mut answer = connect(&mut peers, peer, Vec::new(), Patience::OneAttempt, now.instant);
    assert_eq!(answer.try_recv().unwrap().unwrap_err().code, ErrorCode::NotFound);
    assert!(!is_known(&peers, peer));
    peers.configure(peer, address(1), now.instant);
    peers.dialling(peer, id(1));
    assert!(peers.are_configured_coming());
    peers.stands_plain(peer, id(1), now);
    assert!(peers.stands(&peer) && peers.is_plain(&peer, id(1)) && !peers.are_configured_coming());
    let mut answer = connect(&mut peers, peer, Vec::new(), Patience::UntilDropped, now.instant);
    assert_eq!(answer.try_recv().unwrap().unwrap_err().code, ErrorCode::Unreachable);
    assert_eq!(peers.serving(), []);
    assert!(!peers.lost(peer, id(1), &refused(), now, 0.0), "no session went with it");
    assert!(!peers.stands(&peer));
    assert!(peers.next_due().is_some_and(|at| at > now.instant), "it is dialled again, after a moment");
}

#[test]
fn what_a_start_before_left_is_closed_by_the_next_and_a_direct_session_goes_first() {
    let (mut peers, now, peer) = (keeping(), moment(1.0), PeerId::random());
    let relayed = Way { is_relayed: true, ..dialled(1) };
    let old = proof("old", Vec::new());
    let (stale, beside, direct) = (old.session.clone(), proof("new", Vec::new()), proof("new", Vec::new()));
    peers.proven(peer, id(1), came(), old, now);
    let beside_session = beside.session.clone();
    peers.proven(peer, id(2), relayed, beside, now);
    assert!(!stale.is_open() && beside_session.is_open());
    assert!(peers.lost(peer, id(1), &refused(), now, 0.0));
    assert!(!peers.has_direct_session(&peer));
    peers.proven(peer, id(3), came(), direct, now);
    assert!(peers.has_direct_session(&peer) && beside_session.is_open(), "it is of the same start");
    beside_session.close();
    assert!(peers.sessions(&peer)[0].is_open(), "the one without a relay is asked first");
    assert!(peers.lost(peer, id(3), &refused(), now, 0.0) && !peers.lost(peer, id(3), &refused(), now, 0.0));
    assert_eq!(peers.serving(), [peer]);
}

#[test]
fn an_address_that_leads_elsewhere_is_not_learnt_from_a_peer() {
    let (mut peers, now, own) = (keeping(), moment(1.0), PeerId::random());
    peers.own = own;
    let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/5".parse().unwrap();
    let through_us: Multiaddr = format!("/ip4/192.0.2.1/tcp/6/p2p/{own}/p2p-circuit").parse().unwrap();
    let said = vec![loopback.clone(), address(2), through_us];
    let [far, near, behind_a_near_relay] = std::array::from_fn(|_| PeerId::random());
    peers.proven(far, id(1), came(), proof("a", said.clone()), now);
    assert_eq!(peers.addresses(&far), [address(2)]);
    let from_here = Way { remote: loopback.clone(), is_dialled: false, is_relayed: false };
    peers.proven(near, id(2), from_here.clone(), proof("a", said.clone()), now);
    assert_eq!(peers.addresses(&near), [loopback, address(2)]);
    peers.proven(behind_a_near_relay, id(3), Way { is_relayed: true, ..from_here }, proof("a", said), now);
    assert_eq!(peers.addresses(&behind_a_near_relay), [address(2)]);
}

#[test]
fn a_new_address_is_saved_at_once_and_other_changes_together() {
    let (mut peers, now, peer) = (keeping(), moment(7.0), PeerId::random());
    peers.proven(peer, id(1), dialled(1), proof("a", Vec::new()), now);
    let saved = peers.take_due_to_save(now.instant).unwrap();
    let expected = remembered(peer, vec![address(1)], vec![address(1)]);
    assert_eq!(saved, [RememberedPeer { last_seen: Some(7.0), ..expected }]);
    peers.proven(peer, id(2), dialled(1), proof("a", Vec::new()), now);
    let later = Moment { instant: now.instant + Duration::from_secs(1), unix_s: 8.0 };
    peers.lost(peer, id(1), &refused(), later, 0.0);
    assert_eq!(peers.take_due_to_save(later.instant), None);
    assert_eq!(peers.next_due(), Some(now.instant + SAVE_AFTER), "the first change says when");
    let saved = peers.take_due_to_save(now.instant + SAVE_AFTER).unwrap();
    assert_eq!(saved[0].last_seen, Some(8.0));
    assert_eq!(peers.take_unsaved(), None, "it is saved once");
}

#[test]
fn an_address_at_which_another_peer_answers_is_forgotten_unless_it_is_configured() {
    let (mut peers, now, peer) = (keeping(), Instant::now(), PeerId::random());
    peers.configure(peer, address(1), now);
    peers.join(peer, &[address(2)], now);
    for port in [1, 2] {
        let at = format!("{}/p2p/{peer}", address(port)).parse().unwrap();
        peers.answered_by_another(peer, &at);
    }
    assert_eq!(peers.addresses(&peer), [address(1)]);
}
