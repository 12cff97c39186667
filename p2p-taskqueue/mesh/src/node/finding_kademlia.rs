//! The loop's part about the hash table: telling it where this node is, and asking it for others.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{Event, GetProvidersOk, GetRecordOk, InboundRequest, QueryId, QueryResult, Quorum, Record},
};

use super::{
    driver::NodeLoop,
    finding::TOO_MANY_SEARCHES,
    limits::{LOOKUPS_MAX, PUBLISH_AFTER, PUBLISH_EVERY, PUBLISH_PAUSE, PUBLISH_RETRY, SEARCHES_MAX},
};
use crate::discovery::{
    Namespace, Search,
    kademlia::{keep, keep_member, leave},
    record::{read, sign},
};

/// What is said of a search that nobody can be asked for.
const TABLE_EMPTY: &str = "no node of the mesh has been met that could be asked: name one as a bootstrap peer, or join with \
                           a ticket from one";

/// What is asked of the table, and when it is told again where this node is.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    publish_at: Option<Instant>,
    published: Option<Instant>,
    /// Which search a query belongs to.
    queries: HashMap<QueryId, u64>,
    searches: BTreeMap<u64, Lookup>,
    last: u64,
}

/// A search. It is over when its last query is.
#[derive(Debug)]
struct Lookup {
    search: Search,
    /// The peers that it has asked for, and the newest record that it has told of each.
    peers: HashMap<PeerId, Option<u64>>,
    queries: usize,
}

impl NodeLoop {
    /// Asks for the record of the one peer, or for all members and then for the record of each.
    pub(super) fn search_table(&mut self, search: Search) {
        let namespace = self.namespace();
        self.drop_unheard();
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        if self.finding.lookups.searches.len() >= SEARCHES_MAX {
            return search.fail(TOO_MANY_SEARCHES);
        }
        if table.kbuckets().next().is_none() {
            return search.fail(TABLE_EMPTY);
        }
        let wanted = search.wanted();
        let query = match &wanted {
            Some(peer) => table.get_record(namespace.peer_key(peer)),
            None => table.get_providers(namespace.members_key()),
        };
        self.finding.lookups.open(search, query, wanted);
    }

    pub(super) fn is_table_filled(&mut self) -> bool {
        self.swarm.behaviour_mut().table().is_some_and(|table| table.kbuckets().next().is_some())
    }

    /// Ends the queries of searches that nobody listens to any more.
    fn drop_unheard(&mut self) {
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        for query in self.finding.lookups.drop_unheard() {
            if let Some(mut query) = table.query_mut(&query) {
                query.finish();
            }
        }
    }

    pub(super) fn on_kademlia(&mut self, event: Event) {
        match event {
            Event::InboundRequest { request: InboundRequest::PutRecord { source, record: Some(record), .. } } => {
                self.on_put(source, record);
            }
            Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(member) } } => {
                let namespace = self.namespace();
                if let Some(table) = self.swarm.behaviour_mut().table() {
                    keep_member(table, &namespace, member);
                }
            }
            Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.on_progress(id, result);
                if step.last {
                    self.finding.lookups.ended(id);
                }
            }
            _ => {}
        }
    }

    fn on_put(&mut self, source: PeerId, record: Record) {
        let (namespace, now) = (self.namespace(), Instant::now());
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        if let Err(error) = keep(table, &namespace, record, now) {
            tracing::debug!(%source, %error, "did not keep a record");
        }
    }

    fn on_progress(&mut self, id: QueryId, result: QueryResult) {
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => self.on_record(id, &found.record),
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                self.on_members(id, providers);
            }
            QueryResult::PutRecord(Err(error)) => {
                tracing::debug!(%error, "nobody keeps this node's record");
                self.finding.lookups.publish_again(self.directory.runtime.now());
            }
            _ => {}
        }
    }

    fn on_record(&mut self, id: QueryId, record: &Record) {
        let namespace = self.namespace();
        let Some(lookup) = self.finding.lookups.of(id) else { return };
        match read(&namespace, &record.key, &record.value) {
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

    fn on_members(&mut self, id: QueryId, members: HashSet<PeerId>) {
        let (namespace, own) = (self.namespace(), self.directory.peer_id);
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        for member in members.into_iter().filter(|member| *member != own) {
            if self.finding.lookups.is_new(id, member) {
                let query = table.get_record(namespace.peer_key(&member));
                self.finding.lookups.also(id, query);
            }
        }
    }

    /// A peer has proved itself: it may be asked, and keeps a part of the table.
    pub(super) fn route_to(&mut self, peer: PeerId, now: Instant) {
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        for address in self.peers.addresses(&peer) {
            table.add_address(&peer, address);
        }
        self.publish_soon(now);
    }

    pub(super) fn publish_soon(&mut self, now: Instant) {
        if self.swarm.behaviour().kademlia.is_enabled() {
            self.finding.lookups.publish_soon(now);
        }
    }

    pub(super) fn publish_due(&mut self, now: Instant) {
        if self.finding.lookups.publish_at.is_some_and(|at| at <= now) {
            self.finding.lookups.publish_at = Some(now + PUBLISH_EVERY);
            self.finding.lookups.published = Some(now);
            self.publish();
        }
    }

    fn publish(&mut self) {
        let (namespace, own) = (self.namespace(), self.directory.peer_id);
        let addresses: Vec<_> = self.swarm.external_addresses().cloned().collect();
        let Some(value) = sign(&self.finding.identity, &addresses) else { return };
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        let record = Record::new(namespace.peer_key(&own), value);
        if let Err(error) = table.put_record(record, Quorum::One) {
            tracing::warn!(%error, "failed to tell the hash table where this node is");
        }
        if let Err(error) = table.start_providing(namespace.members_key()) {
            tracing::warn!(%error, "failed to tell the hash table that this node is there");
        }
    }

    pub(super) fn leave_table(&mut self, old: &Namespace) {
        let now = self.directory.runtime.now();
        if let Some(table) = self.swarm.behaviour_mut().table() {
            leave(table, old);
            self.finding.lookups.publish_soon(now);
        }
    }
}

impl Lookups {
    pub(super) const fn next_due(&self) -> Option<Instant> {
        self.publish_at
    }

    fn publish_soon(&mut self, now: Instant) {
        let soon = now + PUBLISH_AFTER;
        let next = self.published.map_or(soon, |published| soon.max(published + PUBLISH_PAUSE));
        self.publish_at = Some(self.publish_at.map_or(next, |at| at.min(next)));
    }

    /// Nobody has taken what was published. A new peer is told at once; this is for those that were there and did not answer.
    fn publish_again(&mut self, now: Instant) {
        let next = now + PUBLISH_RETRY;
        self.publish_at = Some(self.publish_at.map_or(next, |at| at.min(next)));
    }

    fn open(&mut self, search: Search, query: QueryId, wanted: Option<PeerId>) {
        self.last += 1;
        let peers = wanted.into_iter().map(|peer| (peer, None)).collect();
        self.searches.insert(self.last, Lookup { search, peers, queries: 1 });
        self.queries.insert(query, self.last);
    }

    fn of(&mut self, query: QueryId) -> Option<&mut Lookup> {
        self.searches.get_mut(self.queries.get(&query)?)
    }

    /// Whether the search of this query has yet to ask for the peer, and may.
    fn is_new(&mut self, query: QueryId, peer: PeerId) -> bool {
        let Some(lookup) = self.of(query) else { return false };
        let is_new = lookup.peers.len() < LOOKUPS_MAX && !lookup.peers.contains_key(&peer);
        if is_new {
            lookup.peers.insert(peer, None);
        }
        is_new
    }

    /// Another query for the search of this one.
    fn also(&mut self, query: QueryId, other: QueryId) {
        if let Some(search) = self.queries.get(&query).copied() {
            self.queries.insert(other, search);
            self.searches.entry(search).and_modify(|lookup| lookup.queries += 1);
        }
    }

    /// A query is over; the search is too when it was its last.
    fn ended(&mut self, query: QueryId) {
        let Some(search) = self.queries.remove(&query) else { return };
        let Some(lookup) = self.searches.get_mut(&search) else { return };
        lookup.queries -= 1;
        if lookup.queries == 0 {
            self.searches.remove(&search);
        }
    }

    /// Forgets the searches that nobody listens to, and says which queries were theirs.
    fn drop_unheard(&mut self) -> Vec<QueryId> {
        self.searches.retain(|_, lookup| !lookup.search.is_over());
        let theirs = self.queries.extract_if(|_, search| !self.searches.contains_key(search));
        theirs.map(|(query, _)| query).collect()
    }
}
