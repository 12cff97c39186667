use std::fmt;

use async_trait::async_trait;
use taskqueue_api::{Json, TaskRecord};

use super::Contact;

/// The code that a worker runs for a task.
#[async_trait]
pub trait Handler: Send + Sync + fmt::Debug {
    /// Works on one task until it is done, has failed, or the contact says to stop.
    ///
    /// # Cancel safety
    ///
    /// The worker drops the future only after it has ended, or when it still runs at the end of the worker's grace
    /// period after a stop. Dropping it must end the work.
    async fn run(&self, task: &TaskRecord, contact: Contact) -> AttemptEnd;
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// It succeeded, with this result.
    Done(Json),
    /// It failed.
    Failed {
        /// What went wrong.
        error: String,
        /// Whether another attempt makes sense.
        retryable: bool,
    },
    /// It stopped because it was told to.
    Stopped,
}
