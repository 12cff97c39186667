use serde::{Deserialize, Serialize};

use super::{
    QueueError,
    check::{Check, content, seconds, text},
    limits::{CACHE_KEY_BYTES_MAX, SPAN_S_MAX},
};
use crate::Json;

/// Reads a value of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheGet {
    /// The key, up to 1,024 bytes.
    pub key: String,
}

/// The answer to a [`CacheGet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheGot {
    /// Whether there is a value; a stored null is one.
    pub hit: bool,
    /// The value, as given; null when there is none.
    #[serde(default)]
    pub value: Json,
}

/// Asks whether the cache has a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheHas {
    /// The key.
    pub key: String,
}

/// The answer to a [`CacheHas`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheHad {
    /// Whether there is a value.
    pub hit: bool,
}

/// Puts a value into the cache, in place of an older one. A full cache drops the least recently used values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheSet {
    /// The key, up to 1,024 bytes.
    pub key: String,
    /// Any JSON value up to 1 MiB, nested up to 100 levels.
    #[serde(default)]
    pub value: Json,
    /// How long it is kept at the most, in seconds; none or 0 is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 316_224_000)))]
    pub ttl_s: Option<f64>,
}

/// The answer to a [`CacheSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheStored {
    /// Older values that had to go to make room.
    pub evicted: u64,
}

/// Removes a value from the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheDelete {
    /// The key.
    pub key: String,
}

/// The answer to a [`CacheDelete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheDeleted {
    /// Whether there was one.
    pub deleted: bool,
}

impl Check for CacheGet {
    fn check(&self) -> Result<(), QueueError> {
        key(&self.key)
    }
}

impl Check for CacheHas {
    fn check(&self) -> Result<(), QueueError> {
        key(&self.key)
    }
}

impl Check for CacheSet {
    fn check(&self) -> Result<(), QueueError> {
        key(&self.key)?;
        content("value", &self.value)?;
        seconds("ttl_s", self.ttl_s, 0.0..=SPAN_S_MAX)
    }
}

impl Check for CacheDelete {
    fn check(&self) -> Result<(), QueueError> {
        key(&self.key)
    }
}

fn key(key: &str) -> Result<(), QueueError> {
    if key.is_empty() {
        return Err(QueueError::invalid("key", "must not be empty"));
    }
    text("key", key, CACHE_KEY_BYTES_MAX)
}
