//! Where tasks are kept: the [`TaskStore`] trait and its implementation on SQLite.
//!
//! A store runs the decisions of the engine against what it keeps, one at a time, and answers a change only when it is
//! on stable storage. It also keeps the leases' time and wakes whoever waits: there is no polling.

mod backend;
mod clock;
mod error;
#[cfg_attr(not(test), expect(dead_code, reason = "the store over it follows"))]
mod memory;
mod sqlite;
mod task_store;
mod watch;

#[cfg(test)]
mod backend_tests;
#[cfg(test)]
mod conformance;

pub(crate) use backend::*;
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::StoreError;
pub use sqlite::{SqliteStore, StoreOptions};
pub use task_store::{Leased, Page, Submission, TaskStore};
pub use watch::Watch;
pub(crate) use watch::Watches;
