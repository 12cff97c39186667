use std::fmt;

use async_trait::async_trait;

use crate::{PeerId, QueueError, TaskId};

/// Which peer keeps a task that was submitted through this node, so that `get`, `wait` and `cancel` find it without a
/// target. Durable and bounded: the oldest entries go first.
#[async_trait]
pub trait RouteBook: Send + Sync + fmt::Debug {
    /// Notes the task's owner; on stable storage before it returns.
    ///
    /// # Errors
    ///
    /// `storage_full` or `storage_error` when it could not be kept.
    ///
    /// # Cancel safety
    ///
    /// The note may have been taken.
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError>;

    /// Looks the task's owner up.
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
