//! The hash table: telling it where this node is, and asking it for others.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{QueryId, Record},
};

use super::{
    finding::TOO_MANY_SEARCHES,
    limits::{LOOKUPS_MAX, PUBLISH_AFTER, PUBLISH_EVERY, PUBLISH_PAUSE, PUBLISH_RETRY, SEARCHES_MAX},
};
use crate::discovery::{Namespace, Search, record::read};

/// What is said of a search that nobody can be asked for.
const TABLE_EMPTY: &str = "no node of the mesh has been met that could be asked: name one as a bootstrap peer, or join with \
                           a ticket from one";

/// What is asked of the table, and when it is told again where this node is.
#[derive(Debug)]
pub(super) struct Lookups {
    /// Whether this node is a part of a table.
    is_on: bool,
    publish_at: Option<Instant>,
    published: Option<Instant>,
    /// Which search a query belongs to.
    queries: HashMap<QueryId, u64>,
    searches: BTreeMap<u64, Lookup>,
    last: u64,
}

/// What is to be asked of the table, or no longer. Which query came of it is [said](Lookups::asked) right after.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TableAction {
    /// Ask who belongs to the mesh.
    AskMembers { search: u64 },
    /// Ask where the peer is.
    AskPeer { search: u64, peer: PeerId },
    /// Nobody listens to the query any more.
    End(QueryId),
}

/// A search. It is over when its last query is.
#[derive(Debug)]
struct Lookup {
    search: Search,
    /// The peers that it has asked for, and the newest record that it has told of each.
    peers: HashMap<PeerId, Option<u64>>,
    queries: usize,
}

impl Lookups {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, publish_at: None, published: None, queries: HashMap::new(), searches: BTreeMap::new(), last: 0 }
    }

    /// Asks for the record of the one peer, or for all members and then for the record of each. `is_filled` says whether the
    /// table knows of anybody who could be asked.
    pub(super) fn search(&mut self, search: Search, is_filled: bool) -> Vec<TableAction> {
        let mut actions = self.drop_unheard();
        if self.searches.len() >= SEARCHES_MAX {
            search.fail(TOO_MANY_SEARCHES);
        } else if !is_filled {
            search.fail(TABLE_EMPTY);
        } else {
            self.last += 1;
            let wanted = search.wanted();
            let peers = wanted.into_iter().map(|peer| (peer, None)).collect();
            self.searches.insert(self.last, Lookup { search, peers, queries: 0 });
            actions.push(match wanted {
                Some(peer) => TableAction::AskPeer { search: self.last, peer },
                None => TableAction::AskMembers { search: self.last },
            });
        }
        actions
    }

    /// The query was made for the search.
    pub(super) fn asked(&mut self, search: u64, query: QueryId) {
        if let Some(lookup) = self.searches.get_mut(&search) {
            lookup.queries += 1;
            self.queries.insert(query, search);
        }
    }

    /// A query has come up with a record.
    pub(super) fn record(&mut self, query: QueryId, record: &Record, namespace: &Namespace) {
        let search = self.queries.get(&query);
        let Some(lookup) = search.and_then(|search| self.searches.get_mut(search)) else { return };
        match read(namespace, &record.key, &record.value) {
            Ok(located) => {
                let Some(told) = lookup.peers.get_mut(&located.peer) else { return };
                if told.is_none_or(|told| told < located.seq) {
                    *told = Some(located.seq);
                    lookup.search.tell(located.peer, &located.addresses);
                }
            }
            Err(error) => tracing::debug!(%error, "found a record that cannot be trusted"),
        }
    }

    /// A query has come up with members: those that its search has yet to ask for are asked for, as far as it may.
    pub(super) fn members(&mut self, query: QueryId, members: HashSet<PeerId>) -> Vec<TableAction> {
        let Some(search) = self.queries.get(&query).copied() else { return Vec::new() };
        let Some(lookup) = self.searches.get_mut(&search) else { return Vec::new() };
        let mut actions = Vec::new();
        for peer in members {
            if lookup.peers.len() < LOOKUPS_MAX && !lookup.peers.contains_key(&peer) {
                lookup.peers.insert(peer, None);
                actions.push(TableAction::AskPeer { search, peer });
            }
        }
        actions
    }

    /// A query is over; the search is too when it was its last.
    pub(super) fn ended(&mut self, query: QueryId) {
        let Some(search) = self.queries.remove(&query) else { return };
        let Some(lookup) = self.searches.get_mut(&search) else { return };
        lookup.queries -= 1;
        if lookup.queries == 0 {
            self.searches.remove(&search);
        }
    }

    /// Forgets the searches that nobody listens to, and ends their queries.
    fn drop_unheard(&mut self) -> Vec<TableAction> {
        self.searches.retain(|_, lookup| !lookup.search.is_over());
        let theirs = self.queries.extract_if(|_, search| !self.searches.contains_key(search));
        theirs.map(|(query, _)| TableAction::End(query)).collect()
    }
}

/// When the table is told where this node is.
impl Lookups {
    pub(super) const fn next_due(&self) -> Option<Instant> {
        self.publish_at
    }

    /// Where this node is, or whom it can tell, has changed.
    pub(super) fn publish_soon(&mut self, now: Instant) {
        let soon = now + PUBLISH_AFTER;
        self.publish_by(self.published.map_or(soon, |published| soon.max(published + PUBLISH_PAUSE)));
    }

    /// Nobody has taken what was published. A new peer is told at once; this is for those that were there and did not answer.
    pub(super) fn publish_again(&mut self, now: Instant) {
        self.publish_by(now + PUBLISH_RETRY);
    }

    fn publish_by(&mut self, next: Instant) {
        if self.is_on {
            self.publish_at = Some(self.publish_at.map_or(next, |at| at.min(next)));
        }
    }

    /// Whether the table is to be told now; if so, the next time is set.
    pub(super) fn take_due_to_publish(&mut self, now: Instant) -> bool {
        let is_due = self.publish_at.is_some_and(|at| at <= now);
        if is_due {
            self.publish_at = Some(now + PUBLISH_EVERY);
            self.published = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
#[path = "finding_kademlia_tests.rs"]
mod tests;
