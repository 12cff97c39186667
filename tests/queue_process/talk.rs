//! What a test and the process that it started say to each other, one JSON document a line.

use p2p_taskqueue::{Fence, Json, QueueError, Request, Response, TaskId, TaskStatus, api::Submit};
use serde::{Deserialize, Serialize};

/// What the test wants.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// One operation, answered before the next order is read.
    Ask(Box<Request>),
    /// Clients that work as fast as they can, until the process is killed.
    Load {
        /// Where their random choices start; also makes their payloads unlike those of other loads.
        seed: u64,
        /// How many work at once.
        clients: usize,
    },
}

/// What the process has to say. Of an operation it speaks when the queue has acknowledged it, and not before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// The queue is open.
    Ready,
    /// The answer to [`Order::Ask`].
    Answered(Result<Response, QueueError>),
    /// A client is about to submit this, whose payload is a text that no other submit has.
    Submitting(Submit),
    /// The task is queued.
    Submitted(TaskId, Submit),
    /// The task was given out.
    Claimed(TaskId, Fence, Json),
    /// Its lease was extended.
    Renewed(TaskId, Fence),
    /// It has ended like this, with these tasks in the same transaction.
    Completed(TaskId, Fence, Json, Vec<(TaskId, Submit)>),
    /// An attempt was failed or given back; the task now stands like this.
    LetGo(TaskId, Fence, TaskStatus),
    /// It was called off; it now stands like this.
    Cancelled(TaskId, TaskStatus),
    /// The queue refused what it should have done.
    Refused(QueueError),
}
