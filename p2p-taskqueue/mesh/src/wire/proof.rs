//! The proof that an end knows a secret of the mesh, or the secret of a ticket.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use libp2p::PeerId;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::{identity::MeshSecret, members::TicketSecret};

/// The start of the HMAC's input. It separates the proof from other uses of the same secret.
pub(super) const MESH_LABEL: &[u8] = b"taskmesh mesh proof, version 2";
pub(super) const TICKET_LABEL: &[u8] = b"taskmesh ticket proof, version 1";
pub(super) const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;

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

    /// Returns both values of a pair with that of the dialler first.
    pub(super) const fn in_order<T: Copy>(self, ours: T, theirs: T) -> (T, T) {
        match self {
            Self::Dialer => (ours, theirs),
            Self::Listener => (theirs, ours),
        }
    }
}

/// What both ends of one connection know, and what no other connection has. In both pairs the dialler's value comes
/// first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    pub(super) nonces: ([u8; NONCE_BYTES], [u8; NONCE_BYTES]),
    pub(super) peers: (PeerId, PeerId),
}

/// The proof of one end. Two proofs are compared in the same time wherever they differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof([u8; PROOF_BYTES]);

impl Proof {
    /// Returns the proof of the end with this role that it knows a secret of the mesh.
    pub(super) fn of_mesh(secret: &MeshSecret, role: Role, binding: &Binding) -> Self {
        Self::new(secret.as_bytes(), MESH_LABEL, role, binding)
    }

    /// Returns the proof of the end with this role that it knows the secret of a ticket.
    pub(super) fn of_ticket(secret: &TicketSecret, role: Role, binding: &Binding) -> Self {
        Self::new(secret.as_bytes(), TICKET_LABEL, role, binding)
    }

    fn new(key: &[u8], label: &[u8], role: Role, binding: &Binding) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
        mac.update(label);
        mac.update(match role {
            Role::Dialer => b"dialer..",
            Role::Listener => b"listener",
        });
        let Binding { nonces, peers } = binding;
        mac.update(&nonces.0);
        mac.update(&nonces.1);
        // The length of a peer id varies. Without the lengths, two different pairs of ids could give the same bytes.
        for peer in [peers.0.to_bytes(), peers.1.to_bytes()] {
            mac.update(&(peer.len() as u64).to_be_bytes());
            mac.update(&peer);
        }
        Self(mac.finalize().into_bytes().into())
    }

    pub(super) fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    pub(super) const fn from_bytes(bytes: [u8; PROOF_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
