//! Bytes as one line of text that a person passes on: a prefix, the digit of a version, and in base 32 the version, the
//! bytes and a checksum.
//!
//! The checksum is the first four bytes of a SHA-256 over all bytes before it. It tells a line that was cut or mistyped
//! from a text that never was one.

use std::cmp::Ordering;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

const CHECKSUM_BYTES: usize = 4;

/// The reason why a text cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text never was one of this kind.
    #[error("it is another kind of text")]
    NotOne,
    /// A part of the text is missing or has changed.
    #[error("it is damaged (its checksum does not match): copy the whole line")]
    Damaged,
    /// A newer version of taskmesh wrote the text.
    #[error("it was made by a newer version: update taskmesh on this machine")]
    Newer,
    /// An older version of taskmesh wrote the text.
    #[error("it was made by an older version: update taskmesh on the machine that made it")]
    Older,
}

/// Writes the bytes as a text that begins with the prefix. The version is from 1 to 9.
pub(crate) fn write(prefix: &str, version: u8, bytes: &[u8]) -> String {
    let mut body = vec![version];
    body.extend_from_slice(bytes);
    let checksum = Sha256::digest(&body);
    body.extend(checksum.iter().take(CHECKSUM_BYTES));
    format!("{prefix}{version}{}", BASE32_NOPAD.encode(&body).to_ascii_lowercase())
}

/// Reads the bytes of a text that begins with the prefix. Letters may be upper case, and the line may be wrapped.
pub(crate) fn read(prefix: &str, version: u8, text: &str) -> Result<Vec<u8>, TextError> {
    // A terminal or a mail program may have wrapped the line.
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let versioned = text.strip_prefix(prefix).ok_or(TextError::NotOne)?;
    let digit = versioned.chars().next().and_then(|digit| digit.to_digit(10)).ok_or(TextError::NotOne)?;
    match digit.cmp(&u32::from(version)) {
        Ordering::Less => return Err(TextError::Older),
        Ordering::Equal => {}
        Ordering::Greater => return Err(TextError::Newer),
    }
    let body = versioned.get(1..).unwrap_or_default();
    let bytes = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).map_err(|_| TextError::Damaged)?;
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TextError::Damaged)?;
    if !Sha256::digest(body).starts_with(checksum) {
        return Err(TextError::Damaged);
    }
    match body.split_first() {
        Some((said, bytes)) if *said == version => Ok(bytes.to_vec()),
        _ => Err(TextError::Damaged),
    }
}
