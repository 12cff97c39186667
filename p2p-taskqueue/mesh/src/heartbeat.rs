//! The signs of life that programs send with `peer.heartbeat`, and the vector clock that they share.
//!
//! They are only shown to the programs; no lease and no claim depends on them. Each node has one table, in memory. The
//! time is passed in as an argument.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use taskqueue_api::{Heard, HeardPeer, Heartbeat, Json, QueueError, Scheduler, VectorClock, limits::NAME_BYTES_MAX};

use crate::node::Moment;

/// The programs that sent a sign of life lately, and the vector clock of this node.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    node_id: String,
    /// The moment of the last sign of life of each program.
    peers: HashMap<String, Moment>,
    clock: BTreeMap<String, Count>,
}

/// An entry of the clock.
#[derive(Debug, Clone, Copy)]
struct Count {
    count: u64,
    grown: Instant,
}

/// The part of a heartbeat's clock that is read.
#[derive(Debug, Default, Deserialize)]
struct GivenClock {
    #[serde(default)]
    vector: BTreeMap<String, u64>,
}

impl Heartbeats {
    /// Makes an empty table. Its clock has one entry, this node's.
    pub(crate) fn new(node_id: impl Into<String>, now: Instant) -> Self {
        let node_id = node_id.into();
        let clock = BTreeMap::from([(node_id.clone(), Count { count: 0, grown: now })]);
        Self { node_id, peers: HashMap::new(), clock }
    }

    /// Records a sign of life. Returns this node's clock and the programs that sent a sign of life lately.
    ///
    /// # Errors
    ///
    /// Fails with `invalid_argument` or `limit_exceeded` when the heartbeat's clock is not valid. Nothing is changed
    /// then.
    pub(crate) fn hear(&mut self, heartbeat: &Heartbeat, now: Moment) -> Result<Heard, QueueError> {
        let given = heartbeat.clock.as_ref().map_or_else(|| Ok(GivenClock::default()), read_clock)?;
        for (node, count) in given.vector {
            self.merge(node, count, now.instant);
        }
        self.tick(now.instant);
        self.note(&heartbeat.peer_id, now);
        Ok(Heard { scheduler: self.scheduler() })
    }

    /// Takes over the count of a node if it is higher than the known one.
    ///
    /// When the clock is full, the entry that has not grown for the longest time is removed. Some programs take a new
    /// name at each start, and their old names would fill the clock for good.
    fn merge(&mut self, node: String, count: u64, now: Instant) {
        match self.clock.get_mut(&node) {
            Some(known) if known.count >= count => return,
            Some(known) => {
                *known = Count { count, grown: now };
                return;
            }
            None => {}
        }
        if self.clock.len() >= CLOCK_ENTRIES_MAX {
            let others = self.clock.iter().filter(|(node, _)| **node != self.node_id);
            if let Some(oldest) = others.min_by_key(|(_, entry)| entry.grown).map(|(node, _)| node.clone()) {
                self.clock.remove(&oldest);
            }
        }
        self.clock.insert(node, Count { count, grown: now });
    }

    fn tick(&mut self, now: Instant) {
        if let Some(own) = self.clock.get_mut(&self.node_id) {
            *own = Count { count: own.count.saturating_add(1), grown: now };
        }
    }

    fn note(&mut self, peer: &str, now: Moment) {
        self.peers.retain(|_, heard| now.instant.saturating_duration_since(heard.instant) < FORGOTTEN_AFTER);
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(peer) {
            let oldest = self.peers.iter().min_by_key(|(_, heard)| heard.instant).map(|(name, _)| name.clone());
            oldest.map(|name| self.peers.remove(&name));
        }
        self.peers.insert(peer.to_owned(), now);
    }

    fn scheduler(&self) -> Scheduler {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_key(|(name, heard)| (Reverse(heard.instant), *name));
        let known = |(name, heard): (&String, &Moment)| HeardPeer { peer_id: name.clone(), last_seen: heard.unix_s };
        let vector: BTreeMap<_, _> = self.clock.iter().map(|(node, entry)| (node.clone(), entry.count)).collect();
        let merkle_root = merkle_root(&vector);
        let clock = VectorClock { node_id: self.node_id.clone(), vector, merkle_root };
        Scheduler { clock, known_peers: peers.into_iter().map(known).collect() }
    }
}

fn read_clock(clock: &Json) -> Result<GivenClock, QueueError> {
    // Otherwise a list would be read as the values of the fields in order.
    if !clock.get().starts_with('{') {
        return Err(QueueError::invalid("clock", format_args!("must be {CLOCK_FORM}")));
    }
    let given: GivenClock =
        clock.to().map_err(|error| QueueError::invalid("clock", format_args!("must be {CLOCK_FORM}: {error}")))?;
    if given.vector.len() > CLOCK_ENTRIES_MAX {
        return Err(QueueError::over_limit("clock", given.vector.len(), CLOCK_ENTRIES_MAX, "entries"));
    }
    if let Some(node) = given.vector.keys().find(|node| node.len() > NAME_BYTES_MAX) {
        return Err(QueueError::over_limit("clock", node.len(), NAME_BYTES_MAX, "bytes of a node's name"));
    }
    match given.vector.values().find(|count| **count > COUNT_MAX) {
        Some(count) => Err(QueueError::invalid("clock", format_args!("{count} is more than {COUNT_MAX}"))),
        None => Ok(given),
    }
}

/// Returns the SHA-256 of the sorted `[node, count]` pairs as JSON, in hexadecimal.
///
/// The JSON text has a space after each comma and only ASCII characters, because other programs compare their hash with
/// this one.
fn merkle_root(vector: &BTreeMap<String, u64>) -> String {
    let pairs: Vec<_> = vector.iter().map(|(node, count)| format!("[{}, {count}]", ascii_json(node))).collect();
    let digest = Sha256::digest(format!("[{}]", pairs.join(", ")));
    data_encoding::HEXLOWER.encode(&digest)
}

/// Writes a text as a JSON string, in which every character that is not printable ASCII is escaped.
fn ascii_json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            ascii.push(c);
        } else {
            ascii.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    ascii
}

const CLOCK_FORM: &str = "{\"vector\":{NODE:COUNT}}";

/// The most peers in the table. At a few hundred bytes each, an answer with all of them is far shorter than the longest
/// frame.
const PEERS_MAX: usize = 4_096;

/// The time after which a peer without a sign of life is removed. A peer that is alive sends several in this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// The most entries of the clock: about as many as fit into the 64 KiB that a heartbeat may carry.
const CLOCK_ENTRIES_MAX: usize = 1_024;

/// The highest count that every JSON parser reads exactly.
const COUNT_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use taskqueue_api::ErrorCode;

    use super::*;

    fn table() -> (Heartbeats, Moment) {
        let now = Moment { instant: Instant::now(), unix_s: 1_000.0 };
        (Heartbeats::new("me", now.instant), now)
    }

    fn later(now: Moment, seconds: u16) -> Moment {
        let instant = now.instant + Duration::from_secs(u64::from(seconds));
        Moment { instant, unix_s: now.unix_s + f64::from(seconds) }
    }

    fn beat(peer: &str, vector: &[(&str, u64)]) -> Heartbeat {
        let vector: BTreeMap<_, _> = vector.iter().copied().collect();
        let clock = Json::from_value(&serde_json::json!({ "node_id": peer, "vector": vector })).unwrap();
        Heartbeat { peer_id: peer.to_owned(), clock: Some(clock) }
    }

    fn names(heard: &Heard) -> Vec<&str> {
        heard.scheduler.known_peers.iter().map(|peer| peer.peer_id.as_str()).collect()
    }

    #[test]
    fn higher_counts_are_taken_over_and_the_own_entry_ticks() {
        let (mut table, now) = table();
        table.hear(&beat("a", &[("a", 3), ("b", 7)]), now).unwrap();
        let heard = table.hear(&beat("b", &[("a", 5), ("b", 2)]), now).unwrap();
        let clock = heard.scheduler.clock;
        let expected = [("a", 5), ("b", 7), ("me", 2)].map(|(node, count)| (node.to_owned(), count));
        assert_eq!((clock.node_id.as_str(), clock.vector), ("me", BTreeMap::from(expected)));
        assert_eq!(clock.merkle_root.len(), 64);
    }

    #[test]
    fn the_root_is_that_of_known_vectors() {
        let root = merkle_root(&BTreeMap::from([("taskqueue-service".to_owned(), 0)]));
        assert_eq!(root, "d83964234cb3f7451644cb8dfbd8a97cb70571490208c3ffcb5b346c43c380fa");
        let root = merkle_root(&BTreeMap::from([("a".to_owned(), 1), ("é".to_owned(), 2)]));
        assert_eq!(
            root, "d6a93268283c102bb4b05f7bbab763e306a8fd07482348a2252dae1f111d9ca8",
            r#"of [["a", 1], ["\u00e9", 2]]"#
        );
        assert_eq!(ascii_json("a\"\u{7f}é\u{1f600}\n"), r#""a\"\u007f\u00e9\ud83d\ude00\n""#);
    }

    #[test]
    fn the_last_heard_of_come_first_and_the_silent_are_forgotten() {
        let (mut table, now) = table();
        table.hear(&beat("a", &[]), now).unwrap();
        table.hear(&beat("b", &[]), later(now, 10)).unwrap();
        let heard = table.hear(&beat("c", &[]), later(now, 299)).unwrap();
        assert_eq!(names(&heard), ["c", "b", "a"]);
        assert_eq!(heard.scheduler.known_peers.last().unwrap().last_seen, now.unix_s);
        let heard = table.hear(&Heartbeat { peer_id: "c".to_owned(), clock: None }, later(now, 300)).unwrap();
        assert_eq!(names(&heard), ["c", "b"]);
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut table, now) = table();
        for index in 0..=PEERS_MAX {
            let name = format!("peer-{index}");
            let at = Moment { instant: now.instant + Duration::from_millis(index as u64), ..now };
            table.merge(name.clone(), 1, at.instant);
            table.note(&name, at);
        }
        let heard = table.hear(&beat("peer-9", &[]), now).unwrap();
        assert_eq!(heard.scheduler.known_peers.len(), PEERS_MAX);
        assert!(!names(&heard).contains(&"peer-0"), "the one that was silent for longest goes");
        let vector = &heard.scheduler.clock.vector;
        assert_eq!(vector.len(), CLOCK_ENTRIES_MAX);
        assert!(vector.contains_key("me") && vector.contains_key(&format!("peer-{PEERS_MAX}")));
        assert!(!vector.contains_key("peer-0"));
    }

    #[test]
    fn a_clock_that_is_none_is_refused_and_changes_nothing() {
        let (mut table, now) = table();
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let many: BTreeMap<_, _> = (0..=CLOCK_ENTRIES_MAX).map(|index| (index.to_string(), 1)).collect();
        for (clock, code) in [
            (serde_json::json!([1]), ErrorCode::InvalidArgument),
            (serde_json::json!({ "vector": { "a": -1 } }), ErrorCode::InvalidArgument),
            (serde_json::json!({ "vector": { "a": u64::MAX } }), ErrorCode::InvalidArgument),
            (serde_json::json!({ "vector": { long: 1 } }), ErrorCode::LimitExceeded),
            (serde_json::json!({ "vector": many }), ErrorCode::LimitExceeded),
        ] {
            let heartbeat = Heartbeat { peer_id: "a".to_owned(), clock: Some(Json::from_value(&clock).unwrap()) };
            let error = table.hear(&heartbeat, now).unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (code, Some("clock")), "{error}");
        }
        let heard = table.hear(&beat("b", &[]), now).unwrap();
        assert_eq!((names(&heard), &heard.scheduler.clock.vector["me"]), (vec!["b"], &1));
    }
}
