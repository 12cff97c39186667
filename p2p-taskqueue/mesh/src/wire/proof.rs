//! The proof that an end knows the mesh secret.

use hmac::{Hmac, KeyInit, Mac};
use libp2p::PeerId;
use sha2::Sha256;

use crate::MeshSecret;

/// The start of the HMAC's input. It separates the proof from other uses of the same secret.
pub(super) const LABEL: &[u8] = b"taskmesh mesh proof, version 1";
pub(super) const NONCE_BYTES: usize = 32;

/// Which end of the connection this node is. Part of the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Dialer,
    Listener,
}

impl Role {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// Computes the proof of the end with this role. In both pairs the dialler's value comes first.
pub(super) fn proof(
    secret: &MeshSecret,
    role: Role,
    nonces: &([u8; NONCE_BYTES], [u8; NONCE_BYTES]),
    peers: &(PeerId, PeerId),
) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is a key");
    mac.update(LABEL);
    mac.update(match role {
        Role::Dialer => b"dialer..",
        Role::Listener => b"listener",
    });
    mac.update(&nonces.0);
    mac.update(&nonces.1);
    // The length of a peer id varies. Without the lengths, two different pairs of ids could give the same bytes.
    for peer in [peers.0.to_bytes(), peers.1.to_bytes()] {
        mac.update(&(peer.len() as u64).to_be_bytes());
        mac.update(&peer);
    }
    mac
}
