//! The identity of a node, and the secret that its mesh shares.

use std::fmt;

use data_encoding::HEXLOWER;
use libp2p::{PeerId, identity::Keypair};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;

use crate::members::hex;

/// An Ed25519 key that is kept as its secret half.
#[derive(Clone)]
pub(crate) struct KeptKey {
    secret: [u8; Self::BYTES],
    keypair: Keypair,
}

impl KeptKey {
    pub(crate) const BYTES: usize = 32;

    /// Draws a key from the operating system's random source.
    ///
    /// # Errors
    ///
    /// Fails when the operating system's random source fails.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; Self::BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self::from_secret_bytes(secret))
    }

    #[expect(clippy::expect_used, reason = "the only failure is a length other than 32")]
    pub(crate) fn from_secret_bytes(secret: [u8; Self::BYTES]) -> Self {
        Self { keypair: Keypair::ed25519_from_bytes(secret).expect("any 32 bytes are an Ed25519 secret key"), secret }
    }

    pub(crate) const fn secret_bytes(&self) -> &[u8; Self::BYTES] {
        &self.secret
    }

    pub(crate) const fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

/// A node's identity: an Ed25519 key. The peer id follows from the key, so it stays the same over restarts when the key
/// is kept.
#[derive(Clone)]
pub struct Identity {
    key: KeptKey,
    peer_id: PeerId,
}

impl Identity {
    /// The length of the secret key in bytes.
    pub const BYTES: usize = KeptKey::BYTES;

    /// Makes a new identity from the operating system's random source.
    ///
    /// # Errors
    ///
    /// Fails when the operating system's random source fails.
    pub fn generate() -> Result<Self, getrandom::Error> {
        KeptKey::generate().map(Self::of)
    }

    /// Builds the identity from its secret key, as [`secret_bytes`](Self::secret_bytes) returns it.
    #[must_use]
    pub fn from_secret_bytes(secret: [u8; Self::BYTES]) -> Self {
        Self::of(KeptKey::from_secret_bytes(secret))
    }

    fn of(key: KeptKey) -> Self {
        Self { peer_id: key.keypair().public().to_peer_id(), key }
    }

    /// Returns the secret key. Anyone who has it can act as this node.
    #[must_use]
    pub const fn secret_bytes(&self) -> [u8; Self::BYTES] {
        *self.key.secret_bytes()
    }

    /// Returns the peer id, the public name that follows from the key.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    pub(crate) const fn keypair(&self) -> &Keypair {
        self.key.keypair()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer_id)
    }
}

/// The secret of the door of a mesh, which its members share. It hides from strangers that there is a mesh, and lets
/// nobody in by itself.
///
/// It travels only to members, over an encrypted connection. `Debug` does not show it. A comparison takes the same time
/// wherever two secrets differ.
#[derive(Clone)]
pub(crate) struct MeshSecret([u8; Self::BYTES]);

impl MeshSecret {
    pub(crate) const BYTES: usize = 32;

    /// Draws a secret from the operating system's random source.
    ///
    /// # Errors
    ///
    /// Fails when the operating system's random source fails.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; Self::BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(secret))
    }

    pub(crate) const fn from_bytes(secret: [u8; Self::BYTES]) -> Self {
        Self(secret)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl PartialEq for MeshSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for MeshSecret {}

impl Serialize for MeshSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for MeshSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex(deserializer).map(Self)
    }
}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_bytes() {
        let identity = Identity::generate().unwrap();
        let again = Identity::from_secret_bytes(identity.secret_bytes());
        assert_eq!(again.peer_id(), identity.peer_id());
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = MeshSecret::from_bytes([7; 32]);
        let identity = Identity::from_secret_bytes([7; 32]);
        assert_eq!(format!("{secret:?}"), "MeshSecret(..)");
        assert!(!format!("{identity:?}").contains("7, 7"));
    }
}
