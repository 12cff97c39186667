use std::fmt;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Json, Task};

/// What a worker does with a task.
#[async_trait]
pub trait Handler: Send + Sync + fmt::Debug {
    /// Works on one task until it is done, has failed, or `stop` says to stop.
    ///
    /// # Cancel safety
    ///
    /// The worker does not drop the future before it has ended or ignored `stop` for the worker's grace period; dropping
    /// it must end the work.
    async fn run(&self, task: &Task, stop: Stop) -> Outcome;
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

/// Tells a handler that its work is no longer wanted: the task was called off, its lease was lost, or the node stops.
#[derive(Debug, Clone)]
pub struct Stop {
    /// The attempt holds the sender; a sender that is gone means stop, too.
    stopped: watch::Receiver<bool>,
}

impl Stop {
    pub(super) fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, stopped) = watch::channel(false);
        (sender, Self { stopped })
    }

    /// Completes when the work is to stop.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, which is a stop as well.
        drop(self.stopped.wait_for(|stopped| *stopped).await);
    }
}
