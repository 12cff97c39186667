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

/// The message of a search when the table knows no node that could be asked.
const TABLE_EMPTY: &str = "no node of the mesh has been met that could be asked: name one as a bootstrap peer, or join with \
                           a ticket from one";

/// The searches in the hash table, and the time at which this node is published there next.
#[derive(Debug)]
pub(super) struct Lookups {
    /// Whether this node takes part in the hash table.
    is_on: bool,
    publish_at: Option<Instant>,
    published: Option<Instant>,
    /// The search that each query belongs to.
    queries: HashMap<QueryId, u64>,
    searches: BTreeMap<u64, Lookup>,
    last: u64,
}

/// An action on the hash table that the caller is to carry out. The caller passes the query that it makes for a
/// question to [`Lookups::asked`] right after.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TableAction {
    /// Ask who belongs to the mesh.
    AskMembers { search: u64 },
    /// Ask where the peer is.
    AskPeer { search: u64, peer: PeerId },
    /// End the query, because nobody listens to its search any more.
    End(QueryId),
}

/// A search. It is over when its last query is.
#[derive(Debug)]
struct Lookup {
    search: Search,
    /// The peers that it has asked for, each with the number of the newest record that it has passed on.
    peers: HashMap<PeerId, Option<u64>>,
    queries: usize,
}

impl Lookups {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, publish_at: None, published: None, queries: HashMap::new(), searches: BTreeMap::new(), last: 0 }
    }

    /// Begins a search: asks for the record of the one wanted peer, or for all members and then for the record of each.
    /// `is_filled` says whether the table knows a node that could be asked.
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

    /// Notes a query that was made for the search.
    pub(super) fn asked(&mut self, search: u64, query: QueryId) {
        if let Some(lookup) = self.searches.get_mut(&search) {
            lookup.queries += 1;
            self.queries.insert(query, search);
        }
    }

    /// Takes a record that a query has found. Passes it on if the search asked for its peer and has not heard of this
    /// or a newer record of it.
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

    /// Takes members that a query has found. Asks for the record of each for which the search has not asked yet, up to
    /// the bound of [`LOOKUPS_MAX`] peers.
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

    /// Notes that a query is over. The search is over with its last query.
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

/// The times at which this node is published in the table.
impl Lookups {
    pub(super) const fn next_due(&self) -> Option<Instant> {
        self.publish_at
    }

    /// Plans to publish this node soon, because its addresses or the peers that it can tell have changed.
    pub(super) fn publish_soon(&mut self, now: Instant) {
        let soon = now + PUBLISH_AFTER;
        self.publish_by(self.published.map_or(soon, |published| soon.max(published + PUBLISH_PAUSE)));
    }

    /// Plans to publish this node again, because no peer has taken the record. This is for the peers that were there
    /// and did not answer: a new peer is told soon in any case.
    pub(super) fn publish_again(&mut self, now: Instant) {
        self.publish_by(now + PUBLISH_RETRY);
    }

    fn publish_by(&mut self, next: Instant) {
        if self.is_on {
            self.publish_at = Some(self.publish_at.map_or(next, |at| at.min(next)));
        }
    }

    /// Returns whether this node is to be published now. If so, plans the next time.
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
