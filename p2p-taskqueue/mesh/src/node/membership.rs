//! The loop's part about membership: joining another mesh, shutting down, and saving the peers.

use std::io;

use taskqueue_api::{ErrorCode, QueueError};
use tokio::sync::oneshot;

use super::{
    super::{RememberedPeer, connections::unreachable},
    NodeLoop,
};
use crate::Ticket;

impl NodeLoop {
    /// Takes the ticket's secret and peer. The secret is saved before it is used.
    pub(super) fn join(&mut self, ticket: &Ticket) -> Result<(), QueueError> {
        if *ticket.secret() != self.directory.secret() {
            self.directory.files.save_secret(ticket.secret()).map_err(|error| unsaved(&error))?;
            let old = self.namespace();
            self.directory.set_secret(ticket.secret().clone());
            self.leave_namespace(&old);
            self.leave_old_mesh();
        }
        self.peers.join(ticket.peer_id(), ticket.addresses(), self.now());
        self.save_due();
        Ok(())
    }

    /// Closes the connections that rest on the old secret. Connections to rendezvous points that are not nodes stay,
    /// because no secret was proved over them. Every peer is dialled again at once, because it may have joined the new
    /// mesh too.
    fn leave_old_mesh(&mut self) {
        self.swarm.behaviour_mut().links.admission.forget_proofs();
        for (connection, peer) in self.connections.all() {
            if !self.peers.is_plain(&peer, connection) {
                self.give_up(peer, connection, &unreachable(peer, "this node has joined another mesh"));
            }
        }
        self.peers.hasten_all(self.now());
    }

    /// Begins the shutdown: stops listening, tells every peer, and lets requests under way end.
    pub(super) fn on_shutdown(&mut self, reply: oneshot::Sender<()>) {
        if !self.ending.begin(reply, self.now()) {
            return;
        }
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        for connection in self.connections.drain() {
            self.swarm.close_connection(connection);
        }
    }

    /// Saves the peers if that is due.
    pub(super) fn save_due(&mut self) {
        let due = self.peers.take_due_to_save(self.now());
        due.into_iter().for_each(|peers| self.save(&peers));
    }

    /// Saves the peers if there is an unsaved change, even before it is due.
    pub(super) fn save_unsaved(&mut self) {
        let unsaved = self.peers.take_unsaved();
        unsaved.into_iter().for_each(|peers| self.save(&peers));
    }

    fn save(&self, peers: &[RememberedPeer]) {
        if let Err(error) = self.directory.files.save_peers(peers) {
            tracing::warn!(%error, "failed to save the peers");
        }
    }
}

fn unsaved(error: &io::Error) -> QueueError {
    QueueError::new(ErrorCode::StorageError, format!("the mesh was not joined, its secret could not be kept: {error}"))
}
