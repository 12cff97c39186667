//! Where tasks are kept: the [`TaskStore`] trait and its implementations on SQLite and in memory.
//!
//! A store applies the decisions of the engine to the tasks that it keeps, one decision at a time. It answers a change
//! only when the change is on stable storage. It also times the leases and wakes everybody who waits, without polling.

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
    Backend, CacheRow, CacheTable, Due, EdgeTable, Fault, KeyRow, KeyTable, LineTable, Log, Meta, Place, Reads,
    RouteTable, Rows, Seq, TaskRow, TaskTable, Timer, TimerTable, TypeRow, TypeTable,
};
#[cfg(feature = "sqlite")]
pub(crate) use backend::{Clocks, FileRoom, LOST_PARENT, Room, failed_parent};
pub use clock::{BootId, Clock, ManualClock, Reading, SystemClock};
pub use error::StoreError;
#[cfg(feature = "sqlite")]
use error::is_full;
pub use local::LocalQueue;
pub use memory::MemoryStore;
pub use options::StoreOptions;
#[cfg(feature = "sqlite")]
pub use sqlite::{RepairReport, ScrubReport, SqliteStore};
pub use task_store::{Page, TaskStore};
pub use watch::Watch;
pub(crate) use watch::Watches;

/// Compiles and runs the program in the README.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
