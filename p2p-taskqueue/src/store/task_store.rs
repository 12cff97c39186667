use std::fmt;

use async_trait::async_trait;

use super::Watch;
use crate::{
    PeerId, QueueError,
    api::{
        Cancel, Cancelled, Claim, Complete, Completed, Durability, Fail, Failed, List, QueueStatus, Release, Released,
        Renew, Renewed, Submit,
    },
    engine::Record,
    task::{Fence, TaskId},
};

/// A durable place for tasks that runs their life by the clauses T1 to T11. Object safe; every store passes the same
/// conformance suite.
///
/// Arguments have passed [`Check`](crate::api::Check) before they come here.
///
/// # Errors
///
/// Every operation answers `overloaded` when the store has too much to do, `shutting_down` once it is closed,
/// `storage_full` when there is no room and `storage_error` when what it keeps cannot be read or written; and the codes
/// that the operation's own rules name.
#[async_trait]
pub trait TaskStore: Send + Sync + fmt::Debug {
    /// Keeps a task; answered when it is as safe as [`durability`](Self::durability) says. `scope` is whose
    /// idempotency keys count.
    ///
    /// # Errors
    ///
    /// `conflict` for an idempotency key with other content.
    ///
    /// # Cancel safety
    ///
    /// The task may have been kept.
    async fn submit(&self, scope: String, submit: Submit) -> Result<Submission, QueueError>;

    /// Gives a task out to a worker on `peer`, waiting for one up to the claim's `wait_s`.
    ///
    /// # Errors
    ///
    /// Those of the trait.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a task that was given out to a dropped future goes back to its place.
    async fn claim(&self, peer: PeerId, claim: Claim) -> Result<Option<Leased>, QueueError>;

    /// Extends a lease.
    ///
    /// # Errors
    ///
    /// `stale_fence`, `already_finished`, `not_found`.
    ///
    /// # Cancel safety
    ///
    /// The lease may have been extended.
    async fn renew(&self, request: Renew) -> Result<Renewed, QueueError>;

    /// Ends a task.
    ///
    /// # Errors
    ///
    /// `stale_fence`, `already_finished`, `not_found`.
    ///
    /// # Cancel safety
    ///
    /// The task may have ended; repeating the same completion says so.
    async fn complete(&self, request: Complete) -> Result<Completed, QueueError>;

    /// Ends an attempt.
    ///
    /// # Errors
    ///
    /// `stale_fence`, `already_finished`, `not_found`.
    ///
    /// # Cancel safety
    ///
    /// The attempt may have ended.
    async fn fail(&self, request: Fail) -> Result<Failed, QueueError>;

    /// Takes a task back.
    ///
    /// # Errors
    ///
    /// `stale_fence`, `already_finished`, `not_found`.
    ///
    /// # Cancel safety
    ///
    /// The task may be back.
    async fn release(&self, request: Release) -> Result<Released, QueueError>;

    /// Calls a task off.
    ///
    /// # Errors
    ///
    /// `already_finished`, `not_found`.
    ///
    /// # Cancel safety
    ///
    /// The task may have been called off.
    async fn cancel(&self, request: Cancel) -> Result<Cancelled, QueueError>;

    /// Reads records, in the order of the ids, all as of one moment.
    ///
    /// # Errors
    ///
    /// `not_found` names the first id that is not there; `limit_exceeded` when they are too large to answer at once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn get(&self, ids: Vec<TaskId>) -> Result<Vec<Record>, QueueError>;

    /// Reads a page of records.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a cursor that is not from this list.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn list(&self, query: List) -> Result<Page, QueueError>;

    /// Counts what is there.
    ///
    /// # Errors
    ///
    /// Those of the trait.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn status(&self) -> Result<QueueStatus, QueueError>;

    /// Registers interest in the end of tasks. Register, then read, then wait: no end is missed.
    ///
    /// # Errors
    ///
    /// `overloaded` when too many wait.
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError>;

    /// What is known of a task when its submit is answered.
    fn durability(&self) -> Durability;

    /// Finishes what was accepted and lets go of everything; blocks for a bounded time. Later calls are answered
    /// `shutting_down`.
    fn close(&self);
}

/// What became of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submission {
    /// The task.
    pub task_id: TaskId,
    /// Whether an earlier submit made it.
    pub duplicate: bool,
}

/// A task that was given out.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// The task.
    pub record: Record,
    /// The proof of its lease.
    pub fence: Fence,
}

/// A page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page starts; `None` at the end.
    pub next_cursor: Option<String>,
}
