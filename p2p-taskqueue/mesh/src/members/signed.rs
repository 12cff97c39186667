use std::cmp::Ordering;

use data_encoding::HEXLOWER;
use libp2p::{PeerId, identity::Keypair};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{
    key::{MeshId, RootKey, key_in},
    limits::SIGNED_BYTES_MAX,
};

/// What is signed by the root key or by an admin.
pub(crate) trait Statement: Serialize + DeserializeOwned {
    /// The beginning of the signed bytes. It keeps a signature of one kind of statement from being used for another.
    const LABEL: &'static [u8];

    fn mesh(&self) -> MeshId;

    fn signer(&self) -> Signer;

    /// What makes a statement newer than another one of the same signer about the same.
    type Rank: Ord;

    fn rank(&self) -> Self::Rank;

    /// Checks what the signature does not: bounds and forms of the fields.
    fn check(&self) -> Result<(), String>;
}

/// Who signed a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Signer {
    Root,
    /// An admin, in the term that began with this version of its own entry. A machine that is made an admin again has a
    /// new term, so what it signed before its removal does not count again.
    Admin {
        peer: PeerId,
        term: u64,
    },
}

impl Serialize for Signer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Root => serializer.serialize_str(ROOT),
            Self::Admin { peer, term } => (peer, term).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Signer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Admin(PeerId, u64),
            Root(Root),
        }
        #[derive(Deserialize)]
        enum Root {
            #[serde(rename = "root")]
            Root,
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Admin(peer, term) => Self::Admin { peer, term },
            Form::Root(Root::Root) => Self::Root,
        })
    }
}

const ROOT: &str = "root";

/// A key that signs statements.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SigningKey<'a> {
    Root(&'a RootKey),
    Admin { keypair: &'a Keypair, term: u64 },
}

impl SigningKey<'_> {
    pub(super) fn signer(&self) -> Signer {
        match self {
            Self::Root(_) => Signer::Root,
            Self::Admin { keypair, term } => Signer::Admin { peer: keypair.public().to_peer_id(), term: *term },
        }
    }

    const fn keypair(&self) -> &Keypair {
        match self {
            Self::Root(key) => key.keypair(),
            Self::Admin { keypair, .. } => keypair,
        }
    }
}

/// A statement as it travels and is stored. Nobody has checked the signature yet.
pub(crate) use taskqueue_api::SignedText as Unverified;

/// A statement whose signature was made by the key that it names.
///
/// Whether that key may sign such a statement is for the [`Roster`](super::roster::Roster) to decide.
#[derive(Debug, Clone)]
pub(crate) struct Signed<T> {
    statement: T,
    source: Unverified,
}

/// The reason why a statement is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignedError {
    #[error("it is larger than {SIGNED_BYTES_MAX} bytes")]
    Size,
    #[error("it cannot be read: {0}")]
    Form(String),
    #[error("it is of another mesh")]
    OtherMesh,
    #[error("its signature is not that of the key that it names")]
    Signature,
}

impl<T: Statement> Signed<T> {
    /// Signs a statement. `None` when it is over a bound or cannot be signed.
    pub(super) fn new(statement: T, key: SigningKey<'_>) -> Option<Self> {
        let text = serde_json::to_string(&statement).ok()?;
        if text.len() > SIGNED_BYTES_MAX || statement.check().is_err() || statement.signer() != key.signer() {
            return None;
        }
        let signature = HEXLOWER.encode(&key.keypair().sign(&signed_bytes::<T>(&text)).ok()?);
        Some(Self { statement, source: Unverified { text, signature } })
    }

    /// Reads a statement of this mesh and checks its signature, which costs the most and comes last. Returns `None`
    /// without that check for a statement that is not newer than the one that is `known` in its place. The size is
    /// checked before anything is parsed.
    pub(super) fn verify<'a>(
        source: Unverified,
        mesh: MeshId,
        known: impl FnOnce(&T) -> Option<&'a Self>,
    ) -> Result<Option<Self>, SignedError>
    where
        T: 'a,
    {
        if source.text.len() > SIGNED_BYTES_MAX || source.signature.len() != SIGNATURE_CHARS {
            return Err(SignedError::Size);
        }
        let statement: T = serde_json::from_str(&source.text).map_err(|error| SignedError::Form(error.to_string()))?;
        statement.check().map_err(SignedError::Form)?;
        if statement.mesh() != mesh {
            return Err(SignedError::OtherMesh);
        }
        if known(&statement).is_some_and(|known| age(&statement, &source.text) <= known.age()) {
            return Ok(None);
        }
        let signature = HEXLOWER.decode(source.signature.as_bytes()).map_err(|_| SignedError::Signature)?;
        let message = signed_bytes::<T>(&source.text);
        let is_theirs = match statement.signer() {
            Signer::Root => mesh.verify(&message, &signature),
            Signer::Admin { peer, .. } => key_in(&peer).is_some_and(|key| key.verify(&message, &signature)),
        };
        if is_theirs { Ok(Some(Self { statement, source })) } else { Err(SignedError::Signature) }
    }

    fn age(&self) -> (T::Rank, &str) {
        age(&self.statement, &self.source.text)
    }

    /// Orders two statements in the same way on every node, the newer one last.
    pub(super) fn cmp_age(&self, other: &Self) -> Ordering {
        self.age().cmp(&other.age())
    }
}

/// Returns what statements are ordered by: their rank, and then their text, so that no two different ones are equal.
fn age<'a, T: Statement>(statement: &T, text: &'a str) -> (T::Rank, &'a str) {
    (statement.rank(), text)
}

impl<T> Signed<T> {
    pub(crate) const fn get(&self) -> &T {
        &self.statement
    }

    /// Returns the form in which the statement travels.
    pub(crate) const fn source(&self) -> &Unverified {
        &self.source
    }
}

impl<T> PartialEq for Signed<T> {
    /// Two statements are the same when their texts are. The scheme of the signature is deterministic.
    fn eq(&self, other: &Self) -> bool {
        self.source.text == other.source.text
    }
}

impl<T> Eq for Signed<T> {}

fn signed_bytes<T: Statement>(text: &str) -> Vec<u8> {
    [T::LABEL, &[0], text.as_bytes()].concat()
}

/// The length of an Ed25519 signature in hexadecimal.
const SIGNATURE_CHARS: usize = 128;
