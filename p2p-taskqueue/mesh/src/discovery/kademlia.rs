//! The distributed hash table of a mesh: every node keeps some of the records that say where peers are. It has a protocol
//! name of its own, so that it never mixes with a public table.

use std::time::{Duration, Instant};

use libp2p::{
    PeerId, StreamProtocol,
    kad::{
        self, Behaviour, BucketInserts, Caching, Config, Mode, ProviderRecord, Record, StoreInserts,
        store::{MemoryStore, MemoryStoreConfig, RecordStore},
    },
};

use super::{
    namespace::Namespace,
    record::{Located, RECORD_BYTES_MAX, RecordError, read},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/taskmesh/kad/1.0.0");

/// How many records a node keeps for others: one for each peer of the largest mesh.
const RECORDS_MAX: usize = 1_024;

/// How many members a node names to a peer that asks for all: the answer must fit into one message.
const MEMBERS_MAX: usize = 256;

/// How many keys this node provides: one, and for a moment two when it changes its mesh.
const PROVIDED_MAX: usize = 2;

/// The size of a message: the largest record, or the most members with their addresses.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// How long a record is valid: a peer that is gone is forgotten within hours, but a peer that renews its record too late
/// once or twice is not.
const RECORD_TTL: Duration = Duration::from_secs(2 * 3_600);

/// How long a query may take: it ends before a person who looks for a peer gives up.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);

pub(crate) type Kademlia = Behaviour<MemoryStore>;

/// Makes this peer's part of the table.
pub(crate) fn kademlia(peer_id: PeerId) -> Kademlia {
    let store = MemoryStoreConfig {
        max_records: RECORDS_MAX,
        max_value_bytes: RECORD_BYTES_MAX,
        max_providers_per_key: MEMBERS_MAX,
        max_provided_keys: PROVIDED_MAX,
    };
    let mut config = Config::new(PROTOCOL);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        // A query starts at peers that have proved themselves.
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_record_ttl(Some(RECORD_TTL))
        .set_provider_record_ttl(Some(RECORD_TTL))
        // The node itself signs its record anew.
        .set_publication_interval(None)
        .set_caching(Caching::Disabled)
        .set_max_packet_size(MESSAGE_BYTES_MAX);
    let mut kademlia = Behaviour::with_config(peer_id, MemoryStore::with_config(peer_id, store), config);
    kademlia.set_mode(Some(Mode::Server));
    kademlia
}

/// Keeps a record for a peer, if it is the record of its key and newer than the one that is kept.
pub(crate) fn keep(
    kademlia: &mut Kademlia,
    namespace: &Namespace,
    mut record: Record,
    now: Instant,
) -> Result<(), RecordError> {
    let Located { seq, .. } = read(namespace, &record.key, &record.value)?;
    let store = kademlia.store_mut();
    let held = store.get(&record.key).filter(|held| !held.is_expired(now));
    let held_seq = held.and_then(|held| read(namespace, &held.key, &held.value).ok()).map(|held| held.seq);
    if held_seq.is_some_and(|held_seq| seq <= held_seq) {
        return Err(RecordError::Stale);
    }
    let longest = now + RECORD_TTL;
    record.expires = Some(record.expires.map_or(longest, |expires| expires.min(longest)));
    // The signature proves who made the record. This field only claims it.
    record.publisher = None;
    store.put(record).map_err(|_| RecordError::Size)
}

/// Notes a peer as a member of the mesh, if it names the key of this mesh. Its addresses are left out, because nobody has
/// signed them.
pub(crate) fn keep_member(kademlia: &mut Kademlia, namespace: &Namespace, mut member: ProviderRecord) {
    if member.key == namespace.members_key() {
        member.addresses = Vec::new();
        // When the table is full, the peers farthest from the key are left out, as in every table of this kind.
        drop(kademlia.store_mut().add_provider(member));
    }
}

/// Forgets the records and members of every other name.
pub(crate) fn leave(kademlia: &mut Kademlia, old: &Namespace) {
    let peers = kademlia
        .kbuckets()
        .flat_map(|bucket| bucket.iter().map(|entry| *entry.node.key.preimage()).collect::<Vec<_>>());
    for peer in peers.collect::<Vec<_>>() {
        kademlia.remove_peer(&peer);
    }
    kademlia.stop_providing(&old.members_key());
    let store = kademlia.store_mut();
    let keys: Vec<kad::RecordKey> = store.records().map(|record| record.key.clone()).collect();
    keys.iter().for_each(|key| store.remove(key));
    for member in store.providers(&old.members_key()) {
        store.remove_provider(&member.key, &member.provider);
    }
}

#[cfg(test)]
mod tests {
    use libp2p::{Multiaddr, core::SignedEnvelope};

    use super::*;
    use crate::{Identity, MeshSecret};

    fn namespace() -> Namespace {
        Namespace::of(&MeshSecret::from_bytes([1; 32]))
    }

    /// A record of a peer with the given number, as the library encodes it.
    fn signed(identity: &Identity, seq: u8) -> Record {
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len().try_into().unwrap()], bytes].concat();
        let address = field(0x1a, &field(0x0a, &address.to_vec()));
        let payload = [field(0x0a, &identity.peer_id().to_bytes()), vec![0x10, seq], address].concat();
        let (domain, kind) = ("libp2p-routing-state".to_owned(), b"/libp2p/routing-state-record".to_vec());
        let envelope = SignedEnvelope::new(identity.keypair(), domain, kind, payload).unwrap();
        Record::new(namespace().peer_key(&identity.peer_id()), envelope.into_protobuf_encoding())
    }

    fn table() -> Kademlia {
        kademlia(Identity::generate().unwrap().peer_id())
    }

    #[test]
    fn only_a_newer_record_takes_the_place_of_one() {
        let (mut table, namespace, now) = (table(), namespace(), Instant::now());
        let peer = Identity::generate().unwrap();
        assert_eq!(keep(&mut table, &namespace, signed(&peer, 7), now), Ok(()));
        for stale in [7, 6] {
            assert_eq!(keep(&mut table, &namespace, signed(&peer, stale), now), Err(RecordError::Stale));
        }
        assert_eq!(keep(&mut table, &namespace, signed(&peer, 8), now), Ok(()));
        let held = table.store_mut().get(&namespace.peer_key(&peer.peer_id())).unwrap().into_owned();
        assert_eq!(held.value, signed(&peer, 8).value);
    }

    #[test]
    fn a_record_that_says_it_stands_for_ever_does_not() {
        let (mut table, namespace, now) = (table(), namespace(), Instant::now());
        let peer = Identity::generate().unwrap();
        let record = Record { expires: Some(now + RECORD_TTL * 100), ..signed(&peer, 1) };
        keep(&mut table, &namespace, record, now).unwrap();
        let key = namespace.peer_key(&peer.peer_id());
        assert_eq!(table.store_mut().get(&key).unwrap().expires, Some(now + RECORD_TTL));
        // After the newer record has expired, the older one has expired as well.
        assert_eq!(keep(&mut table, &namespace, signed(&peer, 1), now + RECORD_TTL), Ok(()));
    }

    #[test]
    fn a_record_signed_by_another_or_under_a_strange_key_is_not_kept() {
        let (mut table, namespace, now) = (table(), namespace(), Instant::now());
        let (peer, forger) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let forged = Record { key: namespace.peer_key(&peer.peer_id()), ..signed(&forger, 9) };
        assert_eq!(keep(&mut table, &namespace, forged, now), Err(RecordError::Signer));
        let strange = Record { key: namespace.members_key(), ..signed(&peer, 9) };
        assert_eq!(keep(&mut table, &namespace, strange, now), Err(RecordError::Key));
        let large = Record { value: vec![0; RECORD_BYTES_MAX + 1], ..signed(&peer, 9) };
        assert_eq!(keep(&mut table, &namespace, large, now), Err(RecordError::Size));
        assert_eq!(table.store_mut().records().count(), 0);
    }

    #[test]
    fn members_are_kept_of_this_mesh_only_and_forgotten_with_it() {
        let (mut table, namespace) = (table(), namespace());
        let other = Namespace::of(&MeshSecret::from_bytes([2; 32]));
        let member = |of: &Namespace| ProviderRecord::new(of.members_key(), PeerId::random(), Vec::new());
        keep_member(&mut table, &namespace, member(&namespace));
        keep_member(&mut table, &namespace, member(&other));
        assert_eq!(table.store_mut().providers(&namespace.members_key()).len(), 1);
        assert_eq!(table.store_mut().providers(&other.members_key()), []);
        keep(&mut table, &namespace, signed(&Identity::generate().unwrap(), 1), Instant::now()).unwrap();
        table.add_address(&PeerId::random(), "/ip4/192.0.2.1/tcp/1".parse().unwrap());
        leave(&mut table, &namespace);
        assert_eq!(table.kbuckets().count(), 0);
        assert_eq!(table.store_mut().providers(&namespace.members_key()), []);
        assert_eq!(table.store_mut().records().count(), 0);
    }
}
