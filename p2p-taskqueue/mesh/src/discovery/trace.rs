use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use taskqueue_api::{Method, QueueError, SearchAttempt};

/// How many attempts an answer names: all attempts of a search for a thousand peers. Further ones are left out.
const ATTEMPTS_MAX: usize = 4_096;

/// The attempts of a search so far, and the peers that it has reached. The ways that run side by side share it.
#[derive(Debug)]
pub(super) struct Trace {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attempts: Vec<SearchAttempt>,
    /// In the order in which they were reached.
    reached: Vec<PeerId>,
    /// The ways that are still looking.
    running: Vec<(Method, Instant)>,
}

/// An attempt that is under way.
#[derive(Debug)]
pub(super) struct Trying {
    pub(super) method: Method,
    pub(super) peer: Option<PeerId>,
    pub(super) address: Option<Multiaddr>,
    pub(super) since: Instant,
}

impl Trace {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a way of finding peers begins.
    pub(super) fn began(&self, method: Method, now: Instant) {
        self.lock().running.push((method, now));
    }

    /// Notes that a way has ended.
    pub(super) fn finished(&self, method: Method) {
        self.lock().running.retain(|(running, _)| *running != method);
    }

    /// The ways that are still looking, and when each began.
    pub(super) fn cut_off(&self) -> Vec<(Method, Instant)> {
        self.lock().running.clone()
    }

    /// Notes the result of an attempt.
    pub(super) fn ended(&self, trying: Trying, now: Instant, outcome: Result<(), &QueueError>) {
        let Trying { method, peer, address, since } = trying;
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let attempt = SearchAttempt {
            method,
            multiaddr: address,
            peer_id: peer,
            ok: outcome.is_ok(),
            code: outcome.err().map(|error| error.code),
            error: outcome.err().map(|error| error.message.clone()),
            started_s: seconds(self.started, since),
            elapsed_s: seconds(since, now),
        };
        let mut state = self.lock();
        if let (true, Some(peer)) = (attempt.ok, peer)
            && !state.reached.contains(&peer)
        {
            state.reached.push(peer);
        }
        if state.attempts.len() < ATTEMPTS_MAX {
            state.attempts.push(attempt);
        }
    }

    /// Whether the peer has been reached already, by another way.
    pub(super) fn has_reached(&self, peer: PeerId) -> bool {
        self.lock().reached.contains(&peer)
    }

    pub(super) fn reached_count(&self) -> usize {
        self.lock().reached.len()
    }

    /// The peers that were reached, and every attempt.
    pub(super) fn into_parts(self) -> (Vec<PeerId>, Vec<SearchAttempt>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.reached, state.attempts)
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_has_not_ended_is_cut_off() {
        let now = Instant::now();
        let trace = Trace::new(now);
        trace.began(Method::AddressBook, now);
        trace.began(Method::Mdns, now);
        trace.finished(Method::AddressBook);
        assert_eq!(trace.cut_off(), [(Method::Mdns, now)]);
    }
}
