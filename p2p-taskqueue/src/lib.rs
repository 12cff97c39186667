//! A durable, brokerless task queue between libp2p peers.
//!
//! Every operation is data, a [`Request`], and every place that can answer operations implements one trait, [`TaskQueue`].
//! The implementations are *carriers*: the queue in this process, a peer, another process, another runtime. Whatever calls
//! a `TaskQueue` does not know which of them it holds.
//!
//! This crate is the face of four, which may be used by themselves:
//!
//! | module | crate | what is in it | feature |
//! |---|---|---|---|
//! | [`api`] | `taskqueue-api` | tasks and operations as data, errors, bounds, the [`TaskQueue`] trait | |
//! | [`store`] | `taskqueue-store` | what each operation does to a task, and where tasks are kept | `sqlite` |
//! | [`mesh`] | `taskqueue-mesh` | nodes, tickets, the wire, discovery, the queues of others | `mesh` |
//! | [`worker`] | `taskqueue-worker` | claims tasks, runs commands or other handlers, reports how they ended | `worker` |
//!
//! Without `mesh`, nothing of libp2p is built but the names of peers and their addresses.

mod bridged;
mod inline;

#[cfg(test)]
mod tests;

pub use bridged::BridgedQueue;
pub use inline::InlineQueue;
pub use taskqueue_api as api;
pub use taskqueue_api::{
    Caller, ErrorCode, FailedBy, Fence, Json, Multiaddr, Operation, PeerId, QueueError, Request, Response, Task,
    TaskId, TaskQueue, TaskQueueExt, TaskStatus,
};
#[cfg(feature = "mesh")]
pub use taskqueue_mesh as mesh;
#[cfg(feature = "mesh")]
pub use taskqueue_mesh::{
    ConnectionLimits, DiscoveryConfig, Identity, MeshSecret, Node, NodeConfig, NodeHandle, ReachConfig,
    TICKET_ADDRESSES_MAX, Ticket, TicketError, serve_local, serve_local_until,
};
pub use taskqueue_store as store;
#[cfg(feature = "worker")]
pub use taskqueue_worker as worker;
