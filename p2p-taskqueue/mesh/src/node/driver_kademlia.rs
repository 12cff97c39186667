//! The loop's part about the hash table: keeping the records of others, asking for records, and publishing this node's
//! own.

use std::time::Instant;

use libp2p::kad::{Event, GetProvidersOk, GetRecordOk, InboundRequest, QueryId, QueryResult, Quorum, Record};

use super::{super::finding_kademlia::TableAction, NodeLoop};
use crate::discovery::{
    kademlia::{keep, keep_member},
    record::sign,
};

impl NodeLoop {
    pub(super) fn is_table_filled(&mut self) -> bool {
        self.swarm.behaviour_mut().table().is_some_and(|table| table.kbuckets().next().is_some())
    }

    pub(super) fn on_kademlia(&mut self, event: Event) {
        match event {
            Event::InboundRequest { request: InboundRequest::PutRecord { source, record: Some(record), .. } } => {
                let (namespace, now) = (self.namespace(), Instant::now());
                let Some(table) = self.swarm.behaviour_mut().table() else { return };
                if let Err(error) = keep(table, &namespace, record, now) {
                    tracing::debug!(%source, %error, "did not keep a record");
                }
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
                    self.lookups.ended(id);
                }
            }
            _ => {}
        }
    }

    fn on_progress(&mut self, query: QueryId, result: QueryResult) {
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                let namespace = self.namespace();
                self.lookups.record(query, &found.record, &namespace);
            }
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers: mut members, .. })) => {
                members.remove(&self.directory.peer_id);
                let actions = self.lookups.members(query, members);
                self.do_in_table(actions);
            }
            QueryResult::PutRecord(Err(error)) => {
                tracing::debug!(%error, "nobody keeps this node's record");
                self.lookups.publish_again(self.now());
            }
            _ => {}
        }
    }

    pub(super) fn do_in_table(&mut self, actions: Vec<TableAction>) {
        let namespace = self.namespace();
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        for action in actions {
            match action {
                TableAction::AskMembers { search } => {
                    self.lookups.asked(search, table.get_providers(namespace.members_key()));
                }
                TableAction::AskPeer { search, peer } => {
                    self.lookups.asked(search, table.get_record(namespace.peer_key(&peer)));
                }
                TableAction::End(query) => {
                    if let Some(mut query) = table.query_mut(&query) {
                        query.finish();
                    }
                }
            }
        }
    }

    /// Publishes where this node is, and that it is a member of the mesh.
    pub(super) fn publish(&mut self) {
        let (namespace, own) = (self.namespace(), self.directory.peer_id);
        let addresses: Vec<_> = self.swarm.external_addresses().cloned().collect();
        let Some(value) = sign(&self.identity, &addresses) else { return };
        let Some(table) = self.swarm.behaviour_mut().table() else { return };
        let record = Record::new(namespace.peer_key(&own), value);
        if let Err(error) = table.put_record(record, Quorum::One) {
            tracing::warn!(%error, "failed to tell the hash table where this node is");
        }
        if let Err(error) = table.start_providing(namespace.members_key()) {
            tracing::warn!(%error, "failed to tell the hash table that this node is there");
        }
    }
}
