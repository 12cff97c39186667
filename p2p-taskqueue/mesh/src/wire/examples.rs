//! The exchanges of `PROTOCOL.md`, between two nodes whose keys everybody can make.

use libp2p::PeerId;
use taskqueue_api::{
    Request, Response,
    testing::exchanges::{self, Cast},
};

use crate::{Identity, MeshSecret, Ticket};

/// The dialler of the examples, and the listener that keeps the tasks.
pub(crate) fn peers() -> (PeerId, PeerId) {
    (identity(1).peer_id(), identity(2).peer_id())
}

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes([seed; 32])
}

/// A request for every operation, in the order of the names, and at the end one that is passed on; each with its answer.
pub(crate) fn exchanges() -> Vec<(Request, Response)> {
    let (dialler, listener) = peers();
    let addresses = vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap()];
    let ticket = Ticket::new(listener, addresses, MeshSecret::from_bytes([7; 32])).to_text();
    exchanges::exchanges(&Cast { dialler, listener, ticket })
}
