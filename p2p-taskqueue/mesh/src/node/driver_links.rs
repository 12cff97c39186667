//! The loop's part about connections: from the open stream to the end of the session.

use std::sync::Arc;

use libp2p::{PeerId, core::ConnectedPoint, swarm::ConnectionId};
use taskqueue_api::{QueueError, TransportStatus};

use super::{
    super::{
        Moment,
        connections::{OTHER_PROTOCOL, Way, unreachable},
        link::{Link, News, Proof, Report},
        links::Opened,
        redial::chance,
    },
    NodeLoop,
};
use crate::{members::Standing, wire::Ours};

impl NodeLoop {
    pub(super) fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.connections.established(connection, peer, Way::of(endpoint), self.now());
        if self.ending.has_begun() {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_opened(&mut self, opened: Opened) {
        let Opened { peer, connection, role, stream } = opened;
        let Some(stream) = stream else {
            if self.swarm.behaviour().keep.has(&peer) {
                let now = Moment::now(&*self.directory.runtime);
                self.peers.stands_plain(peer, connection, now);
                self.points.connected(&peer, now.instant);
            } else {
                self.refusals.count("other_protocol");
                self.give_up(peer, connection, &unreachable(peer, OTHER_PROTOCOL));
            }
            return;
        };
        if let Some((entering, _)) = self.entering.as_ref().filter(|(entering, _)| entering.ticket.peer_id() != peer) {
            // It is a relay on the way to the machine that invites. It closes a connection whose stream is closed.
            tracing::debug!(%peer, inviter = %entering.ticket.peer_id(), "a relay is on the way");
            self.held.push(stream);
            return;
        }
        let link = Link {
            connection,
            peer,
            role,
            stream,
            ours: self.ours(),
            queue: self.service.clone(),
            entering: self.entering.as_ref().map(|(entering, _)| entering.clone()),
            reports: self.reports_tx.clone(),
        };
        self.connections.opened(connection, link.start(&self.directory.runtime));
    }

    /// Returns what a handshake says about this node.
    fn ours(&self) -> Ours {
        Ours {
            membership: Arc::clone(&self.directory.membership),
            serves: self.service.is_some(),
            instance: self.instance.clone(),
            addresses: self.own_addresses(),
        }
    }

    pub(super) fn on_report(&mut self, report: Report) {
        let Report { connection, peer, news } = report;
        match news {
            News::Proven(proof) => self.on_proven(peer, connection, *proof),
            News::Newcomer => {
                tracing::info!(%peer, "a machine has become a member by a ticket");
                self.give_up(peer, connection, &unreachable(peer, "it comes in by another connection"));
            }
            News::Welcomed(welcome) => {
                if let Some((_, reply)) = self.entering.take() {
                    // The caller may have gone.
                    let _gone = reply.send(*welcome);
                }
                self.give_up(peer, connection, &unreachable(peer, "this machine is a member now"));
            }
            News::Refused(error) => {
                tracing::debug!(%peer, %error, "a handshake failed");
                self.refusals.count_handshake(&error);
                self.give_up(peer, connection, &error.to_queue_error(&peer.to_string()));
            }
            News::Ended(end) => {
                tracing::debug!(%peer, %end, "a session ended");
                self.give_up(peer, connection, &unreachable(peer, end));
            }
        }
    }

    fn on_proven(&mut self, peer: PeerId, connection: ConnectionId, proof: Proof) {
        // The peer may have been taken out of the mesh since its handshake.
        let is_so = self.directory.membership.standing(&peer) == Standing::Member(Arc::clone(&proof.grants));
        if !is_so {
            return self.give_up(peer, connection, &unreachable(peer, "its role in the mesh has changed"));
        }
        // The connection is gone, or was given up because this node has joined another mesh.
        let grants = Arc::clone(&proof.grants);
        let Some(way) = self.connections.proven(connection, proof.session.clone(), grants) else { return };
        if proof.serves && proof.heard != *self.members_changes.borrow() {
            self.tell_late(peer, proof.session.clone());
        }
        self.swarm.behaviour_mut().proven(peer, connection);
        if self.ending.has_begun() {
            proof.session.drain();
        }
        if proof.serves {
            self.peers.proven(peer, connection, way, proof, Moment::now(&*self.directory.runtime));
            self.sessions_changed(peer);
            self.can_be_asked(peer);
            self.save_due();
        }
    }

    /// Closes the incoming connections that have not begun the handshake in time.
    pub(super) fn close_silent_due(&mut self) {
        if self.ending.has_begun() {
            return;
        }
        for connection in self.connections.take_silent(self.now()) {
            self.refusals.count("silent");
            self.swarm.close_connection(connection);
        }
    }

    /// Ends the link and the session of the connection, and closes it.
    pub(super) fn give_up(&mut self, peer: PeerId, connection: ConnectionId, failure: &QueueError) {
        let is_to_close = self.connections.give_up(connection);
        self.lost(peer, connection, failure);
        if is_to_close {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, cause: &str) {
        if self.connections.closed(connection) {
            self.lost(peer, connection, &unreachable(peer, cause));
        }
    }

    /// Notes that the session of the connection has ended, or that the attempt to open one has failed.
    fn lost(&mut self, peer: PeerId, connection: ConnectionId, failure: &QueueError) {
        let now = Moment::now(&*self.directory.runtime);
        if self.peers.lost(peer, connection, failure, now, chance()) {
            self.sessions_changed(peer);
        }
    }

    /// Counts the connections and sessions, and what was refused since the start.
    pub(super) fn transport_status(&self) -> TransportStatus {
        let admission = &self.swarm.behaviour().links.admission;
        let made_room = Some(("made_room", admission.made_room())).filter(|(_, count)| *count > 0);
        let refused = self.refusals.counts().chain(made_room);
        TransportStatus {
            connections: admission.established_count() as u64,
            unproven: admission.unproven_count() as u64,
            pending: admission.pending_count() as u64,
            sessions: self.connections.session_count() as u64,
            refused: refused.map(|(reason, count)| (reason.to_owned(), count)).collect(),
        }
    }

    /// Tells the carriers and the workers which peers they can ask.
    fn sessions_changed(&self, peer: PeerId) {
        self.directory.set_sessions(peer, self.peers.sessions(&peer));
        let serving = self.peers.serving();
        self.ends.serving.send_if_modified(|before| {
            let is_new = *before != serving;
            *before = serving;
            is_new
        });
    }
}
