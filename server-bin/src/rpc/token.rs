use std::{fmt, path::Path};

use anyhow::anyhow;
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq as _;

use crate::{failure::Failure, token_file};

/// The token that clients over HTTP show. It is never printed, and is compared in constant time.
#[derive(Clone)]
pub(crate) struct Token(Box<str>);

impl Token {
    /// Returns a new token, made of random bytes.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness for a token: {error}"))?;
        Ok(Self(HEXLOWER.encode(&bytes).into()))
    }

    /// Reads a token from a file that only its owner can read; `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(None);
        }
        Ok(Some(Self(token_file::read(path)?.into())))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is the token. The time that this takes may reveal the token's length, but not its content.
    pub(super) fn matches(&self, shown: &[u8]) -> bool {
        bool::from(self.0.as_bytes().ct_eq(shown))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The random bytes of a token: as many as a mesh secret has, so nobody can guess it.
const BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_token_is_read_back_and_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.token");
        assert!(Token::read(&path).unwrap().is_none());
        let token = Token::generate().unwrap();
        fs::write(&path, format!("{}\n", token.text())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let read = Token::read(&path).unwrap().unwrap();
        assert!(read.matches(token.text().as_bytes()));
        assert!(!format!("{read:?}").contains(token.text()));
        for other in ["", "0", &token.text()[1..], &Token::generate().unwrap().0] {
            assert!(!read.matches(other.as_bytes()), "{other:?}");
        }
    }
}
