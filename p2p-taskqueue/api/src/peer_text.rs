//! Reads and writes the text of a peer id.

use std::cell::RefCell;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

use super::place::parse_peer_id;
use crate::PeerId;

pub(crate) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    LAST.with_borrow_mut(|last| match last {
        Some((of, text)) if of == peer => serializer.serialize_str(text),
        _ => serializer.serialize_str(&last.insert((*peer, peer.to_base58())).1),
    })
}

thread_local! {
    /// The peer that was written last. The next one is mostly the same, because records name the node that keeps them.
    /// Writing the text anew would take 4 µs of the 57 µs that a submit costs.
    static LAST: RefCell<Option<(PeerId, String)>> = const { RefCell::new(None) };
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    parse_peer_id(&text).map_err(D::Error::custom)
}

/// The same for a peer id that may be absent.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::super::place::parse_peer_id;
    use crate::PeerId;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(peer: &Option<PeerId>, serializer: S) -> Result<S::Ok, S::Error> {
        match peer {
            Some(peer) => super::serialize(peer, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PeerId>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|text| parse_peer_id(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, Deserialize)]
    struct Of(#[serde(with = "super")] PeerId);

    #[test]
    fn each_peer_is_written_as_itself() {
        let (a, b) = (PeerId::random(), PeerId::random());
        for peer in [a, a, b, a] {
            let text = serde_json::to_string(&Of(peer)).unwrap();
            assert_eq!(text, format!("\"{peer}\""));
            assert_eq!(serde_json::from_str::<Of>(&text).unwrap(), Of(peer));
        }
    }

    #[test]
    fn what_is_no_peer_id_is_refused() {
        for text in ["", "1", "0OIl", "12D3KooW", "Qm\u{e9}", &"1".repeat(96), &"z".repeat(96), "not a peer"] {
            let refused = serde_json::from_value::<Of>(text.into()).unwrap_err().to_string();
            assert_eq!(refused, text.parse::<PeerId>().unwrap_err().to_string(), "{text}");
        }
    }
}
