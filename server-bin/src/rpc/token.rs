use std::{
    fmt, fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, anyhow, ensure};
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq as _;

/// What clients over HTTP show; not printed, and compared in constant time.
#[derive(Clone)]
pub(crate) struct Token(Box<str>);

impl Token {
    /// A new one, of 32 random bytes.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness for a token: {error}"))?;
        Ok(Self(HEXLOWER.encode(&bytes).into()))
    }

    /// Reads one that only its user can read; none when there is no such file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let named = || format!("cannot read the token in {}", path.display());
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(named),
        };
        let mode = file.metadata().with_context(named)?.permissions().mode();
        ensure!(mode & OTHERS == 0, "{} can be read by others: run `chmod 600` on it", path.display());
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(named)?;
        let token = text.trim();
        let is_sound = token.len() >= TOKEN_BYTES_MIN
            && text.len() as u64 <= FILE_BYTES_MAX
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(is_sound, "{} holds no token: {TOKEN_BYTES_MIN} or more visible characters", path.display());
        Ok(Some(Self(token.into())))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether the text is the token. Its length may show in the time that this takes, its content does not.
    pub(super) fn matches(&self, shown: &[u8]) -> bool {
        bool::from(self.0.as_bytes().ct_eq(shown))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// As many as a mesh secret has: nobody guesses it.
const BYTES: usize = 32;

/// A token that somebody has chosen and that is shorter can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// A line of text; more is some other file.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// The permissions of the group and of everybody.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_token_is_read_back_and_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.token");
        assert!(Token::read(&path).unwrap().is_none());
        let token = Token::generate().unwrap();
        fs::write(&path, format!("{}\n", token.text())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let read = Token::read(&path).unwrap().unwrap();
        assert!(read.matches(token.text().as_bytes()));
        assert!(!format!("{read:?}").contains(token.text()));
        for other in ["", "0", &token.text()[1..], &Token::generate().unwrap().0] {
            assert!(!read.matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc.token");
        for (content, mode, word) in [
            ("0123456789abcdef", 0o644, "chmod 600"),
            ("0123456789abcde\n", 0o600, "holds no token"),
            ("0123456789 abcdef", 0o600, "holds no token"),
            ("", 0o600, "holds no token"),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = format!("{:#}", Token::read(&path).unwrap_err());
            assert!(error.contains(word) && error.contains("rpc.token"), "{content:?}: {error}");
        }
    }
}
