use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The proof that its holder has the current lease of a task.
///
/// The epoch is raised durably at each start of the store's owner and the counter at each claim, so that no fence is ever
/// issued twice in the life of a store (clause T2). To its holder it is an opaque text; a renewal keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct Fence {
    /// Which start of the store's owner issued it.
    pub epoch: u64,
    /// Which claim of that epoch it belongs to.
    pub counter: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

impl FromStr for Fence {
    type Err = ParseFenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, counter) = text.split_once('.').ok_or(ParseFenceError)?;
        let part = |digits: &str| digits.parse().map_err(|_| ParseFenceError);
        Ok(Self { epoch: part(epoch)?, counter: part(counter)? })
    }
}

impl TryFrom<String> for Fence {
    type Error = ParseFenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fence> for String {
    fn from(fence: Fence) -> Self {
        fence.to_string()
    }
}

/// A text that is not a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a fence: use the text that the claim answered, unchanged")]
pub struct ParseFenceError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let fence = Fence { epoch: 3, counter: u64::MAX };
        assert_eq!(fence.to_string().parse(), Ok(fence));
        assert_eq!("3".parse::<Fence>(), Err(ParseFenceError));
    }
}
