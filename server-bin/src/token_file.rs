//! A file that holds one secret.

use std::{fs::File, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, anyhow};

use crate::failure::Failure;

/// Reads a token: one line, in a file that only its owner can read.
///
/// # Errors
///
/// Says what is wrong with the file and how to correct it; never shows its content.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let refused = |problem: String| Failure::Configuration(anyhow!("the token file {shown} {problem}"));
    let unread = || format!("cannot read the token file {shown}");
    let file = File::open(path).with_context(unread)?;
    let metadata = file.metadata().with_context(unread)?;
    if !metadata.is_file() {
        return Err(refused("is no file".to_owned()));
    }
    // The metadata is that of the opened file, so a file that has taken its name meanwhile cannot be confused with it.
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(refused(format!("can be used by others on this machine: chmod 600 {shown}")));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(unread)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(format!("is over the limit of {FILE_BYTES_MAX} bytes")));
    }
    let token = text.trim();
    if token.len() < TOKEN_BYTES_MIN {
        return Err(refused(format!(
            "has a token of {} bytes, which can be guessed: {TOKEN_BYTES_MIN} or more, such as of `openssl rand -hex 32`",
            token.len()
        )));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("has more than one word of printable ASCII: a client shows it in a header".to_owned()));
    }
    Ok(token.to_owned())
}

/// The permission bits of the group and of everybody else.
const OTHERS: u32 = 0o077;

/// The largest token file. A token is one line, so a larger file is something else.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// The shortest token: 64 bits in hexadecimal digits, too many to try out over a network.
const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_is_one_line_of_a_private_file() {
        for mode in [0o600, 0o400] {
            let (_folder, path) = file(b"  0123456789abcdef\n", mode);
            assert_eq!(read(&path).unwrap(), "0123456789abcdef");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        let long = vec![b'x'; 4 * 1024 + 1];
        for (content, mode, word) in [
            (&b"0123456789abcdef"[..], 0o640, "chmod 600"),
            (b"0123456789abcdef", 0o604, "chmod 600"),
            (b"", 0o600, "16 or more"),
            (b"0123456789abcde\n", 0o600, "16 or more"),
            (b"0123456789 abcdef", 0o600, "printable"),
            (b"0123456789abcdef\n0123456789abcdef", 0o600, "printable"),
            (&long, 0o600, "limit"),
            (b"\xff\xfe0123456789abcdef", 0o600, "cannot read"),
        ] {
            let (_folder, path) = file(content, mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("token"), "{word}: {error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("missing")).is_err());
        assert!(read(folder.path()).is_err());
    }
}
