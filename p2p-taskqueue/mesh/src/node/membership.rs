//! The loop's part about the members: it makes changes, tells the peers of them, and lets connections follow.

use std::{collections::HashSet, sync::Arc};

use data_encoding::HEXLOWER;
use futures::{StreamExt as _, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use runtime_bridge::RuntimeExt as _;
use taskqueue_api::{
    Caller, Free, MembersTold, Operation as _, QueueError, Request, TaskQueueExt as _, TellMembers,
    limits::STATEMENTS_TOLD_MAX,
};
use tokio::sync::oneshot;

use super::{
    super::{RememberedPeer, connections::unreachable, directory::MembersChange, limits::TELL_TIMEOUT},
    NodeLoop,
};
use crate::{
    MeshSecret,
    members::{MeshId, Standing, Statements, TextId},
    wire::Session,
};

/// What the loop has made of the members so far.
#[derive(Debug)]
pub(super) struct Followed {
    mesh: MeshId,
    /// The statements that the connected peers were told, or had when they came.
    told: HashSet<TextId>,
    /// The newest secret that they were told.
    secret: MeshSecret,
    /// The machines whose removal was followed.
    removed: HashSet<PeerId>,
}

/// A reply that names the peers that know of a change.
pub(super) type Heard = oneshot::Sender<Result<Vec<PeerId>, QueueError>>;

impl NodeLoop {
    /// Returns what there is to follow at the start: no peer was told anything, and the leases of removed machines have
    /// yet to end.
    pub(super) fn nothing_followed(membership: &crate::members::Membership) -> Followed {
        Followed {
            mesh: membership.mesh_id(),
            told: membership.text_ids(),
            secret: membership.newest_secret(),
            removed: HashSet::new(),
        }
    }

    /// Makes a change of the members, and lets everything follow it before the reply.
    pub(super) fn on_change_members(&mut self, change: MembersChange, reply: Heard) {
        let MembersChange(change) = change;
        match self.directory.membership.change(|mesh, identity| change(mesh, identity)) {
            Ok(()) => self.follow_members(Some(reply)),
            // The caller may have gone.
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// Lets connections, discovery and leases follow what is new about the members, and tells the peers of it.
    pub(super) fn follow_members(&mut self, reply: Option<Heard>) {
        self.members_changes.mark_unchanged();
        let membership = Arc::clone(&self.directory.membership);
        self.follow_namespace();
        if membership.mesh_id() != self.followed.mesh {
            self.followed = Self::nothing_followed(&membership);
            self.leave_old_mesh();
        }
        self.close_strangers();
        let removed: HashSet<PeerId> = membership.removed().into_iter().collect();
        let before = std::mem::replace(&mut self.followed.removed, removed.clone());
        removed.difference(&before).for_each(|peer| self.take_out(*peer));
        self.tell_members(reply);
    }

    /// Registers and publishes under the name of the secret in use.
    fn follow_namespace(&mut self) {
        let namespace = self.namespace();
        if self.namespace != namespace {
            let old = std::mem::replace(&mut self.namespace, namespace);
            self.leave_namespace(&old);
        }
    }

    /// Closes the sessions of peers that are no longer members, or that may do something else than before. Those that
    /// are members come again.
    fn close_strangers(&mut self) {
        let membership = Arc::clone(&self.directory.membership);
        for (connection, peer, grants) in self.connections.proven_ones() {
            match membership.standing(&peer) {
                Standing::Member(now) if now == grants => {}
                Standing::Member(_) => {
                    self.give_up(peer, connection, &unreachable(peer, "its role in the mesh has changed"));
                    self.peers.hasten(&peer, self.now());
                }
                Standing::Removed | Standing::Stranger => {
                    self.give_up(peer, connection, &unreachable(peer, "it is no member of the mesh any more"));
                }
            }
        }
    }

    /// Forgets a machine that was removed, and ends its leases.
    fn take_out(&mut self, peer: PeerId) {
        if peer == self.directory.peer_id {
            tracing::warn!("this machine was taken out of the mesh: to come back it needs a ticket");
            return;
        }
        tracing::info!(%peer, "the machine was taken out of the mesh");
        self.swarm.behaviour_mut().links.admission.forget_proof(&peer);
        self.peers.forget(&peer, self.now());
        self.directory.workers.forget(&peer);
        let Some(queue) = self.service.clone() else { return };
        let free = async move {
            match queue.free(&Caller::Local, Free { machine: peer }).await {
                Ok(freed) => tracing::info!(%peer, freed = freed.freed, "its leases have ended"),
                Err(error) => tracing::warn!(%peer, %error, "its leases could not be ended: they end by themselves"),
            }
        };
        self.directory.runtime.spawn(free).detach();
    }

    /// Tells the connected peers what they have not been told. The reply names those that know it then.
    fn tell_members(&mut self, reply: Option<Heard>) {
        let membership = &self.directory.membership;
        let news = membership.besides(&self.followed.told);
        let newest = membership.newest_secret();
        let secret = (newest != self.followed.secret).then(|| newest.clone());
        self.followed.told = membership.text_ids();
        self.followed.secret = newest;
        let is_news = !news.entries.is_empty() || !news.secret_notes.is_empty() || secret.is_some();
        if !is_news && reply.is_none() {
            return;
        }
        let requests = requests(news, secret.map(|secret| HEXLOWER.encode(secret.as_bytes())));
        let sessions = self.peers.all_sessions();
        self.directory.runtime.spawn(tell_all(sessions, requests, reply)).detach();
    }

    /// Tells a peer everything, because the members have changed during its handshake.
    pub(super) fn tell_late(&self, peer: PeerId, session: Session) {
        let membership = &self.directory.membership;
        let secret = HEXLOWER.encode(membership.newest_secret().as_bytes());
        let requests = requests(membership.besides(&HashSet::new()), Some(secret));
        self.directory.runtime.spawn(tell_all(vec![(peer, vec![session])], requests, None)).detach();
    }

    /// Dials the peer by whose ticket this node has become a member, and remembers it.
    pub(super) fn befriend(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.peers.join(peer, addresses, self.now());
        self.save_due();
    }

    /// Closes the connections that rest on the old mesh. Connections to rendezvous points that are not nodes stay,
    /// because nothing was proved over them.
    fn leave_old_mesh(&mut self) {
        self.swarm.behaviour_mut().links.admission.forget_proofs();
        for (connection, peer) in self.connections.all() {
            if !self.peers.is_plain(&peer, connection) {
                self.give_up(peer, connection, &unreachable(peer, "this node has joined another mesh"));
            }
        }
        self.peers.forget_all(self.now());
        self.directory.workers.forget_others();
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

/// Returns the requests that tell these statements, in an order in which they can be taken. The secret comes last,
/// because it is compared with its note.
fn requests(news: Statements, secret: Option<String>) -> Vec<Request> {
    let Statements { entries, secret_notes } = news;
    let entries = entries.chunks(STATEMENTS_TOLD_MAX);
    let entries = entries.map(|entries| TellMembers { entries: entries.to_vec(), ..TellMembers::default() });
    let last = TellMembers { secret_notes, secret, ..TellMembers::default() };
    entries.chain([last]).map(TellMembers::into_request).collect()
}

/// Tells all peers at the same time, each over the first of its sessions. A peer that does not take it is disconnected:
/// when it comes again, both nodes exchange what they know. So none of its sessions may stand.
async fn tell_all(peers: Vec<(PeerId, Vec<Session>)>, requests: Vec<Request>, reply: Option<Heard>) {
    let telling = peers.into_iter().map(|(peer, sessions)| {
        let requests = &requests;
        async move {
            let has_heard = match sessions.first() {
                Some(best) => tell(best, requests).await,
                None => false,
            };
            if !has_heard {
                sessions.iter().for_each(Session::close);
            }
            has_heard.then_some(peer)
        }
    });
    let heard = telling.collect::<FuturesUnordered<_>>().filter_map(std::future::ready).collect().await;
    if let Some(reply) = reply {
        // The caller may have gone.
        let _gone = reply.send(Ok(heard));
    }
}

async fn tell(session: &Session, requests: &[Request]) -> bool {
    for request in requests {
        match session.call(request, TELL_TIMEOUT).await.and_then(TellMembers::answer) {
            Ok(MembersTold { is_known: true }) => {}
            Ok(MembersTold { is_known: false }) => return false,
            Err(error) => {
                tracing::debug!(%error, "a peer could not be told what is new about the members");
                return false;
            }
        }
    }
    true
}
