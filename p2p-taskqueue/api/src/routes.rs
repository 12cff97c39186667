use std::fmt;

use async_trait::async_trait;

use crate::{PeerId, QueueError, TaskId};

/// Remembers which peer keeps a task that was submitted through this node, so that `get`, `wait` and `cancel` find it
/// without a target.
///
/// The entries are durable and bounded: the oldest ones are dropped first.
#[async_trait]
pub trait RouteBook: Send + Sync + fmt::Debug {
    /// Notes the owner of the task. The note is on stable storage before this returns.
    ///
    /// # Errors
    ///
    /// `storage_full` or `storage_error` when it could not be kept.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the note may be stored although the call was dropped.
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError>;

    /// Looks up the owner of the task.
    ///
    /// # Errors
    ///
    /// `storage_error` when the store could not be read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError>;
}
