use std::{collections::HashMap, time::Instant};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use taskqueue_api::{DialOutcome, ErrorCode, Peer, QueueError};
use tokio::sync::oneshot;

use super::{
    RememberedPeer,
    addresses::{Addresses, Source},
    limits::{FOUND_MAX, PEERS_MAX, WAITERS_MAX},
    redial::Redial,
};
use crate::wire::Session;

/// The peers that the node knows: pure bookkeeping, with the time as an argument.
#[derive(Debug, Default)]
pub(super) struct Peers {
    entries: HashMap<PeerId, Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) addresses: Addresses,
    /// The sessions over which it can be asked, those through a relay last.
    pub(super) sessions: Vec<Standing>,
    pub(super) redial: Redial,
    /// The connection of the attempt that is under way, from the dial to the proof.
    pub(super) attempt: Option<ConnectionId>,
    /// Whether it is dialled again when it is not connected, and remembered: it was joined or has proved itself.
    pub(super) is_kept: bool,
    /// Whether the configuration names it: then it is dialled again too, and forgotten with the configuration.
    pub(super) is_configured: bool,
    /// Whether a way of finding peers says that it is there: then it is dialled.
    is_found: bool,
    /// The connection that stands without a session: the peer serves a role by the configuration and no more.
    pub(super) plain: Option<ConnectionId>,
    last_seen: Option<f64>,
    version: Option<String>,
    last_dial: Option<DialOutcome>,
    waiters: Vec<Waiter>,
}

/// A session that stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) connection: ConnectionId,
    pub(super) session: Session,
    /// The peer's start that it belongs to.
    pub(super) instance: String,
    /// Whether it goes through a relay.
    pub(super) is_relayed: bool,
}

/// Whether a caller hears of the first failed attempt or waits for one that succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    OneAttempt,
    UntilDropped,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) patience: Patience,
    /// The caller holds the other end.
    pub(super) reply: oneshot::Sender<Result<Session, QueueError>>,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            addresses: Addresses::default(),
            sessions: Vec::new(),
            redial: Redial::at_once(now),
            attempt: None,
            is_kept: false,
            is_configured: false,
            is_found: false,
            plain: None,
            last_seen: None,
            version: None,
            last_dial: None,
            waiters: Vec::new(),
        }
    }

    /// Whether a session stands that does not go through a relay.
    pub(super) fn has_direct_session(&self) -> bool {
        self.sessions.iter().any(|standing| !standing.is_relayed)
    }

    /// A session that takes calls.
    pub(super) fn open_session(&self) -> Option<&Session> {
        self.sessions.iter().map(|standing| &standing.session).find(|session| session.is_open())
    }

    /// Takes a caller who waits, unless there are too many.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        if self.waiters.len() < WAITERS_MAX {
            self.waiters.push(waiter);
        } else {
            let message = format!("{WAITERS_MAX} callers wait for a connection to this peer");
            let _gone = waiter.reply.send(Err(QueueError::new(ErrorCode::Overloaded, message).with_retry_after_s(1.0)));
        }
    }

    pub(super) fn has_waiters(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        !self.waiters.is_empty()
    }

    /// A session stands: everybody who waits gets it.
    pub(super) fn connected(&mut self, standing: Standing, version: String, unix_now: f64) {
        for waiter in self.waiters.drain(..) {
            let _gone = waiter.reply.send(Ok(standing.session.clone()));
        }
        self.version = Some(version);
        self.last_dial = None;
        self.saw(unix_now);
        self.sessions.push(standing);
        // Stable: those of a kind stay in the order in which they came.
        self.sessions.sort_by_key(|standing| standing.is_relayed);
    }

    pub(super) const fn saw(&mut self, unix_now: f64) {
        self.last_seen = Some(unix_now);
    }

    /// An attempt has failed: the impatient hear of it.
    pub(super) fn failed(&mut self, error: &QueueError, unix_now: f64) {
        self.last_dial = Some(DialOutcome { at: unix_now, error: error.message.clone() });
        for waiter in std::mem::take(&mut self.waiters) {
            // Waiting longer does not make a peer of another mesh one of this.
            let is_over = waiter.patience == Patience::OneAttempt || error.code != ErrorCode::Unreachable;
            if is_over {
                let _gone = waiter.reply.send(Err(error.clone()));
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    /// Whether it was dialled in vain, never proved itself, and is nobody's choice: an address that somebody gave may be anybody's.
    const fn is_missed_stranger(&self) -> bool {
        self.last_dial.is_some() && self.last_seen.is_none() && !self.is_kept && !self.is_configured
    }

    /// Whether something of it is under way.
    fn is_sought(&mut self) -> bool {
        self.has_waiters() || self.is_needed()
    }

    fn is_needed(&self) -> bool {
        let stands = !self.sessions.is_empty() || self.plain.is_some();
        stands || self.is_configured || self.attempt.is_some() || !self.waiters.is_empty()
    }
}

impl Peers {
    pub(super) fn get(&self, peer: &PeerId) -> Option<&Entry> {
        self.entries.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Entry> {
        self.entries.get_mut(peer)
    }

    /// The peer's entry, a new one if need be. At the bound the peer that was last heard of the longest ago makes room, one
    /// that never proved itself before one that has.
    pub(super) fn entry(&mut self, peer: PeerId, now: Instant) -> &mut Entry {
        if self.entries.len() >= PEERS_MAX && !self.entries.contains_key(&peer) {
            let idle = self.entries.iter().filter(|(_, entry)| !entry.is_needed());
            let last_seen = |entry: &Entry| entry.last_seen.unwrap_or(0.0);
            let by_worth = |a: &Entry, b: &Entry| a.is_kept.cmp(&b.is_kept).then(last_seen(a).total_cmp(&last_seen(b)));
            let oldest = idle.min_by(|(_, a), (_, b)| by_worth(a, b)).map(|(peer, _)| *peer);
            oldest.map(|peer| self.entries.remove(&peer));
        }
        self.entries.entry(peer).or_insert_with(|| Entry::new(now))
    }

    /// A way of finding peers says that the peer is there. Beyond the bound strangers are left out.
    pub(super) fn found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let found = self.entries.values().filter(|entry| entry.is_found && !entry.is_kept).count();
        if addresses.is_empty() || (found >= FOUND_MAX && !self.entries.contains_key(&peer)) {
            return;
        }
        let entry = self.entry(peer, now);
        entry.is_found = true;
        if entry.addresses.learn(Source::Found, addresses) {
            entry.redial.hasten(now);
        }
    }

    /// It says so no longer.
    pub(super) fn lost_sight(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.is_found = false;
        }
    }

    /// Takes the peers of the last run.
    pub(super) fn load(&mut self, known: Vec<RememberedPeer>, own: PeerId, now: Instant) {
        for RememberedPeer { peer_id, addresses, proven, last_seen } in known.into_iter().take(PEERS_MAX) {
            if peer_id != own {
                let entry = self.entry(peer_id, now);
                entry.addresses.learn(Source::Told, addresses);
                entry.addresses.learn(Source::Proven, proven);
                entry.last_seen = last_seen;
                entry.is_kept = true;
            }
        }
    }

    /// Takes the peers of the configuration.
    pub(super) fn configure(&mut self, peers: impl Iterator<Item = (PeerId, Multiaddr)>, own: PeerId, now: Instant) {
        for (peer, address) in peers.filter(|(peer, _)| *peer != own) {
            let entry = self.entry(peer, now);
            entry.addresses.learn(Source::Configured, [address]);
            entry.is_configured = true;
        }
    }

    /// Whether a peer of the configuration is being dialled.
    pub(super) fn are_configured_coming(&self) -> bool {
        self.entries.values().any(|entry| entry.is_configured && entry.attempt.is_some())
    }

    /// What is worth keeping for the next run.
    pub(super) fn known(&self) -> Vec<RememberedPeer> {
        let kept = self.entries.iter().filter(|(_, entry)| entry.is_kept);
        let known = kept.map(|(peer, entry)| RememberedPeer {
            peer_id: *peer,
            addresses: entry.addresses.worth_keeping(),
            proven: entry.addresses.proven(),
            last_seen: entry.last_seen,
        });
        known.collect()
    }

    /// For people: the connected first, then by time. Without those of whom nobody knows more than that they were not reached.
    pub(super) fn list(&self, connected_only: bool) -> Vec<Peer> {
        let shown = self.entries.iter().filter(|(_, entry)| !entry.is_missed_stranger());
        let mut peers: Vec<Peer> = shown.map(|(peer, entry)| entry.to_peer(*peer)).collect();
        peers.retain(|peer| peer.connected || !connected_only);
        let key = |peer: &Peer| (peer.connected, peer.last_seen.unwrap_or(0.0));
        peers.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
        peers
    }

    /// The peers that can be asked.
    pub(super) fn serving(&self) -> Vec<PeerId> {
        let serving = self.entries.iter().filter(|(_, entry)| !entry.sessions.is_empty());
        let mut peers: Vec<PeerId> = serving.map(|(peer, _)| *peer).collect();
        peers.sort_unstable();
        peers
    }

    /// Those that are to be dialled now. Strangers that were not reached, and whom nobody seeks any more, are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<PeerId> {
        self.entries.retain(|_, entry| !entry.is_missed_stranger() || entry.is_found || entry.is_sought());
        let due = self.entries.iter_mut().filter_map(|(peer, entry)| {
            let is_due = entry.wants_dial() && entry.redial.next() <= now;
            is_due.then_some(*peer)
        });
        due.collect()
    }

    /// When the next one is to be dialled.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        let waiting = self.entries.values_mut().filter_map(|entry| entry.wants_dial().then(|| entry.redial.next()));
        waiting.min()
    }

    /// Every peer is to be tried now.
    pub(super) fn hasten_all(&mut self, now: Instant) {
        self.entries.values_mut().for_each(|entry| entry.redial.hasten(now));
    }
}

impl Entry {
    fn wants_dial(&mut self) -> bool {
        let is_wanted = self.is_kept || self.is_configured || self.is_found || self.has_waiters();
        let stands = !self.sessions.is_empty() || self.plain.is_some();
        is_wanted && !stands && self.attempt.is_none() && !self.addresses.is_empty()
    }

    fn to_peer(&self, peer_id: PeerId) -> Peer {
        Peer {
            peer_id,
            connected: !self.sessions.is_empty(),
            addresses: self.addresses.all(),
            last_seen: self.last_seen,
            version: self.version.clone(),
            last_dial: self.last_dial.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn a_packet_of_the_local_network_displaces_no_address_that_works() {
        let (mut peers, now, peer, own) = (Peers::default(), Instant::now(), PeerId::random(), PeerId::random());
        peers.configure([(peer, address(1))].into_iter(), own, now);
        let proven =
            RememberedPeer { peer_id: peer, addresses: vec![address(2)], proven: vec![address(2)], last_seen: None };
        peers.load(vec![proven], own, now);
        for packet in 0..10 {
            peers.found(peer, (0..16).map(|port| address(100 + 16 * packet + port)).collect(), now);
        }
        let known = peers.get(&peer).unwrap().addresses.all();
        assert_eq!(known[..2], [address(2), address(1)]);
        // A restart keeps what was proven, and nothing that anybody may have said.
        let kept = peers.known().remove(0);
        assert_eq!((kept.addresses, kept.proven), (vec![address(2)], vec![address(2)]));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_longest_unheard() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let first = PeerId::random();
        peers.entry(first, now).saw(1.0);
        for number in 1..=PEERS_MAX {
            peers.entry(PeerId::random(), now).saw(1.0 + number as f64);
        }
        assert_eq!(peers.entries.len(), PEERS_MAX);
        assert!(peers.get(&first).is_none());
    }

    #[test]
    fn only_kept_peers_with_an_address_are_dialled() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let peer = PeerId::random();
        peers.entry(peer, now).addresses.learn(Source::Found, [address(1)]);
        assert!(peers.due(now).is_empty());
        peers.entry(peer, now).is_kept = true;
        assert_eq!(peers.due(now), [peer]);
        peers.entry(peer, now).redial.failed(now, 1.0);
        assert!(peers.due(now).is_empty() && peers.next_due() > Some(now));
    }

    #[test]
    fn a_stranger_that_was_not_reached_is_forgotten_and_nobody_else() {
        let (mut peers, now, own) = (Peers::default(), Instant::now(), PeerId::random());
        let [stranger, found, sought, away, configured, told] = std::array::from_fn(|_| PeerId::random());
        let failed = |peers: &mut Peers, peer| {
            peers.entry(peer, now).failed(&QueueError::new(ErrorCode::Unreachable, "refused"), 1.0);
        };
        peers.entry(stranger, now).addresses.learn(Source::Found, [address(1)]);
        peers.found(found, vec![address(2)], now);
        let (reply, _answer) = oneshot::channel();
        peers.entry(sought, now).wait(Waiter { patience: Patience::UntilDropped, reply });
        peers.entry(away, now).saw(1.0);
        peers.configure([(configured, address(3))].into_iter(), own, now);
        peers.load(
            vec![RememberedPeer { peer_id: told, addresses: vec![address(4)], proven: Vec::new(), last_seen: None }],
            own,
            now,
        );
        for peer in [stranger, found, sought, away, configured, told] {
            failed(&mut peers, peer);
        }
        let listed = peers.list(false).into_iter().map(|peer| peer.peer_id).collect::<std::collections::HashSet<_>>();
        assert_eq!(listed, [away, configured, told].into(), "members and the configured alone are shown");
        peers.due(now);
        assert!(peers.get(&stranger).is_none());
        // One goes on being dialled while the local network shows it, the other while a caller waits for it.
        for peer in [found, sought, away, configured, told] {
            assert!(peers.get(&peer).is_some());
        }
        drop(_answer);
        peers.lost_sight(&found);
        peers.due(now);
        assert!(peers.get(&found).is_none() && peers.get(&sought).is_none());
    }

    #[test]
    fn the_patient_outlast_a_failure_unless_it_is_for_good() {
        let mut entry = Entry::new(Instant::now());
        let wait = |entry: &mut Entry, patience| {
            let (reply, answer) = oneshot::channel();
            entry.wait(Waiter { patience, reply });
            answer
        };
        let mut impatient = wait(&mut entry, Patience::OneAttempt);
        let mut patient = wait(&mut entry, Patience::UntilDropped);
        entry.failed(&QueueError::new(ErrorCode::Unreachable, "refused"), 1.0);
        assert!(impatient.try_recv().unwrap().is_err() && patient.try_recv().is_err());
        entry.failed(&QueueError::new(ErrorCode::Unauthorized, "other mesh"), 2.0);
        assert!(patient.try_recv().unwrap().is_err());
    }
}
