//! The messages between a test and the process that it started, one JSON document per line.

use p2p_taskqueue::{Fence, Json, QueueError, Request, Response, TaskId, TaskStatus, api::Submit};
use serde::{Deserialize, Serialize};

/// An order of the test.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// One operation, answered before the next order is read.
    Ask(Box<Request>),
    /// Starts clients that work as fast as they can, until the process is killed.
    Load {
        /// The seed of their random choices. It also makes their payloads differ from those of other loads.
        seed: u64,
        /// The number of clients that work at once.
        clients: usize,
    },
}

/// A message of the process. An operation is reported only after the queue has acknowledged it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// The queue is open.
    Ready,
    /// The answer to [`Order::Ask`].
    Answered(Result<Box<Response>, QueueError>),
    /// A client is about to submit this. The payload is a text that no other submit has.
    Submitting(Submit),
    /// The task is queued.
    Submitted(TaskId, Submit),
    /// The task was claimed.
    Claimed(TaskId, Fence, Json),
    /// The lease of the task was renewed.
    Renewed(TaskId, Fence),
    /// The task was completed with this result, and these tasks were submitted in the same transaction.
    Completed(TaskId, Fence, Json, Vec<(TaskId, Submit)>),
    /// An attempt was failed or released; the task is now in this state.
    LetGo(TaskId, Fence, TaskStatus),
    /// The task's cancellation was requested; the task is now in this state.
    Cancelled(TaskId, TaskStatus),
    /// The queue refused something that it should have done.
    Refused(QueueError),
}
