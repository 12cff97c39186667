//! Calls across async runtimes: a dedicated executor thread on any runtime, and one call that crosses over and back.
//!
//! Some programs have two sides that need different async runtimes, or that must not share one: an HTTP server on
//! one, a peer-to-peer node on another. Code that is polled outside the runtime that it assumes fails when it runs
//! ("there is no reactor running"), not when it compiles. This crate gives such a program one boundary. One side
//! lives on an [`ExecutorThread`], which is started once and used by every call. [`Bridge::run`] sends a future
//! there and brings its value back; called from the thread itself, it runs the future in place.
//! [`Bridge::run_in_p2p`] is the same call by another name.
//!
//! # Two runtimes
//!
//! ```
//! # #[cfg(feature = "runtime-tokio")] {
//! use std::time::Duration;
//! use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
//!
//! // One side: the runtime that something else has chosen.
//! let http = tokio::runtime::Builder::new_multi_thread().build()?;
//! // The other side: a thread with a runtime of its own.
//! let node = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("node"))?;
//! let bridge = node.bridge();
//!
//! http.block_on(async {
//!     let name = bridge.run(async { std::thread::current().name().map(str::to_owned) }).await?;
//!     assert_eq!(name.as_deref(), Some("node"));
//!     node.shutdown(Duration::from_secs(2)).await?;
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! })?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A service on the executor thread
//!
//! What lives there is started by a hook (or spawned on [`ExecutorThread::runtime`]) and asked through calls:
//!
//! ```
//! # #[cfg(feature = "runtime-tokio")] {
//! use std::sync::Arc;
//! use runtime_bridge::{Backend, ExecutorThread, Runtime, RuntimeExt, ThreadConfig};
//! use tokio::sync::{mpsc, oneshot};
//!
//! let (questions, mut asked) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(64);
//! let config = ThreadConfig::default().with_start_hook(|runtime: Arc<dyn Runtime>| async move {
//!     let service = async move {
//!         while let Some((number, answer)) = asked.recv().await {
//!             let _asker_gone = answer.send(number * number);
//!         }
//!     };
//!     runtime.spawn(service).detach();
//!     Ok(())
//! });
//! let thread = ExecutorThread::start(Backend::Tokio, config)?;
//!
//! let square = thread.bridge().run_blocking(async move {
//!     let (answer, answered) = oneshot::channel();
//!     questions.send((12, answer)).await.ok()?;
//!     answered.await.ok()
//! })?;
//! assert_eq!(square, Some(144));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping a call drops its work over there, at the work's next await; a deadline does the same and says so.
//!
//! ```
//! # #[cfg(feature = "runtime-tokio")] {
//! use std::{future::pending, time::Duration};
//! use futures::future::{Either, select};
//! use runtime_bridge::{Backend, CallError, ExecutorThread, ThreadConfig};
//!
//! let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
//! let bridge = thread.bridge();
//! futures::executor::block_on(async {
//!     let slow = Box::pin(bridge.run(pending::<()>()));
//!     let quick = Box::pin(bridge.run(async { 1 }));
//!     // The loser of the race is dropped, and with it its work.
//!     assert!(matches!(select(quick, slow).await, Either::Left((Ok(1), _))));
//!
//!     let late = bridge.call(pending::<()>()).deadline(Duration::from_millis(5)).await;
//!     assert_eq!(late, Err(CallError::DeadlineExceeded));
//! });
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Runtimes
//!
//! [`Backend`] names the runtimes that come with the crate. Each is a feature; they are additive, and nothing is
//! ever detected from the surroundings.
//!
//! | feature | the executor thread |
//! |---|---|
//! | `runtime-tokio` (default) | drives a current-thread tokio runtime |
//! | `runtime-smol` | drives smol's executor (`async-executor`) and a current-thread tokio runtime, both |
//! | `runtime-async-std` | is async-std's own, confined to one thread; a helper thread drives a tokio runtime |
//!
//! Without any feature, a program brings a runtime of its own: a `tokio::runtime::Builder`, or an implementation of
//! [`RuntimeFactory`]. Whatever the runtime, what runs on the thread is polled and dropped inside a tokio context,
//! so that code which needs tokio (libp2p's sockets, for example) works there.
//!
//! async-std has one executor for the whole process. It can be confined to one thread only if nothing has
//! started it before. It then serves all executor threads on that backend, and whatever blocks it blocks them all.
//!
//! # How it works
//!
//! A call is one boxed future and one answer slot. It is pushed into a short queue under a mutex. If the driver on
//! the executor thread is awake, that is all; if not, the caller spawns it with the call in hand. The driver polls
//! every call once: most finish there. Those that do not become tasks of the runtime. Nothing spins.
//!
//! No mutex is held across an await, nor while a waker is called, a future is polled or a caller's value is dropped. Three
//! things are not arguments. The configuration of async-std's executor belongs to the process, because the executor
//! does. Two thread-locals belong to an executor thread: the mark that tells a call that it is there already, and
//! the store of its [local futures](local_future).
//!
//! # Map
//!
//! - `runtime`: the [`Runtime`] trait (R clauses); `spawned`: the handle of a spawned future
//! - `factory`: the [`RuntimeFactory`] trait (F clauses); `backend`: those that come with the crate, one file each
//! - `thread`, `config`, `lifecycle`: the executor thread from outside, its settings, from inside
//! - `bridge`, `call`: [`Bridge`] (C clauses), a call's options, admission, the inline path; `block`: the blocking twin
//! - `local`: futures that are not `Send`; `context`: the wrapper that enters tokio on poll and on drop
//! - `intake`, `driver`, `shared`: the queue and the register of what is alive, who empties the queue, what all share
//! - `work`, `answer`: one piece of work, and the slot between who asks and who works
//! - `counters`, `histogram`, `error`; `sync`: the locks that the loom models replace
//!
//! R, F and C clauses are numbered promises, written on the traits and on [`Bridge`]; comments and the names of tests
//! cite them.

#![cfg_attr(
    not(any(feature = "runtime-tokio", feature = "runtime-smol", feature = "runtime-async-std")),
    expect(unused_variables, reason = "without a backend `Backend` has no value")
)]

mod answer;
mod backend;
mod block;
mod bridge;
mod call;
mod config;
mod context;
mod counters;
mod driver;
mod error;
mod factory;
mod histogram;
mod intake;
mod lifecycle;
mod local;
#[cfg(all(test, bridge_loom))]
mod models;
mod runtime;
mod shared;
mod spawned;
mod sync;
mod thread;
mod work;

pub use crate::{
    backend::{Backend, TokioRuntime},
    bridge::Bridge,
    call::Call,
    config::ThreadConfig,
    context::{TokioContext, in_tokio_context},
    counters::Counters,
    error::{BoxError, CallError, NotOnExecutorThread, ShutdownError, SpawnedError, StartError, UnknownBackend},
    factory::RuntimeFactory,
    histogram::Histogram,
    lifecycle::{Main, ShutdownReport},
    local::{LocalFuture, local_future},
    runtime::{Runtime, RuntimeExt, Sleep, SpawnedFuture},
    spawned::Spawned,
    thread::ExecutorThread,
};

/// Compiles and runs the program in the README.
#[cfg(all(doctest, feature = "runtime-tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
