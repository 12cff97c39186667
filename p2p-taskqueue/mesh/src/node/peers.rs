use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use taskqueue_api::{ErrorCode, Peer, QueueError};

use super::{
    Moment, RememberedPeer,
    address::{is_loopback, is_relayed_by, without_peer},
    addresses::Source,
    connections::{OTHER_PROTOCOL, Way, unreachable},
    limits::{FOUND_MAX, PEERS_MAX, SAVE_AFTER},
    link::Proof,
    peer_entry::{Entry, Patience, Standing, Waiter},
};
use crate::wire::Session;

/// The peers that the node knows: their addresses, when each is dialled, the sessions with them, the callers that wait
/// for them, and what is saved of them for the next run.
#[derive(Debug)]
pub(super) struct Peers {
    /// This node's own id. A node is never its own peer.
    own: PeerId,
    /// Whether peers are found, dialled again and remembered. It is not so for a client, which dials only the peers
    /// that it is told to dial.
    is_keeping: bool,
    entries: HashMap<PeerId, Entry>,
    /// When changed peers are to be saved.
    save_at: Option<Instant>,
}

/// A peer that is to be dialled now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dial {
    pub(super) peer: PeerId,
    /// The best first.
    pub(super) addresses: Vec<Multiaddr>,
}

impl Peers {
    pub(super) fn new(own: PeerId, is_keeping: bool) -> Self {
        Self { own, is_keeping, entries: HashMap::new(), save_at: None }
    }

    /// Takes the peers of the last run.
    pub(super) fn load(&mut self, known: Vec<RememberedPeer>, now: Instant) {
        for known in known.into_iter().take(PEERS_MAX) {
            if known.peer_id != self.own {
                self.entry(known.peer_id, now).restore(known);
            }
        }
    }

    /// Takes a peer of the configuration.
    pub(super) fn configure(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if peer != self.own {
            let entry = self.entry(peer, now);
            entry.learn(Source::Configured, [address]);
            entry.set_configured();
        }
    }

    /// Takes the peer of a ticket. It is dialled now, and remembered.
    pub(super) fn join(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        let entry = self.entry(peer, now);
        entry.learn(Source::Told, addresses.iter().cloned());
        entry.set_kept(true);
        entry.hasten(now);
        self.save_at = Some(now);
    }

    /// Takes a peer that a discovery method shows, so that it is dialled. A peer that is not known yet is left out when
    /// there are too many.
    pub(super) fn found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let found = self.entries.values().filter(|entry| entry.is_only_found()).count();
        let has_room = found < FOUND_MAX || self.entries.contains_key(&peer);
        if peer == self.own || !self.is_keeping || addresses.is_empty() || !has_room {
            return;
        }
        let entry = self.entry(peer, now);
        entry.set_found(true);
        if entry.learn(Source::Found, addresses) {
            entry.hasten(now);
        }
    }

    /// Notes that the discovery method no longer shows the peer.
    pub(super) fn lost_sight(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.set_found(false);
        }
    }

    /// Returns the peer's entry, a new one if need be. At the bound another entry that is not needed makes room: first
    /// one of a peer that is not remembered, and then the one heard of longest ago.
    fn entry(&mut self, peer: PeerId, now: Instant) -> &mut Entry {
        if self.entries.len() >= PEERS_MAX && !self.entries.contains_key(&peer) {
            let idle = self.entries.iter().filter(|(_, entry)| !entry.is_needed());
            let by_worth = |(a_kept, a_seen): (bool, f64), (b_kept, b_seen): (bool, f64)| {
                a_kept.cmp(&b_kept).then(a_seen.total_cmp(&b_seen))
            };
            let oldest = idle.min_by(|(_, a), (_, b)| by_worth(a.worth(), b.worth())).map(|(peer, _)| *peer);
            oldest.map(|peer| self.entries.remove(&peer));
        }
        self.entries.entry(peer).or_insert_with(|| Entry::new(now))
    }
}

/// Dialling.
impl Peers {
    /// Takes a caller that wants a session with the peer, and addresses at which the peer may be. Answers the caller at
    /// once if there is an open session, or if nothing can be waited for.
    pub(super) fn connect(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, waiter: Waiter, now: Instant) {
        let is_known = self.entries.get(&peer).is_some_and(Entry::can_be_reached);
        if !is_known && addresses.is_empty() {
            return waiter.answer(Err(unknown(peer)));
        }
        let entry = self.entry(peer, now);
        entry.learn(Source::Found, addresses);
        if let Some(session) = entry.open_session().cloned() {
            return waiter.answer(Ok(session));
        }
        if entry.plain().is_some() {
            return waiter.answer(Err(unreachable(peer, OTHER_PROTOCOL)));
        }
        // A caller that waits for one attempt does not wait for the next redial.
        if waiter.patience == Patience::OneAttempt {
            entry.hasten(now);
        }
        entry.wait(waiter);
    }

    /// Returns the peers that are to be dialled now. Forgets strangers that were not reached and that nobody looks for
    /// any more.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Dial> {
        self.entries.retain(|_, entry| !entry.is_missed_stranger() || entry.is_sought());
        let due = self.entries.iter_mut().filter_map(|(peer, entry)| {
            let is_due = entry.next_dial().is_some_and(|at| at <= now);
            is_due.then(|| Dial { peer: *peer, addresses: entry.addresses() })
        });
        due.collect()
    }

    /// Returns when the next peer is to be dialled, or the peers are to be saved.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        let dial = self.entries.values_mut().filter_map(Entry::next_dial).min();
        [dial, self.save_at].into_iter().flatten().min()
    }

    /// Notes the connection by which the peer is being dialled.
    pub(super) fn dialling(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.dialling(connection);
        }
    }

    /// Removes an address at which another peer answers, unless it is configured.
    pub(super) fn answered_by_another(&mut self, peer: PeerId, address: &Multiaddr) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.forget_address(&without_peer(address.clone()));
        }
    }

    /// Notes that the connection was not established, or that its peer did not prove itself. `chance` is from 0 to 1.
    pub(super) fn attempt_failed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        failure: &QueueError,
        now: Moment,
        chance: f64,
    ) {
        let entry = self.entries.get_mut(&peer);
        if entry.is_some_and(|entry| entry.attempt_failed(connection, failure, now, chance)) {
            tracing::debug!(%peer, error = %failure, "failed to connect");
        }
    }

    /// Makes the next dial of the peer due now.
    pub(super) fn hasten(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.hasten(now);
        }
    }

    /// Forgets a peer that is no member any more. It is dialled again only if the configuration names it or a caller
    /// asks for it.
    pub(super) fn forget(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.set_kept(false);
            entry.set_found(false);
            self.changed(now);
        }
    }

    /// Forgets all peers, which belong to another mesh.
    pub(super) fn forget_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.set_kept(false);
            entry.set_found(false);
        }
        self.changed(now);
    }

    /// Returns whether a peer of the configuration is being dialled.
    pub(super) fn are_configured_coming(&self) -> bool {
        self.entries.values().any(Entry::is_configured_coming)
    }
}

/// Connections and sessions.
impl Peers {
    /// Adds the session with a peer that has proved itself and answers requests.
    pub(super) fn proven(&mut self, peer: PeerId, connection: ConnectionId, way: Way, proof: Proof, now: Moment) {
        let (own, is_keeping) = (self.own, self.is_keeping);
        let Way { remote, is_dialled, is_relayed } = way;
        // The first host of a relayed address is the relay's.
        let is_near = is_loopback(&remote) && !is_relayed;
        // A loopback address of another machine would lead to this one. An address through this node as its relay would
        // lead to this node first.
        let is_useful = |address: &Multiaddr| (is_near || !is_loopback(address)) && !is_relayed_by(address, own);
        let said = proof.addresses.into_iter().filter(is_useful);
        let entry = self.entry(peer, now.instant);
        let has_told = entry.learn(Source::Told, said);
        let is_news = entry.learn(Source::Proven, is_dialled.then_some(remote)) || has_told;
        entry.set_kept(is_keeping);
        if !entry.has_session() {
            tracing::info!(%peer, "connected");
        }
        let standing = Standing { connection, session: proof.session, instance: proof.instance, is_relayed };
        entry.connected(standing, proof.software, now);
        // New addresses are saved at once: without them, a node that is killed now would not find the peer again.
        self.changed(now.instant + if is_news { Duration::ZERO } else { SAVE_AFTER });
    }

    /// Notes that the peer does not speak the node's own protocol. The connection stays for the role that the peer
    /// serves.
    pub(super) fn stands_plain(&mut self, peer: PeerId, connection: ConnectionId, now: Moment) {
        self.entry(peer, now.instant).stands_plain(connection, &unreachable(peer, OTHER_PROTOCOL), now);
    }

    /// Notes that the connection carries nothing any more, for this reason. Returns whether it had a session.
    pub(super) fn lost(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        failure: &QueueError,
        now: Moment,
        chance: f64,
    ) -> bool {
        self.attempt_failed(peer, connection, failure, now, chance);
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        let had_session = entry.lost(connection, now);
        if had_session {
            if !entry.has_session() {
                tracing::info!(%peer, reason = %failure, "disconnected");
            }
            self.changed(now.instant + SAVE_AFTER);
        }
        had_session
    }

    /// Returns the sessions with each peer, the best first.
    pub(super) fn all_sessions(&self) -> Vec<(PeerId, Vec<Session>)> {
        self.serving().into_iter().map(|peer| (peer, self.sessions(&peer))).collect()
    }

    /// Returns the sessions with the peer, the best first.
    pub(super) fn sessions(&self, peer: &PeerId) -> Vec<Session> {
        self.entries.get(peer).into_iter().flat_map(Entry::sessions).cloned().collect()
    }

    /// Returns the peers with which there is a session.
    pub(super) fn serving(&self) -> Vec<PeerId> {
        let serving = self.entries.iter().filter(|(_, entry)| entry.has_session());
        let mut peers: Vec<PeerId> = serving.map(|(peer, _)| *peer).collect();
        peers.sort_unstable();
        peers
    }

    /// Returns whether there is a connection over which the peer can be asked for the role that it serves.
    pub(super) fn stands(&self, peer: &PeerId) -> bool {
        self.entries.get(peer).is_some_and(Entry::stands)
    }

    /// Returns whether this is the connection that is open for the peer's role alone.
    pub(super) fn is_plain(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        self.entries.get(peer).is_some_and(|entry| entry.plain() == Some(connection))
    }

    /// Returns whether there is a session that does not go through a relay.
    pub(super) fn has_direct_session(&self, peer: &PeerId) -> bool {
        self.entries.get(peer).is_some_and(Entry::has_direct_session)
    }

    /// Returns the addresses at which the peer can be dialled, the best first.
    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.entries.get(peer).map(Entry::addresses).unwrap_or_default()
    }

    /// Returns the peers as people are shown them: the connected ones first, then those heard of last. Leaves out
    /// strangers of which nothing is known but that they were not reached.
    pub(super) fn list(&self, connected_only: bool) -> Vec<Peer> {
        let shown = self.entries.iter().filter(|(_, entry)| !entry.is_missed_stranger());
        let mut peers: Vec<Peer> = shown.map(|(peer, entry)| entry.to_peer(*peer)).collect();
        peers.retain(|peer| peer.connected || !connected_only);
        let key = |peer: &Peer| (peer.connected, peer.last_seen.unwrap_or(0.0));
        peers.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
        peers
    }
}

/// Saving.
impl Peers {
    /// Plans to save the peers, at `save_by` at the latest.
    fn changed(&mut self, save_by: Instant) {
        if self.is_keeping {
            self.save_at = Some(self.save_at.map_or(save_by, |at| at.min(save_by)));
        }
    }

    /// Returns the peers to be saved, if that is due now.
    pub(super) fn take_due_to_save(&mut self, now: Instant) -> Option<Vec<RememberedPeer>> {
        self.save_at.take_if(|at| *at <= now).map(|_| self.to_remember())
    }

    /// Returns the peers to be saved, if there is an unsaved change, even before it is due.
    pub(super) fn take_unsaved(&mut self) -> Option<Vec<RememberedPeer>> {
        self.save_at.take().map(|_| self.to_remember())
    }

    fn to_remember(&self) -> Vec<RememberedPeer> {
        self.entries.iter().filter_map(|(peer, entry)| entry.to_remember(*peer)).collect()
    }
}

fn unknown(peer: PeerId) -> QueueError {
    let message = format!(
        "{peer} is not known here: give its address (/ip4/…/tcp/…/p2p/{peer}), or join its mesh with a ticket from it"
    );
    QueueError::new(ErrorCode::NotFound, message)
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
