//! A search that runs in the node's loop. The caller holds one end; the ways of finding peers that need the swarm hold the
//! other.

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// How many findings may wait for the caller: more than a caller tries at once.
const FOUND_WAITING_MAX: usize = 64;

/// A peer that was found, and where it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// The end that a way of finding peers holds. Dropping it means that the way has ended.
#[derive(Debug)]
pub(crate) struct Search {
    wanted: Option<PeerId>,
    /// The caller holds the other end, and drops it when it has heard enough.
    found: mpsc::Sender<Result<Found, String>>,
}

/// A search for one peer or for all, and the channel of its findings.
pub(crate) fn search(wanted: Option<PeerId>) -> (Search, mpsc::Receiver<Result<Found, String>>) {
    let (found, findings) = mpsc::channel(FOUND_WAITING_MAX);
    (Search { wanted, found }, findings)
}

impl Search {
    /// Passes a peer on, if the search is for this peer.
    pub(crate) fn tell(&self, peer: PeerId, addresses: &[Multiaddr]) {
        if self.wanted.is_none_or(|wanted| wanted == peer) && !addresses.is_empty() {
            // The channel is full: the caller already has more peers than it can try.
            drop(self.found.try_send(Ok(Found { peer, addresses: addresses.to_vec() })));
        }
    }

    /// The one peer that is looked for. `None` if all are.
    pub(crate) const fn wanted(&self) -> Option<PeerId> {
        self.wanted
    }

    /// Ends the search with the reason why it can find nothing more.
    pub(crate) fn fail(self, reason: impl Into<String>) {
        drop(self.found.try_send(Err(reason.into())));
    }

    /// Whether the caller has gone.
    pub(crate) fn is_over(&self) -> bool {
        self.found.is_closed()
    }
}
