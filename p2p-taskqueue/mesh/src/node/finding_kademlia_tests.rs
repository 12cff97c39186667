use std::time::Duration;

use libp2p::{Multiaddr, kad::Record};
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::{
    Identity, MeshSecret,
    discovery::{
        kademlia::{Kademlia, kademlia},
        record::sign,
        search,
    },
    node::machine_tests::address,
};

fn namespace() -> Namespace {
    Namespace::of(&MeshSecret::from_bytes([1; 32]))
}

/// A hash table that knows no peers. It only draws the ids of queries.
struct Queries(Kademlia);

impl Queries {
    fn new() -> Self {
        Self(kademlia(PeerId::random()))
    }

    fn id(&mut self) -> QueryId {
        self.0.get_record(namespace().members_key())
    }
}

fn record(identity: &Identity, addresses: &[Multiaddr]) -> Record {
    Record::new(namespace().peer_key(&identity.peer_id()), sign(identity, addresses).unwrap())
}

/// Returns the search of the only action.
fn search_of(actions: &[TableAction]) -> u64 {
    match actions {
        [TableAction::AskMembers { search } | TableAction::AskPeer { search, .. }] => *search,
        other => panic!("not one question: {other:?}"),
    }
}

#[test]
fn one_peer_is_asked_for_directly_and_told_once() {
    let (mut lookups, mut queries, identity) = (Lookups::new(true), Queries::new(), Identity::generate().unwrap());
    let peer = identity.peer_id();
    let (wanted, mut findings) = search(Some(peer));
    let actions = lookups.search(wanted, true);
    assert_eq!(actions, [TableAction::AskPeer { search: search_of(&actions), peer }]);
    let query = queries.id();
    lookups.asked(search_of(&actions), query);
    let found = record(&identity, &[address(1)]);
    lookups.record(query, &found, &namespace());
    lookups.record(query, &found, &namespace());
    assert_eq!(findings.try_recv().unwrap().unwrap().addresses, [address(1)]);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty), "a copy of the record says nothing new");
    lookups.ended(query);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Disconnected), "the search ends with its last query");
}

#[test]
fn every_member_is_asked_for_once_and_the_search_ends_with_the_last_of_them() {
    let (mut lookups, mut queries) = (Lookups::new(true), Queries::new());
    let (all, mut findings) = search(None);
    let actions = lookups.search(all, true);
    assert!(matches!(actions[..], [TableAction::AskMembers { .. }]));
    let (id, members) = (search_of(&actions), queries.id());
    lookups.asked(id, members);
    let [one, two] = [PeerId::random(), PeerId::random()];
    assert_eq!(lookups.members(members, HashSet::from([one])), [TableAction::AskPeer { search: id, peer: one }]);
    let more = lookups.members(members, HashSet::from([one, two]));
    assert_eq!(more, [TableAction::AskPeer { search: id, peer: two }]);
    let records = [queries.id(), queries.id()];
    records.iter().for_each(|query| lookups.asked(id, *query));
    for query in [members, records[0]] {
        lookups.ended(query);
        assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
    }
    lookups.ended(records[1]);
    assert_eq!(findings.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_record_that_nobody_asked_for_or_that_is_forged_is_not_told() {
    let (mut lookups, mut queries) = (Lookups::new(true), Queries::new());
    let [identity, other] = [(); 2].map(|()| Identity::generate().unwrap());
    let (wanted, mut findings) = search(Some(identity.peer_id()));
    let actions = lookups.search(wanted, true);
    let query = queries.id();
    lookups.asked(search_of(&actions), query);
    lookups.record(query, &record(&other, &[address(1)]), &namespace());
    let forged = Record { key: namespace().peer_key(&identity.peer_id()), ..record(&other, &[address(1)]) };
    lookups.record(query, &forged, &namespace());
    lookups.record(queries.id(), &record(&identity, &[address(1)]), &namespace());
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_crowd_of_members_does_not_make_a_search_larger_than_its_bound() {
    let (mut lookups, mut queries) = (Lookups::new(true), Queries::new());
    let (all, _findings) = search(None);
    let actions = lookups.search(all, true);
    let members = queries.id();
    lookups.asked(search_of(&actions), members);
    let crowd = (0..2 * LOOKUPS_MAX).map(|_| PeerId::random()).collect();
    assert_eq!(lookups.members(members, crowd).len(), LOOKUPS_MAX);
    assert_eq!(lookups.members(members, HashSet::from([PeerId::random()])), []);
}

#[test]
fn searches_are_bounded_and_one_that_nobody_listens_to_makes_room() {
    let (mut lookups, mut queries) = (Lookups::new(true), Queries::new());
    let mut listening = Vec::new();
    for _ in 0..SEARCHES_MAX {
        let (search, findings) = search(None);
        let actions = lookups.search(search, true);
        let query = queries.id();
        lookups.asked(search_of(&actions), query);
        listening.push((query, findings));
    }
    let (one_more, mut findings) = search(None);
    assert_eq!(lookups.search(one_more, true), []);
    assert_eq!(findings.try_recv().unwrap(), Err(TOO_MANY_SEARCHES.to_owned()));
    let (query, gone) = listening.swap_remove(7);
    drop(gone);
    let (next, mut findings) = search(None);
    let actions = lookups.search(next, true);
    assert!(matches!(actions[..], [TableAction::End(ended), TableAction::AskMembers { .. }] if ended == query));
    assert_eq!(findings.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_search_of_an_empty_table_says_what_to_do() {
    let mut lookups = Lookups::new(true);
    let (all, mut findings) = search(None);
    assert_eq!(lookups.search(all, false), []);
    assert_eq!(findings.try_recv().unwrap(), Err(TABLE_EMPTY.to_owned()));
}

#[test]
fn changes_that_come_together_are_published_together_and_not_twice_within_a_pause() {
    let (mut lookups, start) = (Lookups::new(true), Instant::now());
    let at = |millis: u64| start + Duration::from_millis(millis);
    assert_eq!(lookups.next_due(), None);
    lookups.publish_soon(start);
    lookups.publish_soon(at(100));
    assert_eq!(lookups.next_due(), Some(start + PUBLISH_AFTER));
    assert!(!lookups.take_due_to_publish(at(199)));
    assert!(lookups.take_due_to_publish(at(200)) && !lookups.take_due_to_publish(at(200)));
    assert_eq!(lookups.next_due(), Some(at(200) + PUBLISH_EVERY));
    lookups.publish_again(at(300));
    assert_eq!(lookups.next_due(), Some(at(300) + PUBLISH_RETRY));
    lookups.publish_soon(at(300));
    assert_eq!(lookups.next_due(), Some(at(200) + PUBLISH_PAUSE), "the numbers of records count seconds");
}

#[test]
fn a_node_without_a_table_publishes_nothing() {
    let mut lookups = Lookups::new(false);
    lookups.publish_soon(Instant::now());
    assert_eq!(lookups.next_due(), None);
}
