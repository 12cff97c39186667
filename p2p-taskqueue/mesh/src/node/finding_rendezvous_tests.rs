use libp2p::core::PeerRecord;
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::{
    Identity, MeshSecret,
    discovery::search,
    node::{address::with_peer, machine_tests::address},
};

fn namespace() -> Namespace {
    Namespace::of(&MeshSecret::from_bytes([1; 32]))
}

fn cookie() -> Cookie {
    Cookie::for_namespace(namespace().at_points().unwrap())
}

/// Returns some configured points, and their peer ids.
fn points<const N: usize>() -> (Points, [PeerId; N]) {
    let peers = [(); N].map(|()| PeerId::random());
    (Points::new(peers.iter().map(|peer| with_peer(address(9), *peer)).collect()), peers)
}

fn registration(port: u16, ttl: u64) -> Registration {
    let record = PeerRecord::new(Identity::generate().unwrap().keypair(), vec![address(port)]).unwrap();
    Registration { namespace: namespace().at_points().unwrap(), record, ttl }
}

fn everybody(_: &PeerId) -> bool {
    true
}

fn nobody(_: &PeerId) -> bool {
    false
}

fn ask(point: PeerId) -> PointAction {
    PointAction::Ask { point, cookie: None }
}

#[test]
fn a_point_is_told_and_asked_when_it_is_connected_and_then_from_time_to_time() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    assert_eq!((points.next_due(), points.due(everybody, now)), (None, Vec::new()));
    points.connected(&PeerId::random(), now);
    assert_eq!(points.next_due(), None, "another peer is no point");
    points.connected(&point, now);
    assert_eq!(points.due(everybody, now), [PointAction::Register(point), ask(point)]);
    points.asked_to_register(point, true, now);
    assert_eq!(points.next_due(), Some(now + POINTS_EVERY));
    // Registered for an hour: renewed after three quarters of it.
    points.has_registered(point, 3_600, now);
    let heard = cookie();
    assert_eq!(points.answered(point, &[], heard.clone(), &namespace(), now), []);
    let asked_again = PointAction::Ask { point, cookie: Some(heard) };
    assert_eq!(points.due(everybody, now + POINTS_EVERY), [asked_again]);
    let renewal = now + Duration::from_secs(2_700);
    assert!(points.due(everybody, renewal).contains(&PointAction::Register(point)));
}

#[test]
fn nothing_is_due_at_a_point_that_is_gone_and_everything_when_it_is_back() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    points.connected(&point, now);
    points.due(everybody, now);
    points.answered(point, &[], cookie(), &namespace(), now);
    points.register_soon(now);
    assert_eq!((points.due(nobody, now), points.next_due()), (Vec::new(), None));
    points.connected(&point, now);
    // It is asked without a cookie, because it may have started again and forgotten what it said.
    assert_eq!(points.due(everybody, now), [PointAction::Register(point), ask(point)]);
}

#[test]
fn a_refused_registration_is_tried_again_and_one_without_addresses_waits_for_some() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    points.has_not_registered(point, now);
    assert_eq!(points.next_due(), Some(now + POINTS_RETRY));
    points.asked_to_register(point, false, now);
    assert_eq!(points.next_due(), None);
    points.register_soon(now);
    assert_eq!(points.due(everybody, now), [PointAction::Register(point)]);
}

#[test]
fn a_search_hears_what_was_said_before_and_ends_with_the_last_answer() {
    let (mut points, [one, two]) = points();
    let now = Instant::now();
    let known = registration(1, 60);
    let found = points.answered(one, std::slice::from_ref(&known), cookie(), &namespace(), now);
    let peer = known.record.peer_id();
    assert_eq!(found, [PointAction::Found { peer, addresses: vec![address(1)] }]);
    let (all, mut findings) = search(None);
    assert_eq!(points.search(all, everybody, now).len(), 2);
    assert_eq!(findings.try_recv().unwrap().unwrap().peer, peer);
    points.answered(two, &[registration(2, 60)], cookie(), &namespace(), now);
    assert_eq!(findings.try_recv().unwrap().unwrap().addresses, [address(2)]);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty), "the other point has not answered");
    assert_eq!(points.not_answered(one, ErrorCode::Unavailable, now), None);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Disconnected), "one answer is enough");
}

#[test]
fn an_answer_to_an_earlier_question_does_not_end_a_search() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    points.connected(&point, now);
    points.due(everybody, now);
    let (all, mut findings) = search(None);
    points.search(all, everybody, now);
    points.answered(point, &[], cookie(), &namespace(), now);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
    points.answered(point, &[], cookie(), &namespace(), now);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_search_that_no_point_answers_says_why() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    let (all, mut findings) = search(None);
    points.search(all, everybody, now);
    points.not_answered(point, ErrorCode::Unavailable, now);
    assert!(findings.try_recv().unwrap().unwrap_err().contains(&point.to_string()));
    assert_eq!(points.next_due(), Some(now + POINTS_RETRY));
    let (all, mut findings) = search(None);
    assert_eq!(points.search(all, nobody, now), []);
    assert!(findings.try_recv().unwrap().unwrap_err().contains("none of the 1 rendezvous points is connected"));
    let (all, mut findings) = search(None);
    Points::new(Vec::new()).search(all, everybody, now);
    assert!(findings.try_recv().unwrap().unwrap_err().contains("no rendezvous point is configured"));
}

#[test]
fn a_point_that_has_forgotten_the_cookie_is_asked_for_everything() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    let heard = cookie();
    points.answered(point, &[], heard.clone(), &namespace(), now);
    let (all, mut findings) = search(None);
    assert_eq!(points.search(all, everybody, now), [PointAction::Ask { point, cookie: Some(heard) }]);
    assert_eq!(points.not_answered(point, ErrorCode::InvalidCookie, now), Some(ask(point)));
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty), "the search waits for the second question");
    assert_eq!(points.not_answered(point, ErrorCode::InvalidCookie, now), None, "and not for a third one");
    assert!(findings.try_recv().unwrap().is_err());
}

#[test]
fn searches_are_bounded_and_one_that_nobody_listens_to_makes_room() {
    let (mut points, [_point]) = points();
    let now = Instant::now();
    let mut listening = Vec::new();
    for _ in 0..SEARCHES_MAX {
        let (search, findings) = search(None);
        points.search(search, everybody, now);
        listening.push(findings);
    }
    let (one_more, mut findings) = search(None);
    assert_eq!(points.search(one_more, everybody, now), []);
    assert_eq!(findings.try_recv().unwrap(), Err(TOO_MANY_SEARCHES.to_owned()));
    listening.pop();
    let (next, mut findings) = search(None);
    assert_eq!(points.search(next, everybody, now).len(), 1);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_registration_is_forgotten_after_its_time() {
    let (mut points, [point]) = points();
    let now = Instant::now();
    let brief = registration(1, 60);
    points.answered(point, std::slice::from_ref(&brief), cookie(), &namespace(), now);
    points.connected(&point, now);
    let later = now + Duration::from_secs(60);
    assert!(points.due(everybody, later).contains(&PointAction::LostSight(brief.record.peer_id())));
}

#[test]
fn a_node_that_leaves_a_mesh_withdraws_its_name_everywhere_and_forgets_what_it_heard() {
    let (mut points, [one, two]) = points();
    let now = Instant::now();
    let known = registration(1, 60);
    points.answered(one, std::slice::from_ref(&known), cookie(), &namespace(), now);
    let actions = points.leave(&namespace(), now);
    let old = namespace().at_points().unwrap();
    for point in [one, two] {
        assert!(actions.contains(&PointAction::Unregister { point, namespace: old.clone() }));
    }
    assert!(actions.contains(&PointAction::LostSight(known.record.peer_id())));
    assert_eq!(actions.len(), 3);
    points.connected(&one, now);
    assert!(points.due(everybody, now).contains(&ask(one)), "the new mesh is asked for from the beginning");
}

#[test]
fn a_registration_is_renewed_neither_all_the_time_nor_never() {
    assert_eq!(renew_after(0), POINTS_RETRY);
    assert_eq!(renew_after(u64::MAX), Duration::from_secs(24 * 3_600));
}
