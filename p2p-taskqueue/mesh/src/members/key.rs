use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey, ed25519},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::Sha256;

use crate::{
    checked_text::{self, TextError},
    identity::{KeptKey, MeshSecret},
};

/// The name of a mesh: the public half of its root key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MeshId([u8; Self::BYTES]);

impl MeshId {
    pub(crate) const BYTES: usize = 32;

    pub(crate) const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Tells whether the root key of this mesh made the signature. Bytes that are not a public key sign nothing.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519::PublicKey::try_from_bytes(&self.0).is_ok_and(|key| key.verify(message, signature))
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshId({self})")
    }
}

/// The error of a text that is not the name of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a mesh is 64 hexadecimal digits")]
pub(crate) struct ParseMeshIdError;

impl FromStr for MeshId {
    type Err = ParseMeshIdError;

    fn from_str(text: &str) -> Result<Self, ParseMeshIdError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseMeshIdError)?;
        bytes.try_into().map(Self).map_err(|_| ParseMeshIdError)
    }
}

impl Serialize for MeshId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MeshId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The key that decides who belongs to a mesh. It is on the machine that began the mesh, and in the safe place where its
/// owner keeps a copy. `Debug` does not show it.
#[derive(Clone)]
pub struct RootKey(KeptKey);

impl RootKey {
    /// The length of the secret half in bytes.
    pub const BYTES: usize = KeptKey::BYTES;

    /// Makes the key of a new mesh from the operating system's random source.
    ///
    /// # Errors
    ///
    /// Fails when the operating system's random source fails.
    pub fn generate() -> Result<Self, getrandom::Error> {
        KeptKey::generate().map(Self)
    }

    /// Builds the key from its secret half, as [`secret_bytes`](Self::secret_bytes) returns it.
    #[must_use]
    pub fn from_secret_bytes(secret: [u8; Self::BYTES]) -> Self {
        Self(KeptKey::from_secret_bytes(secret))
    }

    /// Returns the secret half. Whoever has it decides who belongs to the mesh.
    #[must_use]
    pub const fn secret_bytes(&self) -> [u8; Self::BYTES] {
        *self.0.secret_bytes()
    }

    /// Returns the text for a safe place, which [`FromStr`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        checked_text::write(RECOVERY, RECOVERY_VERSION, self.0.secret_bytes())
    }

    /// Returns the first secret of the mesh.
    pub(crate) fn first_secret(&self) -> MeshSecret {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.secret_bytes()).expect("any length is a key");
        mac.update(FIRST_SECRET_LABEL);
        MeshSecret::from_bytes(mac.finalize().into_bytes().into())
    }

    /// Returns the name of the mesh, in hexadecimal: the public half.
    #[must_use]
    pub fn mesh_name(&self) -> String {
        self.mesh().to_string()
    }

    /// Returns the name of the mesh whose root key this is.
    #[expect(clippy::expect_used, reason = "the key was made as one of Ed25519")]
    pub(crate) fn mesh(&self) -> MeshId {
        MeshId(self.keypair().public().try_into_ed25519().expect("an Ed25519 key").to_bytes())
    }

    pub(super) const fn keypair(&self) -> &Keypair {
        self.0.keypair()
    }
}

/// The beginning of the text of a root key.
const RECOVERY: &str = "taskmesh-recovery";
const RECOVERY_VERSION: u8 = 1;

/// Keeps the first secret from being one that is used for something else.
const FIRST_SECRET_LABEL: &[u8] = b"taskmesh first secret, version 1";

impl FromStr for RootKey {
    type Err = TextError;

    /// Reads the text of [`to_text`](Self::to_text).
    fn from_str(text: &str) -> Result<Self, TextError> {
        let bytes = checked_text::read(RECOVERY, RECOVERY_VERSION, text)?;
        bytes.try_into().map(Self::from_secret_bytes).map_err(|_| TextError::Damaged)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.mesh())
    }
}

/// Returns the public key of a peer whose id holds it, as the id of every Ed25519 key does.
pub(crate) fn key_in(peer: &PeerId) -> Option<PublicKey> {
    PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok().filter(|key| key.to_peer_id() == *peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_is_named_by_its_root_key() {
        let root = RootKey::generate().unwrap();
        let mesh = RootKey::from_secret_bytes(root.secret_bytes()).mesh();
        assert_eq!(mesh, root.mesh());
        assert_eq!(mesh.to_string().parse(), Ok(mesh));
        assert_eq!(mesh.to_string().len(), 64);
        for text in ["", "00", "zz", &mesh.to_string()[1..]] {
            assert_eq!(text.parse::<MeshId>(), Err(ParseMeshIdError), "{text}");
        }
    }

    #[test]
    fn a_root_key_is_written_down_and_read_again() {
        let root = RootKey::from_secret_bytes([7; 32]);
        assert_eq!(root.to_text().parse::<RootKey>().unwrap().mesh(), root.mesh());
        assert_eq!(root.to_text()[..40].parse::<RootKey>().unwrap_err(), TextError::Damaged);
        assert_eq!("hello".parse::<RootKey>().unwrap_err(), TextError::NotOne);
        assert_ne!(root.first_secret().as_bytes(), &root.secret_bytes());
    }

    #[test]
    fn a_root_key_does_not_show() {
        assert!(!format!("{:?}", RootKey::from_secret_bytes([7; 32])).contains("7, 7"));
    }

    #[test]
    fn the_id_of_an_ed25519_peer_holds_its_key_and_a_made_up_id_holds_none() {
        let keypair = Keypair::generate_ed25519();
        assert_eq!(key_in(&keypair.public().to_peer_id()), Some(keypair.public()));
        assert_eq!(key_in(&PeerId::random()), None);
    }
}
