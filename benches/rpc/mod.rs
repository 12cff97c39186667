//! The parts of the benchmark of the wire.

mod ask;
pub(crate) mod floor;
pub(crate) mod latency;
mod machine;
pub(crate) mod rates;
pub(crate) mod runtimes;
mod turns;
mod wake;

pub(crate) use ask::{Place, cycles, many, one_by_one, status, submits};
pub(crate) use machine::{Pair, Transport};
pub(crate) use turns::{Latency, Rate, rates_in_turns, times_in_turns};

use std::sync::Arc;

use p2p_taskqueue::{Caller, Json, TaskQueue, api::Submit};

pub(crate) use crate::report::{Goal, Lines, Times};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Queue = Arc<dyn TaskQueue>;

/// The caller of all requests.
pub(crate) const ME: Caller = Caller::Local;

/// The size of a payload as JSON, in bytes.
const PAYLOAD_BYTES: usize = 256;

/// The number of clients that ask at once, where many do.
pub(crate) const IN_FLIGHT: usize = 64;

pub(crate) fn submit(task_type: &str) -> Submit {
    Submit::new(task_type, Json::from_text(&"x".repeat(PAYLOAD_BYTES - 2)))
}
