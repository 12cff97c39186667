//! Peer ids and addresses as texts.
//!
//! The time to read one grows with the square of its length: half a minute for the longest text that fits into a
//! request. So a text that is longer than any valid one is not parsed.

use std::borrow::Cow;

use crate::{Multiaddr, PeerId};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The reason why a text is not accepted as a peer id or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlaceError(String);

/// Reads a peer id.
///
/// # Errors
///
/// [`PlaceError`] when the text is not a peer id, or is longer than any peer id.
pub fn parse_peer_id(text: &str) -> Result<PeerId, PlaceError> {
    check_len(text, PEER_TEXT_BYTES_MAX)?;
    text.parse().map_err(|error: <PeerId as std::str::FromStr>::Err| PlaceError(error.to_string()))
}

/// Reads an address.
///
/// # Errors
///
/// [`PlaceError`] when the text is not an address, or is longer than 1,024 bytes.
pub fn parse_address(text: &str) -> Result<Multiaddr, PlaceError> {
    check_len(text, ADDRESS_TEXT_BYTES_MAX)?;
    text.parse().map_err(|error: multiaddr::Error| PlaceError(error.to_string()))
}

pub(super) fn some_peer_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PeerId>, D::Error> {
    some(deserializer, parse_peer_id)
}

pub(super) fn some_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Multiaddr>, D::Error> {
    some(deserializer, parse_address)
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Multiaddr>, D::Error> {
    let texts = Vec::<Cow<'de, str>>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_address(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn some<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, PlaceError>,
) -> Result<Option<T>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    let read = |text: Cow<'_, str>| {
        parse(&text).map_err(|error| {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            D::Error::custom(format_args!("{shown:?}: {error}"))
        })
    };
    text.map(read).transpose()
}

fn check_len(text: &str, bytes_max: usize) -> Result<(), PlaceError> {
    if text.len() > bytes_max {
        return Err(PlaceError(format!("{} bytes, the longest has {bytes_max}", text.len())));
    }
    Ok(())
}

/// The longest text of a peer id. The longest multihash that a peer id can hold has 66 bytes.
pub(super) const PEER_TEXT_BYTES_MAX: usize = 96;

/// The longest text of an address: a relay's address by name, the peer's address behind it, and some reserve. An
/// address of this length is read in microseconds.
const ADDRESS_TEXT_BYTES_MAX: usize = 1_024;

/// How many characters of a refused text an error shows: enough to recognise it.
const SHOWN_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Discover, Peer, Submit, Target};

    fn refuses<T: serde::de::DeserializeOwned>(name: &str, before: &str) {
        let text = format!("{before}{}", "2".repeat(1024 * 1024));
        let request =
            serde_json::json!({ "task_type": "t", "connected": true, "peer_id": PeerId::random(), name: text });
        let since = Instant::now();
        let read = serde_json::from_value::<T>(request);
        let error = read.map(drop).unwrap_err().to_string();
        assert!(error.contains("the longest has"), "{name}: {error}");
        assert!(since.elapsed() < Duration::from_secs(5), "{name} took {:?}", since.elapsed());
    }

    #[test]
    fn what_is_too_long_is_refused_without_being_read() {
        refuses::<Submit>("pin_to", "");
        refuses::<Target>("remote_peer_id", "");
        refuses::<Target>("remote_multiaddr", "/p2p/");
        refuses::<Discover>("peer_id", "");
        refuses::<Discover>("multiaddr", "/ip4/127.0.0.1/p2p/");
        refuses::<Peer>("peer_id", "");
    }

    #[test]
    fn what_others_write_is_read() {
        let peer = PeerId::random();
        assert_eq!(parse_peer_id(&peer.to_string()), Ok(peer));
        let longest =
            format!("/dns4/{0}/tcp/65535/wss/p2p/{peer}/p2p-circuit/dns4/{0}/tcp/1/p2p/{peer}", "a".repeat(253));
        assert_eq!(parse_address(&longest).unwrap().to_string(), longest);
    }
}
