use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    QueueError,
    api::{Attempt, Method},
};

/// The attempts that an answer names. A search of a thousand peers has them all; beyond, they are counted out of sight.
const ATTEMPTS_MAX: usize = 4_096;

/// What a search has tried so far, and whom it has reached. Shared by the ways that run side by side.
#[derive(Debug)]
pub(super) struct Trace {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attempts: Vec<Attempt>,
    /// In the order in which they were reached.
    reached: Vec<PeerId>,
}

/// Something that is being tried.
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

    /// Notes what an attempt came to.
    pub(super) fn ended(&self, trying: Trying, now: Instant, outcome: Result<(), &QueueError>) {
        let Trying { method, peer, address, since } = trying;
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let attempt = Attempt {
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

    /// Those that were reached, and every attempt.
    pub(super) fn into_parts(self) -> (Vec<PeerId>, Vec<Attempt>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.reached, state.attempts)
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}
