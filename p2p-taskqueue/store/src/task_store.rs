use taskqueue_api::{QueueError, StoreStatus, TaskId, TaskQueue};

use super::Watch;
use crate::engine::Record;

/// A place for tasks that runs their life by the clauses T1 to T11 of the engine: it answers the operations of the queue but `wait` and
/// `status`, which [`LocalQueue`](crate::LocalQueue) adds over it. Object safe; every store passes the same
/// conformance suite.
///
/// A change is answered when it is as safe as the answer says. Arguments have passed [`Check`](taskqueue_api::Check) before
/// they come here.
///
/// # Errors
///
/// Beside what the operations' own rules name, every operation answers `overloaded` when the store has too much to do,
/// `shutting_down` once it is closed, `storage_full` when there is no room for what it adds, and `storage_error` when what
/// it keeps cannot be read or written.
///
/// # Cancel safety
///
/// Dropping a call gives the answer up, not the change: it may have been made. Only a claim is cancel safe: tasks that were
/// given out to a dropped call go back to their places.
pub trait TaskStore: TaskQueue {
    /// Registers interest in the end of tasks. Register, then read, then wait: no end is missed.
    ///
    /// # Errors
    ///
    /// `overloaded` when too many wait.
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError>;

    /// How the store stands.
    fn state(&self) -> StoreStatus;

    /// Finishes what was accepted and lets go of everything; blocks for a bounded time. Later calls are answered
    /// `shutting_down`.
    fn close(&self);

    /// How it stands, for tests of this crate.
    #[cfg(test)]
    fn vitals(&self, with_memory: bool) -> super::queue::Vitals;
}

/// A page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page starts; `None` at the end.
    pub next_cursor: Option<String>,
}
