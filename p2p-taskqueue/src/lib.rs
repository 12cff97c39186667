//! A durable, brokerless task queue between libp2p peers.
//!
//! Every operation is data, a [`Request`], and every place that can answer operations implements one trait, [`TaskQueue`].
//! The implementations are *carriers*: the queue in this process, a peer, another process, another runtime. Whatever calls
//! a `TaskQueue` does not know which of them it holds.
//!
//! | module | what is in it |
//! |---|---|
//! | [`task`] | plain data: the task, its id, fence, status, payload |
//! | [`api`] | operations, answers, errors, limits, the [`TaskQueue`] trait |
//! | [`carrier`] | the implementations of [`TaskQueue`] |

pub mod api;
pub mod carrier;
pub mod task;
pub mod worker;

pub use api::{Caller, ErrorCode, Operation, QueueError, Request, Response, TaskQueue, TaskQueueExt};
pub use libp2p::{Multiaddr, PeerId};
pub use task::{Fence, Json, Task, TaskId, TaskStatus};
