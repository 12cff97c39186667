use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    key::MeshId,
    limits::SECRETS_MAX,
    signed::{Signed, Signer, SigningKey, Statement},
};
use crate::MeshSecret;

/// Says which mesh secret is in use, without telling it: nodes that hear of a newer one ask for it, and check what they
/// are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretNote {
    pub(crate) mesh: MeshId,
    /// Rises with every secret that is drawn.
    pub(crate) generation: u64,
    /// A digest of the secret, in hexadecimal. The secret has 256 random bits, so nobody finds it by trying.
    digest: String,
    pub(crate) by: Signer,
}

impl SecretNote {
    /// Signs that this secret is in use from this generation on.
    pub(crate) fn sign(
        mesh: MeshId,
        generation: u64,
        secret: &MeshSecret,
        key: SigningKey<'_>,
    ) -> Option<Signed<Self>> {
        Signed::new(Self { mesh, generation, digest: digest(secret), by: key.signer() }, key)
    }

    /// Tells whether this is the secret that the note is about.
    pub(crate) fn is_of(&self, secret: &MeshSecret) -> bool {
        self.digest == digest(secret)
    }
}

/// Returns the digest of a secret, as a note about it has it.
pub(crate) fn digest(secret: &MeshSecret) -> String {
    HEXLOWER.encode(&Sha256::new().chain_update(DIGEST_LABEL).chain_update(secret.as_bytes()).finalize())
}

/// Keeps the digest from being one that is used for something else.
const DIGEST_LABEL: &[u8] = b"taskmesh secret digest, version 1";

impl Statement for SecretNote {
    const LABEL: &'static [u8] = b"taskmesh secret, version 1";

    fn mesh(&self) -> MeshId {
        self.mesh
    }

    fn signer(&self) -> Signer {
        self.by
    }

    type Rank = u64;

    fn rank(&self) -> u64 {
        self.generation
    }

    fn check(&self) -> Result<(), String> {
        if self.generation == 0 {
            return Err("generation: begins at 1".to_owned());
        }
        if self.digest.len() != 64 {
            return Err("digest: is 64 hexadecimal digits".to_owned());
        }
        Ok(())
    }
}

/// The secrets of the door of a mesh that a node holds, the newest first.
///
/// A secret before the newest one opens the door only as far as the exchange of entries, so that a machine that was away
/// while the secret was drawn anew comes back. A removed machine holds such a secret too, and gets no further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secrets {
    newest: Kept,
    /// In order, too.
    older: Vec<Kept>,
}

/// A secret and its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) generation: u64,
    pub(crate) secret: MeshSecret,
}

impl Secrets {
    pub(crate) const fn new(generation: u64, secret: MeshSecret) -> Self {
        Self { newest: Kept { generation, secret }, older: Vec::new() }
    }

    /// Returns the newest secret.
    pub(crate) const fn newest(&self) -> &Kept {
        &self.newest
    }

    /// Returns all secrets, the newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &MeshSecret> {
        std::iter::once(&self.newest).chain(&self.older).map(|kept| &kept.secret)
    }

    /// Adds the secret that is in use now. The oldest one of too many is dropped.
    pub(crate) fn add(&mut self, generation: u64, secret: MeshSecret) {
        self.older.retain(|kept| kept.secret != secret);
        self.older.insert(0, std::mem::replace(&mut self.newest, Kept { generation, secret }));
        self.older.truncate(SECRETS_MAX - 1);
    }

    /// Adds a secret that is not in use, and opens the door like one that was.
    pub(crate) fn add_older(&mut self, generation: u64, secret: MeshSecret) {
        self.older.insert(0, Kept { generation, secret });
        self.older.truncate(SECRETS_MAX - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_secrets_are_kept_in_order() {
        let secret = |generation: u64| MeshSecret::from_bytes([u8::try_from(generation).unwrap(); 32]);
        let bytes = |secrets: &Secrets| secrets.all().map(|secret| secret.as_bytes()[0]).collect::<Vec<_>>();
        let mut secrets = Secrets::new(2, secret(2));
        secrets.add(3, secret(3));
        assert_eq!((bytes(&secrets), secrets.newest().generation), (vec![3, 2], 3));
        (4..40).for_each(|generation| secrets.add(generation, secret(generation)));
        assert_eq!(bytes(&secrets), (24..40).rev().collect::<Vec<u8>>());
        let text = serde_json::to_string(&secrets).unwrap();
        assert_eq!(serde_json::from_str::<Secrets>(&text).unwrap(), secrets);
        assert!(!format!("{secrets:?}").contains("39, 39"));
    }
}
