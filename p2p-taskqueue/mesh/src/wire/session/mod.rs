//! The session: many requests in flight on one stream, in both directions.
//!
//! ```text
//!  callers ── Session (handle) ──▶ shared: calls by id, queue ──▶ Driver ──▶ stream
//!     ▲                                                             │ ▲
//!     └──────────────── answers, by id ◀────────────────────────────┘ └── Jobs: what the peer asked
//! ```
//!
//! One driver owns the stream and the peer's jobs. In each turn it takes what callers have queued, reads what has come, runs
//! the jobs, and writes everything at once.
//!
//! Back-pressure: reading never stops, so that two ends that both write cannot wait for each other. While the peer does not
//! read, its jobs are not run; what it may have in flight is bounded in number and in bytes; and when even the refusals pile
//! up, or nothing moves for half a minute, it is disconnected.
//!
//! No crowd keeps the others out: each [kind](taskqueue_api::RequestKind) of request has a bound of its own at both ends, and what keeps a lease
//! is run and written ahead of everything else.

mod calls;
mod counts;
mod driver;
mod handed_out;
mod handle;
mod jobs;
mod pulse;
mod writer;

pub(crate) use calls::SessionEnd;
pub(crate) use counts::Counts;
pub(crate) use driver::{Agreed, Driver};
pub(crate) use handle::Session;
pub(crate) use jobs::Service;

#[cfg(test)]
mod bystander_tests;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
