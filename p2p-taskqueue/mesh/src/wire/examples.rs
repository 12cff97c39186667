//! The exchanges in `PROTOCOL.md`, between two nodes whose keys are known.

use libp2p::PeerId;
use taskqueue_api::{
    Request, Response,
    testing::exchanges::{self, Cast},
};

use crate::{Identity, RootKey, Ticket, members::TicketSecret};

/// Returns the dialler of the examples, and the listener, which owns the tasks.
pub(crate) fn peers() -> (PeerId, PeerId) {
    (identity(1).peer_id(), identity(2).peer_id())
}

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes([seed; 32])
}

/// Returns a request with its answer for every operation, in the order of [`Request::NAMES`], and one request that is
/// passed on at the end.
pub(crate) fn exchanges() -> Vec<(Request, Response)> {
    let (dialler, listener) = peers();
    let addresses = vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()];
    let ticket =
        Ticket::new(RootKey::from_secret_bytes([3; 32]).mesh(), listener, TicketSecret::from_bytes([9; 16]), addresses)
            .to_text();
    exchanges::exchanges(&Cast { dialler, listener, ticket })
}
