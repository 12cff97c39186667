use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;

use super::readable::{self, Unreadable, nesting};
use crate::limits::JSON_DEPTH_READ_MAX;

/// A JSON value that is kept as the text that was given: a payload or a result.
///
/// The queue stores and forwards the text without parsing it into values, so key order and number forms survive. The
/// text is valid JSON, nested at most [`JSON_DEPTH_READ_MAX`] levels.
///
/// New content must also pass [`check_readable`](Self::check_readable). A value from a store or from an older peer's
/// answer need not pass it.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// Takes a JSON text.
    ///
    /// # Errors
    ///
    /// [`JsonError`] when the text is not one JSON value or is nested too deep.
    pub fn parse(text: String) -> Result<Self, JsonError> {
        // The depth is checked first, so that a text that is too deep is never parsed.
        check_depth(&text)?;
        Ok(Self(RawValue::from_string(text).map_err(JsonError::Syntax)?))
    }

    /// Makes a JSON string of a plain text.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self::from_value(&serde_json::Value::String(text.to_owned())).unwrap_or_else(|_| Self::null())
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// [`JsonError`] when the value cannot be written as JSON or is nested too deep.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let raw = serde_json::value::to_raw_value(value).map_err(JsonError::Syntax)?;
        check_depth(raw.get())?;
        Ok(Self(raw))
    }

    /// Reads the value into a type.
    ///
    /// # Errors
    ///
    /// The parser's error when the text does not fit the type.
    pub fn to<'de, T: Deserialize<'de>>(&'de self) -> serde_json::Result<T> {
        serde_json::from_str(self.0.get())
    }

    /// Checks that common JSON readers can read the value, also inside an answer that lists it.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says where they stop.
    pub fn check_readable(&self) -> Result<(), Unreadable> {
        readable::check(self.get())
    }

    /// Borrows the JSON text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Returns the text without the white space between its parts. Strings and numbers keep every character.
    #[must_use]
    pub fn compact(&self) -> String {
        let (mut in_string, mut escaped) = (false, false);
        let keep = |c: &char| {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            in_string || !c.is_ascii_whitespace()
        };
        self.get().chars().filter(keep).collect()
    }

    /// The JSON text.
    #[must_use]
    pub fn into_text(self) -> String {
        Box::<str>::from(self.0).into_string()
    }

    /// The length of the text in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.get().len()
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        check_depth(raw.get()).map_err(D::Error::custom)?;
        Ok(Self(raw))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Json {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "any JSON value" })
    }
}

/// The reason why a text is not accepted as a [`Json`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is not one JSON value.
    #[error("not a JSON value: {0}")]
    Syntax(serde_json::Error),
    /// Arrays and objects are nested deeper than [`JSON_DEPTH_READ_MAX`].
    #[error("nested {levels} levels deep")]
    TooDeep {
        /// How deep they are nested.
        levels: usize,
    },
}

fn check_depth(text: &str) -> Result<(), JsonError> {
    match nesting(text) {
        levels if levels > JSON_DEPTH_READ_MAX => Err(JsonError::TooDeep { levels }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::odd_json::nested;

    #[test]
    fn the_text_is_kept_as_given() {
        let text = r#"{"z":1.50,"a":12345678901234567890123,"s":"[{\"]"}"#;
        let json = Json::parse(text.to_owned()).unwrap();
        assert_eq!(json.get(), text);
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
    }

    #[test]
    fn compact_text_has_no_space_outside_strings() {
        let json = Json::parse("{ \"a b\\\" c\" :\n [ 1.50 , \" \" ] }".to_owned()).unwrap();
        assert_eq!(json.compact(), "{\"a b\\\" c\":[1.50,\" \"]}");
    }

    #[test]
    fn nesting_is_bounded() {
        let too_deep = nested(JSON_DEPTH_READ_MAX + 1);
        assert!(Json::parse(nested(JSON_DEPTH_READ_MAX)).is_ok());
        assert!(serde_json::from_str::<Json>(&too_deep).is_err());
        let told = Json::parse(too_deep).unwrap_err();
        assert!(matches!(told, JsonError::TooDeep { levels } if levels == JSON_DEPTH_READ_MAX + 1), "{told}");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(matches!(Json::parse("{\"a\":".to_owned()), Err(JsonError::Syntax(_))));
        assert!(matches!(Json::parse("1 2".to_owned()), Err(JsonError::Syntax(_))));
    }
}
