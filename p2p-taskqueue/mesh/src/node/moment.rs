use std::time::{Instant, SystemTime, UNIX_EPOCH};

use runtime_bridge::Runtime;

/// A moment on both clocks. Spans are measured on the monotonic clock, and people are shown the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    /// Wall time, in Unix seconds. No timer depends on it.
    pub(crate) unix_s: f64,
}

impl Moment {
    /// Reads the runtime's clock and the wall clock.
    pub(crate) fn now(runtime: &dyn Runtime) -> Self {
        Self { instant: runtime.now(), unix_s: unix_now() }
    }
}

/// Reads the wall clock, in Unix seconds.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
