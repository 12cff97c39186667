//! One error enum for each thing that can go wrong as a whole; what a queue refuses is a [`QueueError`].

use std::io;

use runtime_bridge::{ShutdownError, StartError};
use taskqueue_api::{FailedBy, QueueError};
use taskqueue_store::StoreError;

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store could not be opened. The message says what to do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no thread for the queue.
    #[error("failed to start the queue's thread")]
    Thread(#[from] StartError),
    /// The system gave no thread to open it on, or that thread panicked.
    #[error("failed to open the queue on a thread of its own")]
    Helper(#[source] io::Error),
    /// The node of this machine cannot be reached, or refuses this program.
    #[error(transparent)]
    Connect(QueueError),
}

/// A queue did not end in order. What had been acknowledged is on stable storage all the same.
#[derive(Debug, thiserror::Error)]
#[error("the queue's thread did not end in order")]
pub struct CloseError(#[from] pub(crate) ShutdownError);

/// Why a job has no output to give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Every attempt failed, or one of them for good, or the queue gave the task up.
    #[error("the task failed: {error}")]
    Failed {
        /// What the last attempt, or the queue, said.
        error: String,
        /// Who ended it.
        by: FailedBy,
        /// How often it was tried.
        attempts: u32,
    },
    /// It was called off.
    #[error("the task was called off")]
    Cancelled {
        /// Why, when whoever called it off has said so.
        reason: Option<String>,
    },
    /// It was done, and the result is not of the type that this program expects: its worker is of another version.
    #[error("the result of the task is of another type")]
    Output(#[source] serde_json::Error),
    /// The queue could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a worker did not start, or ended before it was told to.
#[cfg(feature = "worker")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// It has nothing to do.
    #[error("the worker has no handler: give it one with `handle`")]
    NoHandler,
    /// Two handlers are for the same type.
    #[error("the worker has two handlers of the type {task_type:?}")]
    HandledTwice {
        /// The type.
        task_type: &'static str,
    },
    /// A queue would refuse its claims: the id, a label, a type or the lease is out of bounds.
    #[error("the worker's settings are out of bounds")]
    Settings(#[source] QueueError),
    /// The queue was closed, so the worker has ended.
    #[error("the queue was closed")]
    Closed,
}

/// The work is to stop: its task was called off, its lease was lost, or its worker stops. A handler returns it with `?`. One
/// that was not told to stop gives its task back with it, and the attempt does not count.
#[cfg(feature = "worker")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task was called off, or its worker stops")]
pub struct Stopped;

/// Why a question has no answer.
#[cfg(feature = "worker")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The work is to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The queue does not take the question.
    #[error("the question was refused")]
    Refused(#[source] QueueError),
    /// The answer is not of the type that the handler expects.
    #[error("the answer is of another type")]
    Answer(#[source] serde_json::Error),
}
