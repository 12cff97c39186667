use std::time::{Instant, SystemTime, UNIX_EPOCH};

use runtime_bridge::Runtime;

/// A moment on both clocks: spans are measured on the one, points in time are shown to people by the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    /// Wall time, in Unix seconds. Nothing waits by it.
    pub(crate) unix_s: f64,
}

impl Moment {
    /// This moment, on the runtime's clock and on the wall's.
    pub(crate) fn now(runtime: &dyn Runtime) -> Self {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { instant: runtime.now(), unix_s }
    }
}
