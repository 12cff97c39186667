//! A search that runs in the node's loop: whoever looks for peers holds one end, the ways that need the swarm the other.

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// What one search comes up with before its caller has looked at it: more than a caller tries at once.
const FOUND_WAITING_MAX: usize = 64;

/// A peer, and where it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// The end that a way of finding peers holds; it has no more to say when it is dropped.
#[derive(Debug)]
pub(crate) struct Search {
    wanted: Option<PeerId>,
    /// The caller holds the other end, and drops it when it has heard enough.
    found: mpsc::Sender<Result<Found, String>>,
}

/// A search for one peer, or for all, and where its findings come out.
pub(crate) fn search(wanted: Option<PeerId>) -> (Search, mpsc::Receiver<Result<Found, String>>) {
    let (found, findings) = mpsc::channel(FOUND_WAITING_MAX);
    (Search { wanted, found }, findings)
}

impl Search {
    /// Tells of a peer, if it is one that is looked for.
    pub(crate) fn tell(&self, peer: PeerId, addresses: &[Multiaddr]) {
        if self.wanted.is_none_or(|wanted| wanted == peer) && !addresses.is_empty() {
            // Full: the caller has more than it can try already.
            drop(self.found.try_send(Ok(Found { peer, addresses: addresses.to_vec() })));
        }
    }

    /// The one peer that is looked for; all are without it.
    pub(crate) const fn wanted(&self) -> Option<PeerId> {
        self.wanted
    }

    /// Ends the search, saying why nothing more can come of it.
    pub(crate) fn fail(self, reason: impl Into<String>) {
        drop(self.found.try_send(Err(reason.into())));
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_over(&self) -> bool {
        self.found.is_closed()
    }
}
