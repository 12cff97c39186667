use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The identity of a task: 128 random bits, written as 32 lower-case hex digits (clause T9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String", extend("pattern" = "^[0-9a-f]{32}$")))]
#[serde(try_from = "String", into = "String")]
pub struct TaskId([u8; 16]);

impl TaskId {
    /// Draws a new id from the operating system's random source.
    ///
    /// # Errors
    ///
    /// The operating system's error when it has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Builds the id from its bytes, as the store keeps them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Borrows the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(data_encoding::HEXLOWER.encode_mut_str(&self.0, &mut [0; 2 * size_of::<Self>()]))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

impl FromStr for TaskId {
    type Err = ParseTaskIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        let encoding = data_encoding::HEXLOWER;
        match encoding.decode_len(text.len()) {
            Ok(16) => {}
            _ => return Err(ParseTaskIdError),
        }
        encoding.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| ParseTaskIdError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for TaskId {
    type Error = ParseTaskIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        data_encoding::HEXLOWER.encode(&id.0)
    }
}

/// A text that is not a task id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task id is 32 lower-case hex digits")]
pub struct ParseTaskIdError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let id = TaskId::random().unwrap();
        let text = id.to_string();
        assert_eq!(text.len(), 32);
        assert_eq!(text.parse::<TaskId>(), Ok(id));
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in ["", "00", "0123456789ABCDEF0123456789ABCDEF", "zz23456789abcdef0123456789abcdef"] {
            assert_eq!(text.parse::<TaskId>(), Err(ParseTaskIdError), "{text}");
        }
    }
}
