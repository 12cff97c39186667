//! The loop's part about the mesh as a whole: joining another one, leaving, and what is kept.

use std::io;

use libp2p::swarm::ConnectionId;
use taskqueue_api::{ErrorCode, QueueError};
use tokio::sync::oneshot;

use super::{
    addresses::Source,
    connections::unreachable,
    driver::{NodeLoop, Stopping},
    limits::{DRAIN_DEADLINE, SAVE_AFTER},
};
use crate::Ticket;

impl NodeLoop {
    /// Takes the ticket's secret and peer, after the secret has been kept.
    pub(super) fn join(&mut self, ticket: &Ticket) -> Result<(), QueueError> {
        if *ticket.secret() != self.directory.secret() {
            self.directory.files.save_secret(ticket.secret()).map_err(|error| unsaved(&error))?;
            let old = self.namespace();
            self.directory.set_secret(ticket.secret().clone());
            self.leave_namespace(&old);
            self.leave_old_mesh();
        }
        let now = self.directory.runtime.now();
        let entry = self.peers.entry(ticket.peer_id(), now);
        entry.addresses.learn(Source::Told, ticket.addresses().iter().cloned());
        entry.is_kept = true;
        entry.redial.hasten(now);
        self.save();
        Ok(())
    }

    /// Closes what stands on the old secret; a point that is no node knows of none. Peers that have joined the new mesh are found again at once.
    fn leave_old_mesh(&mut self) {
        self.swarm.behaviour_mut().links.admission.forget_proofs();
        let connections: Vec<(ConnectionId, _)> =
            self.connections.iter().map(|(id, connection)| (*id, connection.peer)).collect();
        for (connection, peer) in connections {
            if self.peers.get(&peer).is_none_or(|entry| entry.plain != Some(connection)) {
                self.give_up(connection, &unreachable(peer, "this node has joined another mesh"));
            }
        }
        let now = self.directory.runtime.now();
        self.peers.hasten_all(now);
    }

    /// Takes no more, tells every peer, and lets what is under way end.
    pub(super) fn on_shutdown(&mut self, reply: oneshot::Sender<()>) {
        if let Some(stopping) = &mut self.stopping {
            stopping.replies.push(reply);
            return;
        }
        let deadline = self.directory.runtime.now() + DRAIN_DEADLINE;
        self.stopping = Some(Stopping { deadline, replies: vec![reply] });
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        for (id, connection) in &self.connections {
            match &connection.session {
                Some(session) => session.drain(),
                None => drop(self.swarm.close_connection(*id)),
            }
        }
    }

    pub(super) fn peers_changed(&mut self) {
        if self.service.is_some() && self.save_at.is_none() {
            self.save_at = Some(self.directory.runtime.now() + SAVE_AFTER);
        }
    }

    pub(super) fn save_due(&mut self) {
        if self.save_at.is_some_and(|at| at <= self.directory.runtime.now()) {
            self.save();
        }
    }

    pub(super) fn save(&mut self) {
        self.save_at = None;
        if let Err(error) = self.directory.files.save_peers(&self.peers.known()) {
            tracing::warn!(%error, "failed to save the peers");
        }
    }
}

fn unsaved(error: &io::Error) -> QueueError {
    QueueError::new(ErrorCode::StorageError, format!("the mesh was not joined, its secret could not be kept: {error}"))
}
