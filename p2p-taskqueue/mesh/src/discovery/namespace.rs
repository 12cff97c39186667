//! The name under which the nodes of one mesh look for each other at places that anybody may ask.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use libp2p::{PeerId, kad::RecordKey, rendezvous};
use sha2::Sha256;
use taskqueue_api::QueueError;

use crate::identity::MeshSecret;

/// Keeps the name from being taken for another use of the same secret.
const LABEL: &[u8] = b"taskmesh namespace, version 1";

/// 128 bits: nobody guesses it, and it is short in a log.
const DERIVED_CHARS: usize = 32;

/// A configured name: room for a word or two.
const NAMESPACE_BYTES_MAX: usize = 64;

/// The name of a mesh. It is derived from the mesh secret, so it tells a stranger nothing about the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace(String);

impl Namespace {
    /// Derives the name from the secret.
    pub(crate) fn of(secret: &MeshSecret) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is a key");
        mac.update(LABEL);
        let mut name = HEXLOWER.encode(&mac.finalize().into_bytes());
        name.truncate(DERIVED_CHARS);
        Self(name)
    }

    /// A name from the configuration.
    pub(super) fn configured(name: String) -> Result<Self, QueueError> {
        if name.len() > NAMESPACE_BYTES_MAX {
            return Err(QueueError::over_limit("namespace", name.len(), NAMESPACE_BYTES_MAX, "bytes"));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(QueueError::invalid("namespace", "must be letters, digits, and any of - _ ."));
        }
        Ok(Self(name))
    }

    /// The name as rendezvous points take it. `None` if it is too long for them, which the bound rules out.
    pub(crate) fn at_points(&self) -> Option<rendezvous::Namespace> {
        rendezvous::Namespace::new(self.0.clone()).ok()
    }

    /// The key in the hash table under which the members of the mesh are found.
    pub(crate) fn members_key(&self) -> RecordKey {
        RecordKey::new(&format!("/taskmesh/{}", self.0))
    }

    /// The key under which the record of the peer is found.
    pub(crate) fn peer_key(&self, peer: &PeerId) -> RecordKey {
        RecordKey::new(&format!("/taskmesh/{}/{peer}", self.0))
    }

    /// The peer whose key this is, if the key belongs to this mesh.
    pub(super) fn peer_of(&self, key: &RecordKey) -> Option<PeerId> {
        let text = std::str::from_utf8(key.as_ref()).ok()?;
        text.strip_prefix("/taskmesh/")?.strip_prefix(&*self.0)?.strip_prefix('/')?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use taskqueue_api::ErrorCode;

    use super::*;

    #[test]
    fn the_name_of_a_mesh_follows_from_its_secret_and_stays_the_same() {
        let name = Namespace::of(&MeshSecret::from_bytes([1; 32]));
        // Made with another implementation of HMAC-SHA256: nodes of every version must agree on it.
        assert_eq!(name.0, "08fff094c2573267a0274a018ce0d87f");
        assert_ne!(name, Namespace::of(&MeshSecret::from_bytes([2; 32])));
    }

    #[test]
    fn a_key_leads_back_to_its_peer_in_its_own_mesh_only() {
        let (name, other) = (Namespace("garden".to_owned()), Namespace("gard".to_owned()));
        let peer = PeerId::random();
        assert_eq!(name.peer_of(&name.peer_key(&peer)), Some(peer));
        assert_eq!(other.peer_of(&name.peer_key(&peer)), None);
        assert_eq!(name.peer_of(&name.members_key()), None);
        assert_eq!(name.peer_of(&RecordKey::new(&[0xff_u8; 4])), None);
    }

    #[test]
    fn a_configured_name_is_short_and_plain() {
        assert!(Namespace::configured("home-2".to_owned()).is_ok());
        for (name, code) in [
            (String::new(), ErrorCode::InvalidArgument),
            ("a/b".to_owned(), ErrorCode::InvalidArgument),
            ("x".repeat(65), ErrorCode::LimitExceeded),
        ] {
            assert_eq!(Namespace::configured(name).unwrap_err().code, code);
        }
    }
}
