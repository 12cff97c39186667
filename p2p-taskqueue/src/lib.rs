//! A durable, brokerless task queue between libp2p peers.
//!
//! A kind of work is a type that implements [`Task`]. A program submits a value of it to a [`Queue`] and waits for the
//! [`Job`]. A [`Worker`], here or on another machine, runs it. A task that was acknowledged is on stable storage, and
//! is run again when its worker dies.
//!
//! ```
//! use p2p_taskqueue::{Context, Queue, Task, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct CountWords(String);
//!
//! impl Task for CountWords {
//!     const TYPE: &str = "count_words";
//!     type Output = usize;
//! }
//!
//! # futures::executor::block_on(async {
//! let queue = Queue::in_memory().await?; // or Queue::open(file), Queue::connect(socket), Node::builder()
//! let job = queue.submit(CountWords("to be or not to be".to_owned())).priority(7).await?;
//! let client = async { assert_eq!(job.wait().await.ok(), Some(6)) };
//! Worker::new(&queue)
//!     .slots(4)
//!     .handle(|CountWords(text): CountWords, _: Context| async move { Ok(text.split_whitespace().count()) })
//!     .run_until(client)
//!     .await?;
//! queue.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! All futures may be awaited on any runtime, because the queue has a thread of its own.
//!
//! | file | what is in it |
//! |---|---|
//! | `task`, `submission`, `job` | [`Task`], [`Submission`], [`Job`]: what a submitter uses |
//! | `workers`, `context`, `failure` | [`Worker`], [`Context`], [`Failure`]: what a worker uses |
//! | `dispatch` | the way of a task from the queue's thread to a handler |
//! | `queue`, `engine` | [`Queue`], and the thread and store under it |
//! | `node`, `data_folder`, `connect` | [`Node`] with its folder; the socket of a node of this machine |
//! | `bridged`, `inline` | the carriers that cross to the executor thread, or run on it and count their calls |
//! | `error` | the errors of opening, closing, waiting and working |
//!
//! # Below
//!
//! Every operation is data, a [`Request`]. Everything that can answer operations implements one trait, [`TaskQueue`].
//! The implementations are called *carriers*: the queue in this process, a peer, another process, another runtime. A
//! caller of a `TaskQueue` does not know which of them it has. [`Queue::raw`] returns the carrier under a queue.
//!
//! This crate is built on four crates, which may also be used by themselves:
//!
//! | module | crate | what is in it | feature |
//! |---|---|---|---|
//! | [`api`] | `taskqueue-api` | tasks and operations as data, errors, bounds, the [`TaskQueue`] trait | |
//! | [`store`] | `taskqueue-store` | what each operation does to a task, and where tasks are kept | `sqlite` |
//! | [`mesh`] | `taskqueue-mesh` | nodes, tickets, the wire, discovery, the queues of others | `mesh` |
//! | [`worker`] | `taskqueue-worker` | claims tasks, runs commands or other handlers, reports how they ended | `worker` |
//!
//! Without the feature `mesh`, only the parts of libp2p for peer ids and addresses are built. In the four crates, the
//! names `Task`, `Node` and `Worker` have other meanings: the record of a task, the type that starts nodes, and the
//! pool under a worker.

mod bridged;
#[cfg(all(unix, feature = "mesh"))]
mod connect;
#[cfg(feature = "worker")]
mod context;
#[cfg(feature = "mesh")]
mod data_folder;
#[cfg(feature = "worker")]
mod dispatch;
mod engine;
mod error;
#[cfg(feature = "worker")]
mod failure;
mod inline;
mod job;
#[cfg(feature = "mesh")]
mod node;
mod queue;
mod submission;
mod task;
#[cfg(feature = "worker")]
mod workers;

#[cfg(test)]
mod tests;

pub use bridged::BridgedQueue;
#[cfg(feature = "worker")]
pub use context::Context;
#[cfg(feature = "mesh")]
pub use data_folder::{DataFolder, DataFolderError, LockedFolder};
#[cfg(feature = "worker")]
pub use error::{AskError, Stopped, WorkerError};
pub use error::{CloseError, JobError, OpenError};
#[cfg(feature = "worker")]
pub use failure::Failure;
pub use inline::InlineQueue;
pub use job::Job;
#[cfg(feature = "mesh")]
pub use node::{Node, NodeBuilder, StartNodeError};
pub use queue::Queue;
pub use submission::Submission;
pub use task::Task;
pub use taskqueue_api as api;
pub use taskqueue_api::{
    Caller, ErrorCode, FailedBy, Fence, Json, Multiaddr, Operation, PeerId, QueueError, Request, Response, TaskId,
    TaskQueue, TaskQueueExt, TaskStatus,
};
#[cfg(feature = "mesh")]
pub use taskqueue_mesh as mesh;
#[cfg(feature = "mesh")]
pub use taskqueue_mesh::{
    ConnectionLimits, DiscoveryConfig, Identity, Mesh, ReachConfig, RootKey, TICKET_ADDRESSES_MAX, Ticket, TicketError,
    serve_local, serve_local_until,
};
pub use taskqueue_store as store;
#[cfg(feature = "worker")]
pub use taskqueue_worker as worker;
#[cfg(feature = "worker")]
pub use workers::Worker;

/// Compiles the program in the README. A test runs the same program as an example.
#[cfg(all(doctest, feature = "sqlite", feature = "worker"))]
#[doc = include_str!("../README.md")]
struct Readme;
