use async_trait::async_trait;
use taskqueue_api::{QueueError, StoreStatus, TaskId, TaskQueue, TaskRecord};

use super::Watch;
use crate::engine::Record;

/// A store that runs the life of its tasks by the clauses T1 to T11 of the engine.
///
/// It answers all operations of the queue except `wait` and `status`, which [`LocalQueue`](crate::LocalQueue) adds. The
/// trait is object safe. Every store passes the same conformance suite.
///
/// A change is answered when it is as durable as the answer says. Callers check the arguments with
/// [`Check`](taskqueue_api::Check) before they call a store.
///
/// # Errors
///
/// Besides the errors of its own rules, every operation may answer one of these: `overloaded` when the store has too
/// much to do, `shutting_down` once it is closed, `storage_full` when there is no room for what the operation adds, and
/// `storage_error` when stored data cannot be read or written.
///
/// # Cancel safety
///
/// Dropping a call gives up the answer, not the change: the change may have been made. Only a claim is cancel safe:
/// tasks that were given to a dropped call go back to their places.
#[async_trait]
pub trait TaskStore: TaskQueue {
    /// Registers interest in the end of tasks. A caller that first registers, then reads, and then waits misses no end.
    ///
    /// # Errors
    ///
    /// `overloaded` when too many wait.
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError>;

    /// Notes in the records of queued tasks what holds the tasks back, if that is a pause or a limit.
    ///
    /// Records that say already why their task waits, or whose task is not queued, stay as they are. When the store has
    /// too much to do, it notes nothing, because a reason must never make a read fail.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn explain(&self, tasks: &mut [TaskRecord]);

    /// Returns the state of the store.
    fn state(&self) -> StoreStatus;

    /// Finishes the accepted work and releases everything. It blocks for a bounded time. Later calls are answered
    /// `shutting_down`.
    fn close(&self);

    /// Returns the internal state, for the tests of this crate.
    #[cfg(test)]
    fn vitals(&self, with_memory: bool) -> super::queue::Vitals;
}

/// A page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// The cursor of the next page; `None` at the end.
    pub next_cursor: Option<String>,
}
