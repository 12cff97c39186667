//! One peer that the node knows.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use taskqueue_api::{DialOutcome, ErrorCode, Peer, QueueError};
use tokio::sync::oneshot;

use super::{
    Moment, RememberedPeer,
    addresses::{Addresses, Source},
    limits::WAITERS_MAX,
    redial::Redial,
};
use crate::wire::Session;

/// A peer's addresses, the connections and sessions with it, and the callers that wait for it.
#[derive(Debug)]
pub(super) struct Entry {
    addresses: Addresses,
    /// The sessions over which the peer can be asked. Those through a relay come last.
    sessions: Vec<Standing>,
    redial: Redial,
    /// The connection of the attempt that is under way, from the dial to the proof.
    attempt: Option<ConnectionId>,
    /// Whether the peer is remembered, and dialled again when it is not connected: it was joined, has proved itself, or
    /// was remembered by the last run.
    is_kept: bool,
    /// Whether the configuration names the peer. Then it is dialled again too, but this alone does not keep it for the
    /// next run.
    is_configured: bool,
    /// Whether a discovery method shows the peer. Then it is dialled.
    is_found: bool,
    /// The connection that is open without a session. The configuration names the peer for a role, and the peer does
    /// not speak the node's own protocol.
    plain: Option<ConnectionId>,
    last_seen: Option<f64>,
    version: Option<String>,
    last_dial: Option<DialOutcome>,
    waiters: Vec<Waiter>,
}

/// A session with the peer, on an established connection.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) connection: ConnectionId,
    pub(super) session: Session,
    /// The start of the peer to which the session belongs.
    pub(super) instance: String,
    /// Whether it goes through a relay.
    pub(super) is_relayed: bool,
}

/// How long a caller waits: until the first attempt fails, or until one succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    OneAttempt,
    UntilDropped,
}

/// A caller that waits for a session.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) patience: Patience,
    /// The caller holds the receiver.
    pub(super) reply: oneshot::Sender<Result<Session, QueueError>>,
}

impl Waiter {
    /// Answers the caller, who may have gone.
    pub(super) fn answer(self, answer: Result<Session, QueueError>) {
        let _gone = self.reply.send(answer);
    }
}

impl Entry {
    pub(super) fn new(now: Instant) -> Self {
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

    /// Takes addresses of the peer. Returns whether one was added, or now has a better source than before.
    pub(super) fn learn(&mut self, source: Source, addresses: impl IntoIterator<Item = Multiaddr>) -> bool {
        self.addresses.learn(source, addresses)
    }

    /// Removes an address at which another peer answers, unless it is configured.
    pub(super) fn forget_address(&mut self, address: &Multiaddr) {
        self.addresses.forget(address);
    }

    /// Returns the addresses at which the peer can be dialled, the best first.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.all()
    }

    pub(super) const fn set_kept(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    pub(super) const fn set_configured(&mut self) {
        self.is_configured = true;
    }

    pub(super) const fn set_found(&mut self, is_found: bool) {
        self.is_found = is_found;
    }

    /// Takes what the last run knew of the peer.
    pub(super) fn restore(&mut self, known: RememberedPeer) {
        self.addresses.learn(Source::Told, known.addresses);
        self.addresses.learn(Source::Proven, known.proven);
        self.last_seen = known.last_seen;
        self.is_kept = true;
    }

    /// Returns what is saved of the peer for the next run, or `None` if it is not remembered.
    pub(super) fn to_remember(&self, peer_id: PeerId) -> Option<RememberedPeer> {
        self.is_kept.then(|| RememberedPeer {
            peer_id,
            addresses: self.addresses.worth_keeping(),
            proven: self.addresses.proven(),
            last_seen: self.last_seen,
        })
    }

    /// Returns what people are shown of the peer.
    pub(super) fn to_peer(&self, peer_id: PeerId) -> Peer {
        Peer {
            peer_id,
            name: None,
            connected: !self.sessions.is_empty(),
            addresses: self.addresses.all(),
            last_seen: self.last_seen,
            version: self.version.clone(),
            last_dial: self.last_dial.clone(),
        }
    }
}

/// Dialling the peer.
impl Entry {
    /// Returns whether there is an address of the peer or a session with it.
    pub(super) fn can_be_reached(&self) -> bool {
        !self.addresses.is_empty() || !self.sessions.is_empty()
    }

    /// Returns when the peer is to be dialled next, or `None` if it is not to be dialled.
    pub(super) fn next_dial(&mut self) -> Option<Instant> {
        let is_wanted = self.is_kept || self.is_configured || self.is_found || self.has_waiters();
        let is_free = !self.stands() && self.attempt.is_none();
        (is_wanted && is_free && !self.addresses.is_empty()).then(|| self.redial.next())
    }

    /// Makes the next dial due now.
    pub(super) const fn hasten(&mut self, now: Instant) {
        self.redial.hasten(now);
    }

    /// Notes the connection by which the peer is being dialled.
    pub(super) const fn dialling(&mut self, connection: ConnectionId) {
        self.attempt = Some(connection);
    }

    /// Returns whether the configuration names the peer and it is being dialled.
    pub(super) const fn is_configured_coming(&self) -> bool {
        self.is_configured && self.attempt.is_some()
    }

    /// Notes that the attempt under way has failed, if this connection belongs to it. Plans the next attempt, and tells
    /// the callers that do not wait for it. Returns whether the connection belonged to the attempt. `chance` is from 0
    /// to 1.
    pub(super) fn attempt_failed(
        &mut self,
        connection: ConnectionId,
        failure: &QueueError,
        now: Moment,
        chance: f64,
    ) -> bool {
        if self.attempt.take_if(|attempt| *attempt == connection).is_none() {
            return false;
        }
        if failure.code == ErrorCode::Unreachable {
            self.redial.failed(now.instant, chance);
        } else {
            self.redial.turned_away(now.instant, chance);
        }
        self.failed(failure, now);
        true
    }

    /// Notes that the peer does not speak the node's own protocol. The connection stays for the role that the peer
    /// serves.
    pub(super) fn stands_plain(&mut self, connection: ConnectionId, failure: &QueueError, now: Moment) {
        self.attempt.take_if(|attempt| *attempt == connection);
        self.plain = Some(connection);
        self.failed(failure, now);
    }

    fn failed(&mut self, failure: &QueueError, now: Moment) {
        self.last_dial = Some(DialOutcome { at: now.unix_s, error: failure.message.clone() });
        for waiter in std::mem::take(&mut self.waiters) {
            // Waiting longer does not bring a peer of another mesh into this one.
            let is_over = waiter.patience == Patience::OneAttempt || failure.code != ErrorCode::Unreachable;
            if is_over {
                waiter.answer(Err(failure.clone()));
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    /// Takes a caller that waits for a session. If there are too many, the caller is refused.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        if self.waiters.len() < WAITERS_MAX {
            self.waiters.push(waiter);
        } else {
            let message = format!("{WAITERS_MAX} callers wait for a connection to this peer");
            waiter.answer(Err(QueueError::new(ErrorCode::Overloaded, message).with_retry_after_s(1.0)));
        }
    }

    fn has_waiters(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        !self.waiters.is_empty()
    }
}

/// The connections and sessions with the peer.
impl Entry {
    /// Adds a session, and gives it to every caller that waits. Closes the sessions that belong to another start of the
    /// peer: they are dead, but have not noticed it yet.
    pub(super) fn connected(&mut self, standing: Standing, version: String, now: Moment) {
        for stale in self.sessions.iter().filter(|before| before.instance != standing.instance) {
            stale.session.close();
        }
        self.attempt.take_if(|attempt| *attempt == standing.connection);
        for waiter in self.waiters.drain(..) {
            waiter.answer(Ok(standing.session.clone()));
        }
        self.version = Some(version);
        self.last_dial = None;
        self.last_seen = Some(now.unix_s);
        self.sessions.push(standing);
        // The sort is stable: sessions of one kind stay in the order in which they came.
        self.sessions.sort_by_key(|standing| standing.is_relayed);
    }

    /// Removes a connection that is gone. Returns whether it had a session.
    pub(super) fn lost(&mut self, connection: ConnectionId, now: Moment) -> bool {
        let was_plain = self.plain.take_if(|plain| *plain == connection).is_some();
        let before = self.sessions.len();
        self.sessions.retain(|standing| standing.connection != connection);
        let had_session = self.sessions.len() < before;
        if had_session {
            self.last_seen = Some(now.unix_s);
        }
        if had_session || was_plain {
            self.redial = Redial::after_loss(now.instant);
        }
        had_session
    }

    /// Returns every session with the peer, the best first.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|standing| &standing.session)
    }

    pub(super) fn has_session(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Returns whether there is a session that does not go through a relay.
    pub(super) fn has_direct_session(&self) -> bool {
        self.sessions.iter().any(|standing| !standing.is_relayed)
    }

    /// Returns a session that takes requests: it has not begun to end.
    pub(super) fn open_session(&self) -> Option<&Session> {
        self.sessions().find(|session| session.is_open())
    }

    /// Returns the connection that is open without a session.
    pub(super) const fn plain(&self) -> Option<ConnectionId> {
        self.plain
    }

    /// Returns whether there is a connection over which the peer can be asked: with a session, or for its role alone.
    pub(super) fn stands(&self) -> bool {
        self.has_session() || self.plain.is_some()
    }
}

/// The value of the entry when room is needed.
impl Entry {
    /// Returns whether the peer was dialled in vain, has never proved itself, and was neither joined nor configured.
    /// Such a peer is not worth an entry, because anybody may have named any address.
    pub(super) const fn is_missed_stranger(&self) -> bool {
        self.last_dial.is_some() && self.last_seen.is_none() && !self.is_kept && !self.is_configured
    }

    /// Returns whether a discovery method shows the peer, and it was neither joined nor has proved itself.
    pub(super) const fn is_only_found(&self) -> bool {
        self.is_found && !self.is_kept
    }

    /// Returns whether a discovery method shows the peer, a caller waits for it, or it is [needed](Self::is_needed).
    pub(super) fn is_sought(&mut self) -> bool {
        self.is_found || self.has_waiters() || self.is_needed()
    }

    /// Returns whether the entry has to stay: the peer is connected, configured or being dialled, or has callers.
    pub(super) fn is_needed(&self) -> bool {
        self.stands() || self.is_configured || self.attempt.is_some() || !self.waiters.is_empty()
    }

    /// Returns the value by which entries are compared. Remembered peers are worth more than others, and of these the
    /// one heard of last is worth most.
    pub(super) fn worth(&self) -> (bool, f64) {
        (self.is_kept, self.last_seen.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Moment {
        Moment { instant: Instant::now(), unix_s: 1.0 }
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
        entry.failed(&QueueError::new(ErrorCode::Unreachable, "refused"), now());
        assert!(impatient.try_recv().unwrap().is_err() && patient.try_recv().is_err());
        entry.failed(&QueueError::new(ErrorCode::Unauthorized, "other mesh"), now());
        assert!(patient.try_recv().unwrap().is_err());
    }

    #[test]
    fn one_caller_too_many_is_told_so_and_those_who_left_make_room() {
        let mut entry = Entry::new(Instant::now());
        let mut wait = || {
            let (reply, answer) = oneshot::channel();
            entry.wait(Waiter { patience: Patience::UntilDropped, reply });
            answer
        };
        let mut waiting: Vec<_> = (0..WAITERS_MAX).map(|_| wait()).collect();
        let refused = wait().try_recv().unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        waiting.pop();
        assert!(wait().try_recv().is_err(), "it waits");
    }
}
