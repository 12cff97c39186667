use std::sync::Arc;

use taskqueue_api::{Durability, PeerId};

use super::{Clock, SystemClock};

/// The settings of a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The peer that keeps the tasks. A claim that names no peer counts as a claim of this one.
    pub owner: PeerId,
    /// The clocks for leases, delays and dates.
    pub clock: Arc<dyn Clock>,
    /// The guarantee for a change when it is answered. A store in memory is always volatile, whatever is set here.
    pub durability: Durability,
    /// The most bytes of cached values with their keys. Beyond that, the least recently used values are dropped.
    pub cache_bytes_max: u64,
}

impl StoreOptions {
    /// Makes options for tasks of this peer: they are on stable storage before they are acknowledged, and the machine's
    /// clocks are used.
    #[must_use]
    pub fn new(owner: PeerId) -> Self {
        let clock = Arc::new(SystemClock::new());
        Self { owner, clock, durability: Durability::Synced, cache_bytes_max: CACHE_BYTES_MAX }
    }

    /// The same options with this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The same options with this durability.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// The same options with this bound on the cache, in bytes.
    #[must_use]
    pub fn with_cache_bytes_max(self, cache_bytes_max: u64) -> Self {
        Self { cache_bytes_max, ..self }
    }
}

/// The default bound of the cache: sixty-four of the largest values, or a hundred thousand small ones. Any disk has
/// room for this.
const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
