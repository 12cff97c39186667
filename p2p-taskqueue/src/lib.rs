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
//! | [`engine`] | what each operation does to a task: pure decisions |
//! | [`store`] | where tasks are kept, durably |
//! | [`carrier`] | the implementations of [`TaskQueue`] |
//! | [`node`] | the node of a mesh: start it, stop it, its handle |
//! | `discovery` | how peers are found |
//! | [`worker`] | claims tasks, runs commands or other handlers, reports how they ended |

pub mod api;
pub mod carrier;
mod discovery;
pub mod engine;
mod heartbeat;
mod identity;
pub mod node;
#[cfg(test)]
mod odd_json;
#[cfg(test)]
mod skipped;
pub mod store;
pub mod task;
#[cfg(test)]
mod testing;
mod ticket;
mod wire;
pub mod worker;

pub use api::{Caller, ErrorCode, Operation, QueueError, Request, Response, TaskQueue, TaskQueueExt};
pub use discovery::DiscoveryConfig;
pub use identity::{Identity, MeshSecret};
pub use libp2p::{Multiaddr, PeerId};
pub use node::{ConnectionLimits, Node, NodeConfig, NodeHandle, ReachConfig};
pub use task::{FailedBy, Fence, Json, Task, TaskId, TaskStatus};
pub use ticket::{TICKET_ADDRESSES_MAX, Ticket, TicketError};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use wire::fuzzing;
pub use wire::{serve_local, serve_local_until};
