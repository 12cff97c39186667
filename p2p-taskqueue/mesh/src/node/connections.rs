//! The loop's part about connections: from the open stream to the end of the session.

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, swarm::ConnectionId};
use runtime_bridge::Spawned;
use taskqueue_api::{Caller, ErrorCode, QueueError};

use super::{
    Moment,
    address::{is_loopback, is_relayed_by},
    addresses::Source,
    driver::NodeLoop,
    link::{Link, News, Proof, Report},
    links::{Opened, role_of},
    peers::Standing,
    redial::Redial,
};
use crate::wire::{Ours, Role, Service, Session};

/// What is said of a peer that is no node.
pub(super) const OTHER_PROTOCOL: &str = "it does not speak this protocol (is it a taskmesh node?)";

/// An established connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: PeerId,
    remote: Multiaddr,
    role: Role,
    is_relayed: bool,
    /// Serves the connection once its stream is open; dropped, it ends the session.
    link: Option<Spawned<()>>,
    /// Stands once the peer has proved itself.
    pub(super) session: Option<Session>,
    /// Closed in the middle of the handshake: what the link has read by then says why, and it has yet to report.
    is_closed: bool,
}

impl NodeLoop {
    pub(super) fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let role = role_of(endpoint);
        let established = Connection {
            peer,
            remote: endpoint.get_remote_address().clone(),
            role,
            is_relayed: endpoint.is_relayed(),
            link: None,
            session: None,
            is_closed: false,
        };
        self.connections.insert(connection, established);
        if role == Role::Listener {
            self.finding.awaits_proof(connection, self.directory.runtime.now());
        }
        if self.stopping.is_some() {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_opened(&mut self, opened: Opened) {
        let Opened { peer, connection, role, stream } = opened;
        let Some(stream) = stream else {
            if !self.keeps_plain(peer, connection) {
                self.refusals.count("other_protocol");
                self.give_up(connection, &unreachable(peer, OTHER_PROTOCOL));
            }
            return;
        };
        let link = Link {
            connection,
            peer,
            role,
            stream,
            ours: self.ours(),
            service: self.service.clone().map(|queue| Service { queue, caller: Caller::Peer(peer) }),
            reports: self.reports_tx.clone(),
        };
        if let Some(known) = self.connections.get_mut(&connection) {
            known.link = Some(link.start(&self.directory.runtime));
        }
    }

    /// What a handshake says of this node.
    fn ours(&self) -> Ours {
        Ours {
            peer_id: self.directory.peer_id,
            secret: self.directory.secret(),
            serves: self.service.is_some(),
            instance: self.instance.clone(),
            addresses: self.own_addresses(),
        }
    }

    pub(super) fn on_report(&mut self, report: Report) {
        let Report { connection, peer, news } = report;
        match news {
            News::Proven(proof) => self.on_proven(peer, connection, *proof),
            News::Refused(error) => {
                tracing::debug!(%peer, %error, "a handshake failed");
                self.refusals.count_handshake(&error);
                self.give_up(connection, &error.to_queue_error(&peer.to_string()));
            }
            News::Ended(end) => {
                tracing::debug!(%peer, %end, "a session ended");
                self.give_up(connection, &unreachable(peer, end));
            }
        }
    }

    fn on_proven(&mut self, peer: PeerId, connection: ConnectionId, proof: Proof) {
        // Gone, or the mesh has changed meanwhile.
        let Some(known) = self.connections.get_mut(&connection).filter(|known| known.link.is_some()) else { return };
        known.session = Some(proof.session.clone());
        self.swarm.behaviour_mut().proven(peer, connection);
        if self.stopping.is_some() {
            proof.session.drain();
        }
        if !proof.serves {
            return;
        }
        // The first host of a relayed address is the relay's.
        let is_near = is_loopback(&known.remote) && !known.is_relayed;
        let is_relayed = known.is_relayed;
        let dialled = (known.role == Role::Dialer).then(|| known.remote.clone());
        let entry = self.peers.entry(peer, self.directory.runtime.now());
        let own = self.directory.peer_id;
        // A loopback address of another machine would lead to this one, as does one through this node as its relay.
        let is_useful = |address: &Multiaddr| (is_near || !is_loopback(address)) && !is_relayed_by(address, own);
        let said = proof.addresses.into_iter().filter(is_useful);
        let has_told = entry.addresses.learn(Source::Told, said);
        let is_news = entry.addresses.learn(Source::Proven, dialled) || has_told;
        // The peer has started anew: what stands from before is dead, and has not noticed yet.
        for stale in entry.sessions.iter().filter(|standing| standing.instance != proof.instance) {
            stale.session.close();
        }
        entry.attempt.take_if(|attempt| *attempt == connection);
        entry.is_kept = self.service.is_some();
        if entry.sessions.is_empty() {
            tracing::info!(%peer, "connected");
        }
        let standing = Standing { connection, session: proof.session, instance: proof.instance, is_relayed };
        entry.connected(standing, proof.software, Moment::now(&*self.directory.runtime).unix_s);
        self.sessions_changed(peer);
        self.can_be_asked(peer);
        if is_news && self.service.is_some() {
            // Without the address a node that is killed now would not find the peer again.
            self.save();
        } else {
            self.peers_changed();
        }
    }

    /// Whether nothing has come by the node's own protocol yet.
    pub(super) fn is_silent(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|known| known.link.is_none() && known.session.is_none())
    }

    /// Ends what the connection carries and closes it.
    pub(super) fn give_up(&mut self, connection: ConnectionId, failure: &QueueError) {
        self.forget(connection, failure);
        if self.connections.get(&connection).is_some_and(|known| known.is_closed) {
            self.connections.remove(&connection);
        } else {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, cause: &str) {
        self.finding.awaits_no_more(connection);
        let is_undecided = |known: &&mut Connection| known.link.is_some() && known.session.is_none();
        if let Some(known) = self.connections.get_mut(&connection).filter(is_undecided) {
            known.is_closed = true;
            return;
        }
        self.forget(connection, &unreachable(peer, cause));
        self.connections.remove(&connection);
    }

    /// The session of the connection ends; if it was on its way to one, that attempt has failed.
    fn forget(&mut self, connection: ConnectionId, failure: &QueueError) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.link = None;
        known.session = None;
        let peer = known.peer;
        self.attempt_failed(peer, connection, failure);
        let now = self.directory.runtime.now();
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.plain.take_if(|plain| *plain == connection).is_some() {
            entry.redial = Redial::after_loss(now);
        }
        let before = entry.sessions.len();
        entry.sessions.retain(|standing| standing.connection != connection);
        if entry.sessions.len() < before {
            entry.saw(Moment::now(&*self.directory.runtime).unix_s);
            entry.redial = Redial::after_loss(now);
            if entry.sessions.is_empty() {
                tracing::info!(%peer, reason = %failure, "disconnected");
            }
            self.sessions_changed(peer);
            self.peers_changed();
        }
    }

    /// Tells the carriers and the workers whom they can ask.
    fn sessions_changed(&self, peer: PeerId) {
        let standing = self.peers.get(&peer).map(|entry| &entry.sessions);
        let sessions = standing.into_iter().flatten().map(|standing| standing.session.clone()).collect();
        self.directory.set_sessions(peer, sessions);
        let serving = self.peers.serving();
        self.ends.serving.send_if_modified(|before| {
            let is_new = *before != serving;
            *before = serving;
            is_new
        });
    }
}

/// The peer cannot be asked, for this reason.
pub(super) fn unreachable(peer: PeerId, reason: impl std::fmt::Display) -> QueueError {
    QueueError::new(ErrorCode::Unreachable, format!("{peer} cannot be reached: {reason}"))
}
