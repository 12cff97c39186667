use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use crate::limits::JSON_DEPTH_MAX;

/// The reason why a JSON value is refused as new content although its text is valid JSON.
///
/// The answer to a list holds the values of many tasks. A reader that stops at one value loses the whole answer. So a
/// value that stops a common reader would harm everybody who lists tasks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// Arrays and objects are nested deeper than [`JSON_DEPTH_MAX`].
    #[error("nested {levels} levels deep, the limit is {JSON_DEPTH_MAX}")]
    TooDeep {
        /// How deep they are nested.
        levels: usize,
    },
    /// An object has a key that Rust's readers use as an internal mark. They would read the object as something else.
    #[error("a key of an object must not begin with {PRIVATE}")]
    PrivateKey,
    /// A number does not fit into a double. I-JSON (RFC 7493, section 2.2) excludes it, because readers treat it
    /// differently.
    #[error("a number in it is larger than a double holds, and common JSON readers stop at that")]
    Number,
    /// A text has half of a surrogate pair. It is not Unicode text, and I-JSON (RFC 7493, section 2.1) excludes it.
    #[error("a text in it has half of a surrogate pair, and common JSON readers stop at that")]
    Surrogate,
}

/// Reads the text with `serde_json` and keeps nothing of it. So `serde_json` can read every text that passes, also
/// inside an answer.
pub(super) fn check(text: &str) -> Result<(), Unreadable> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let Err(error) = Level(0).deserialize(&mut reader) else { return Ok(()) };
    if error.is_data() {
        return Err(match nesting(text) {
            levels if levels > JSON_DEPTH_MAX => Unreadable::TooDeep { levels },
            _ => Unreadable::PrivateKey,
        });
    }
    // The text is valid JSON, so `serde_json` has no other reason of its own to stop.
    Err(if error.to_string().starts_with(BEYOND_DOUBLES) { Unreadable::Number } else { Unreadable::Surrogate })
}

/// Returns the depth of the deepest arrays and objects.
pub(super) fn nesting(text: &str) -> usize {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A value inside this many arrays and objects.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let Self(around) = self;
        if around < JSON_DEPTH_MAX { Ok(Self(around + 1)) } else { Err(E::custom("too deep")) }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while array.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while let Some(Key) = object.next_key()? {
            object.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// A key that is not one of the private ones, whichever way it is escaped.
struct Key;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                if key.starts_with(PRIVATE) { Err(E::custom("a private key")) } else { Ok(Key) }
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The message of `serde_json` about a number that does not fit into a double.
const BEYOND_DOUBLES: &str = "number out of range";

/// The prefix of the private keys. `serde_json` uses them to tell itself the real kind of a value.
const PRIVATE: &str = "$serde_json::private::";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{
        Json,
        testing::odd_json::{self, DEEPEST, nested},
    };

    fn told(text: &str) -> Result<(), Unreadable> {
        Json::parse(text.to_owned()).unwrap().check_readable()
    }

    #[test]
    fn what_is_odd_but_readable_passes() {
        for text in odd_json::kept() {
            assert!(told(&text).is_ok(), "{text}: {:?}", told(&text));
        }
    }

    #[test]
    fn what_readers_stop_at_or_take_for_something_else_is_told() {
        for text in odd_json::refused() {
            let told = told(&text).unwrap_err();
            let is_deep = text.matches(['[', '{']).count() > DEEPEST;
            assert_eq!(matches!(told, Unreadable::TooDeep { .. }), is_deep, "{text}: {told}");
            assert_eq!(matches!(told, Unreadable::PrivateKey), text.contains("serde_json"), "{text}: {told}");
            let is_surrogate = text.contains("\\ud") || text.contains("\\uD");
            assert_eq!(matches!(told, Unreadable::Surrogate), is_surrogate, "{text}: {told}");
        }
        let told = told(&nested(DEEPEST + 7)).unwrap_err();
        assert!(matches!(told, Unreadable::TooDeep { levels } if levels == DEEPEST + 7), "{told}");
    }

    /// The promise is about readers: a value that passes can be read among others, as deep as an answer puts it.
    #[test]
    fn whatever_passes_is_read_within_an_answer() {
        const AROUND: usize = 6;
        for text in odd_json::kept() {
            let answer = format!("{}{text}{}", "[".repeat(AROUND), "]".repeat(AROUND));
            assert!(serde_json::from_str::<Value>(&answer).is_ok(), "{answer}");
        }
    }

    proptest! {
        #[test]
        fn any_text_that_passes_is_read_and_kept(text in odd_json::any_text()) {
            prop_assert!(told(&text).is_ok(), "{text}: {:?}", told(&text));
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            let json = Json::parse(text.clone()).unwrap();
            prop_assert_eq!(serde_json::to_string(&json).unwrap(), text);
        }
    }
}
