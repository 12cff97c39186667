use std::sync::Arc;

use taskqueue_api::{Durability, PeerId};

use super::{Clock, SystemClock};

/// What a store goes by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The peer that keeps the tasks; a claim without a peer of its own is this one's.
    pub owner: PeerId,
    /// The clocks of leases, delays and dates.
    pub clock: Arc<dyn Clock>,
    /// What is known of a change when it is answered. A store in memory is volatile whatever is asked.
    pub durability: Durability,
    /// Bytes of the cache's values with their keys; beyond it those go that were not used for longest.
    pub cache_bytes_max: u64,
}

impl StoreOptions {
    /// Tasks of this peer: on stable storage before they are acknowledged, on the machine's clocks.
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

/// Sixty-four of the largest values, or a hundred thousand small ones: worth its place on any disk.
const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
