//! The text of a peer id.
//!
//! It is in every answer and is the scope of every peer's request. Written digit by digit it was a sixth of what a node's
//! thread did for a submit over the wire; five digits at a time take a tenth of that.

use std::{
    cell::RefCell,
    iter::{once, repeat_n},
};

use crate::PeerId;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    LAST.with_borrow_mut(|last| match last {
        Some((of, text)) if of == peer => serializer.serialize_str(text),
        _ => serializer.serialize_str(&last.insert((*peer, to_text(peer))).1),
    })
}

thread_local! {
    /// The peer that was written last, which is mostly the next one, too: records name the node that keeps them.
    static LAST: RefCell<Option<(PeerId, String)>> = const { RefCell::new(None) };
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    // What is not plainly one is for the general parser, which says what is wrong.
    decode(&text)
        .and_then(|bytes| PeerId::from_bytes(&bytes).ok())
        .map_or_else(|| super::place::parse_peer_id(&text), Ok)
        .map_err(D::Error::custom)
}

/// The same as the peer id's `Display`.
pub(super) fn to_text(peer: &PeerId) -> String {
    encode(&peer.to_bytes())
}

fn encode(bytes: &[u8]) -> String {
    // Least significant first, in base [`LIMB`].
    let mut limbs: Vec<u64> = Vec::with_capacity(LIMBS_USUAL);
    let (head, words) = bytes.split_at(bytes.len() % WORD_BYTES);
    for word in once(head).chain(words.chunks_exact(WORD_BYTES)) {
        let mut carry = word.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        for limb in &mut limbs {
            carry += *limb << WORD_BITS;
            *limb = carry % LIMB;
            carry /= LIMB;
        }
        while carry > 0 {
            limbs.push(carry % LIMB);
            carry /= LIMB;
        }
    }
    let mut letters = Vec::with_capacity(limbs.len() * LIMB_DIGITS + bytes.len() / 8);
    for mut limb in limbs {
        for _ in 0..LIMB_DIGITS {
            letters.push(letter(limb % 58));
            limb /= 58;
        }
    }
    let significant = letters.iter().rposition(|letter| *letter != ZERO).map_or(0, |last| last + 1);
    letters.truncate(significant);
    letters.extend(repeat_n(ZERO, bytes.iter().take_while(|byte| **byte == 0).count()));
    letters.reverse();
    String::from_utf8(letters).unwrap_or_default()
}

fn letter(digit: u64) -> u8 {
    usize::try_from(digit).ok().and_then(|digit| ALPHABET.get(digit)).copied().unwrap_or(ZERO)
}

/// None when it is not base58, or too long for a peer id.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    // Least significant first, in base 2³².
    let mut limbs: Vec<u64> = Vec::with_capacity(LIMBS_USUAL);
    let (head, groups) = text.as_bytes().split_at(text.len() % LIMB_DIGITS);
    for group in once(head).chain(groups.chunks_exact(LIMB_DIGITS)) {
        let mut carry = 0;
        for letter in group {
            let digit = DIGITS.get(usize::from(*letter)).copied().filter(|digit| *digit < NO_DIGIT)?;
            carry = carry * 58 + u64::from(digit);
        }
        for limb in &mut limbs {
            carry += *limb * LIMB;
            *limb = carry & WORD_MASK;
            carry >>= WORD_BITS;
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let zeros = text.bytes().take_while(|letter| *letter == ZERO).count();
    let words = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes().into_iter().skip(WORD_BYTES));
    Some(repeat_n(0, zeros).chain(words.skip_while(|byte| *byte == 0)).collect())
}

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// The letter of the digit 0, and of each leading byte 0.
const ZERO: u8 = b'1';

/// Digits that are worked on together: with a word, they fit into 64 bits.
const LIMB_DIGITS: usize = 5;
const LIMB: u64 = 58_u64.pow(5);

const WORD_BYTES: usize = 4;
const WORD_BITS: u32 = 32;
const WORD_MASK: u64 = u32::MAX as u64;

/// Those of the peer id of an Ed25519 key; another one grows.
const LIMBS_USUAL: usize = 11;

/// The longest multihash that a peer id can hold has 66 bytes.
pub(super) const TEXT_BYTES_MAX: usize = 96;

/// Marks a letter that is none of the alphabet's.
const NO_DIGIT: u8 = 58;

/// The digit that a letter stands for.
const DIGITS: [u8; 256] = digits();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler, which checks"
)]
const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        digits[ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, Deserialize)]
    struct Of(#[serde(with = "super")] PeerId);

    #[test]
    fn it_is_the_text_that_others_write_and_read() {
        let named = (0..200).map(|_| Keypair::generate_ed25519().public().to_peer_id());
        for peer in named.chain((0..200).map(|_| PeerId::random())) {
            let text = serde_json::to_string(&Of(peer)).unwrap();
            assert_eq!(text, format!("\"{peer}\""));
            assert_eq!(serde_json::from_str::<Of>(&text).unwrap(), Of(peer));
        }
    }

    #[test]
    fn what_is_no_peer_id_is_refused_as_ever() {
        for text in ["", "1", "0OIl", "12D3KooW", "Qm\u{e9}", &"1".repeat(96), &"z".repeat(96), "not a peer"] {
            let refused = serde_json::from_value::<Of>(text.into()).unwrap_err().to_string();
            assert_eq!(refused, text.parse::<PeerId>().unwrap_err().to_string(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_it(bytes in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..66)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
