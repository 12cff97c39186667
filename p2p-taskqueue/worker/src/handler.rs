use std::fmt;

use async_trait::async_trait;
use taskqueue_api::{Json, Task};

use super::Contact;

/// What a worker does with a task.
#[async_trait]
pub trait Handler: Send + Sync + fmt::Debug {
    /// Works on one task until it is done, has failed, or the contact says to stop.
    ///
    /// # Cancel safety
    ///
    /// The worker does not drop the future before it has ended or gone on for the worker's grace period after a stop;
    /// dropping it must end the work.
    async fn run(&self, task: &Task, contact: Contact) -> Outcome;
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// With a result.
    Done(Json),
    /// Without one.
    Failed {
        /// What went wrong.
        error: String,
        /// Whether another attempt makes sense.
        retryable: bool,
    },
    /// It stopped because it was told to.
    Stopped,
}
