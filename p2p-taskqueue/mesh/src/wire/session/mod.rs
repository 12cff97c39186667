//! The session: many requests in flight on one stream, in both directions.
//!
//! ```text
//!  callers ── Session (handle) ──▶ shared: calls by id, queue ──▶ Driver ──▶ stream
//!     ▲                                                             │ ▲
//!     └──────────────── answers, by id ◀────────────────────────────┘ └── Jobs: what the peer asked
//! ```
//!
//! One driver owns the stream and the peer's jobs. In each turn it reads the frames that have come, runs the jobs,
//! takes the calls that callers have queued, and writes everything at once.
//!
//! Back-pressure: reading never stops, so two ends that both write cannot wait for each other. While the peer does not
//! read, its jobs are not run. The requests that it may have in flight are bounded in number and in bytes. The peer is
//! disconnected when the answers that it does not read pile up all the same, or when it reads nothing for half a
//! minute.
//!
//! Many requests of one [kind](taskqueue_api::RequestKind) do not keep out the others: each kind has its own bound at
//! both ends. Requests that keep a lease are run and written ahead of everything else.

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
