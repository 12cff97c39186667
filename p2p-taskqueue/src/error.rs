//! The errors of the crate, with one type for each action that can fail. The refusal of a single operation is a
//! [`QueueError`].

use std::io;

use runtime_bridge::{ShutdownError, StartError};
use taskqueue_api::{FailedBy, QueueError};
use taskqueue_store::StoreError;

/// The reason why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store could not be opened. The message says what to do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue's thread could not be started.
    #[error("failed to start the queue's thread")]
    Thread(#[from] StartError),
    /// The system gave no thread to open the queue on, or that thread panicked.
    #[error("failed to open the queue on a thread of its own")]
    Helper(#[source] io::Error),
    /// The node of this machine cannot be reached, or refuses this program.
    #[error(transparent)]
    Connect(QueueError),
}

/// The error when a queue's thread did not end in order. Everything that was acknowledged as stored is still on stable
/// storage.
#[derive(Debug, thiserror::Error)]
#[error("the queue's thread did not end in order")]
pub struct CloseError(#[from] pub(crate) ShutdownError);

/// The reason why a job has no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Every attempt failed, or one failed permanently, or the queue gave up the task.
    #[error("the task failed: {error}")]
    Failed {
        /// The error of the last attempt, or the reason of the queue.
        error: String,
        /// Who ended the task.
        by: FailedBy,
        /// The number of attempts.
        attempts: u32,
    },
    /// The task was called off.
    #[error("the task was called off")]
    Cancelled {
        /// The reason, if one was given when the task was called off.
        reason: Option<String>,
    },
    /// The task was completed, but its result is not of the type that this program expects. Its worker may be of
    /// another version.
    #[error("the result of the task is of another type")]
    Output(#[source] serde_json::Error),
    /// The queue could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The reason why a worker did not start, or ended before it was told to.
#[cfg(feature = "worker")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The worker has no handler.
    #[error("the worker has no handler: give it one with `handle`")]
    NoHandler,
    /// Two handlers are for the same task type.
    #[error("the worker has two handlers of the type {task_type:?}")]
    HandledTwice {
        /// The type.
        task_type: &'static str,
    },
    /// The id, a label, a type or the lease is out of bounds, so a queue would refuse the worker's claims.
    #[error("the worker's settings are out of bounds")]
    Settings(#[source] QueueError),
    /// The queue was closed, so the worker has ended.
    #[error("the queue was closed")]
    Closed,
}

/// The error that says that the work has to stop: its task was called off, its lease was lost, or its worker stops.
///
/// A handler returns it with `?`. A handler that was not told to stop may also return it: its task is then given back,
/// and the attempt does not count.
#[cfg(feature = "worker")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task was called off, or its worker stops")]
pub struct Stopped;

/// The reason why a question has no answer.
#[cfg(feature = "worker")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The work has to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The queue does not take the question.
    #[error("the question was refused")]
    Refused(#[source] QueueError),
    /// The answer is not of the type that the handler expects.
    #[error("the answer is of another type")]
    Answer(#[source] serde_json::Error),
}
