//! Where tasks are kept: the [`TaskStore`] trait and its implementations on SQLite and in memory.
//!
//! A store runs the decisions of the engine against what it keeps, one at a time, and answers a change only when it is
//! on stable storage. It also keeps the leases' time and wakes whoever waits: there is no polling.

mod backend;
mod clock;
pub mod engine;
mod error;
mod local;
mod memory;
mod nudges;
mod options;
mod paging;
mod queue;
#[cfg(feature = "sqlite")]
mod sqlite;
mod task_store;
mod watch;

#[cfg(test)]
mod backend_tests;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod model;

pub(crate) use backend::{
    Backend, CacheRow, Clocks, Due, Fault, FileRoom, KeyRow, LOST_PARENT, Log, Meta, Place, Reads, Room, Rows, Seq,
    TaskRow, Timer, TypeRow, failed_parent,
};
pub use clock::{BootId, Clock, ManualClock, Reading, SystemClock};
pub use error::StoreError;
use error::is_full;
pub use local::LocalQueue;
pub use memory::MemoryStore;
pub use options::StoreOptions;
#[cfg(feature = "sqlite")]
pub use sqlite::{RepairReport, ScrubReport, SqliteStore};
pub use task_store::{Page, TaskStore};
pub use watch::Watch;
pub(crate) use watch::Watches;
