use std::{fmt, str::FromStr};

use libp2p::PeerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use taskqueue_api::QueueError;

use super::limits::MACHINE_NAME_BYTES_MAX;
use crate::Identity;

/// The name of a machine, as a person types it: letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
///
/// It is kept in lower case, so that two names never differ in case alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MachineName(String);

/// The reason why a text is not the name of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseNameError {
    /// The text is empty.
    #[error("the name of a machine must not be empty")]
    Empty,
    /// The text is too long.
    #[error("the name of a machine may have up to {MACHINE_NAME_BYTES_MAX} characters")]
    Long,
    /// The text has a character that a name cannot have.
    #[error("the name of a machine is made of letters, digits, - _ and ., and begins with a letter or a digit")]
    Characters,
    /// The text could be taken for a peer id.
    #[error("a name that begins like a peer id would be taken for one: choose another")]
    LikePeerId,
}

impl MachineName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the argument `name` of a request.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a text that cannot be the name of a machine.
    pub(crate) fn chosen(text: &str) -> Result<Self, QueueError> {
        text.parse().map_err(|error| QueueError::invalid("name", error))
    }

    /// Makes a name of the name of a host: characters that a machine's name cannot have become `-`. `None` when nothing
    /// is left.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        let plain: String = host.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
        let mut name = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        name.truncate(MACHINE_NAME_BYTES_MAX);
        name.parse().ok()
    }

    /// Returns the name with `-2`, `-3` and so on behind it, shortened so that it fits.
    pub(crate) fn numbered(&self, number: usize) -> Self {
        let suffix = format!("-{number}");
        let mut name = self.0.clone();
        name.truncate(MACHINE_NAME_BYTES_MAX - suffix.len().min(MACHINE_NAME_BYTES_MAX));
        Self(name + &suffix)
    }
}

/// Returns the name of this host, or one made of the peer id if the host's name cannot be a machine's.
#[must_use]
pub fn host_name(identity: &Identity) -> String {
    name_of_host(identity.peer_id()).to_string()
}

/// Returns the same as a name.
pub(super) fn name_of_host(own: PeerId) -> MachineName {
    let of_peer = || {
        let id = own.to_base58().to_ascii_lowercase();
        let last: String = id.chars().skip(id.len().saturating_sub(8)).collect();
        MachineName(format!("machine-{last}"))
    };
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    // The part behind the first dot is the network's.
    let host = host.split('.').next().unwrap_or_default();
    MachineName::of_host(host).filter(|name| name.as_str() != "localhost").unwrap_or_else(of_peer)
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl FromStr for MachineName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let first = text.chars().next().ok_or(ParseNameError::Empty)?;
        if text.len() > MACHINE_NAME_BYTES_MAX {
            return Err(ParseNameError::Long);
        }
        if !first.is_ascii_alphanumeric() || !text.chars().all(is_plain) {
            return Err(ParseNameError::Characters);
        }
        if PEER_ID_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) {
            return Err(ParseNameError::LikePeerId);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// How peer ids begin: those of Ed25519 keys, and hashes of other keys.
const PEER_ID_BEGINNINGS: [&str; 2] = ["12D3Koo", "Qm"];

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MachineName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MachineName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain_and_no_peer_id() {
        assert_eq!("GPU-box.2".parse::<MachineName>().unwrap().as_str(), "gpu-box.2");
        for (text, error) in [
            ("", ParseNameError::Empty),
            ("-box", ParseNameError::Characters),
            ("gpu box", ParseNameError::Characters),
            ("gpü", ParseNameError::Characters),
            ("12D3KooWbox", ParseNameError::LikePeerId),
            (&"x".repeat(64), ParseNameError::Long),
        ] {
            assert_eq!(text.parse::<MachineName>(), Err(error), "{text}");
        }
    }

    #[test]
    fn every_host_has_a_name_or_none() {
        for (host, name) in [
            ("Gpu-Box", Some("gpu-box")),
            ("anna's laptop", Some("anna-s-laptop")),
            ("_x.local", Some("x.local")),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(MachineName::of_host(host).as_ref().map(MachineName::as_str), name, "{host}");
        }
        assert!(MachineName::of_host(&"h".repeat(300)).is_some());
    }

    #[test]
    fn a_numbered_name_is_still_a_name() {
        let long: MachineName = "x".repeat(63).parse().unwrap();
        for (name, number) in [(&long, 2), (&long, 4_096)] {
            let numbered = name.numbered(number);
            assert_eq!(numbered.as_str().parse(), Ok(numbered.clone()));
            assert!(numbered.as_str().ends_with(&number.to_string()));
        }
    }
}
