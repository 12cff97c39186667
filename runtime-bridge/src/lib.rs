//! Calls across async runtimes: a dedicated executor thread and one helper, `run_in_p2p`.
//!
//! Some programs have two sides that assume different async runtimes, or that must not share one: an HTTP server
//! on one, a peer-to-peer node on another. Code that is polled outside the runtime that it assumes fails when it
//! runs ("there is no reactor running"), not when it compiles. This crate gives such a program one boundary and
//! one helper that crosses it: the other side lives on an [`ExecutorThread`], started once and used by every
//! call; [`Bridge::run_in_p2p`] sends a future there and brings its value back. Called from the thread itself it
//! runs the future in place.
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
//! let p2p = ExecutorThread::start(Backend::Tokio, ThreadConfig::default().with_name("p2p"))?;
//! let bridge = p2p.bridge();
//!
//! http.block_on(async {
//!     let there = bridge.clone();
//!     let on_it = bridge.run_in_p2p(async move { there.is_p2p_context() }).await?;
//!     assert!(on_it && !bridge.is_p2p_context());
//!     p2p.shutdown(Duration::from_secs(2)).await?;
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
//! let square = thread.bridge().run_in_p2p_blocking(async move {
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
//!     let slow = Box::pin(bridge.run_in_p2p(pending::<()>()));
//!     let quick = Box::pin(bridge.run_in_p2p(async { 1 }));
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
//! # Backends
//!
//! Each is a feature; they are additive, and nothing is ever detected from the surroundings. Whatever the
//! backend, what runs on the thread is polled and dropped inside a tokio context, so that tokio-only code (libp2p's
//! sockets, for example) works there.
//!
//! | feature | the executor thread |
//! |---|---|
//! | `runtime-tokio` (default) | drives a current-thread tokio runtime |
//! | `runtime-smol` | drives an `async_executor` and a current-thread tokio runtime, both |
//! | `runtime-async-std` | is async-std's own, confined to one thread; a helper thread drives a tokio runtime |
//!
//! async-std has one executor for the whole process. It can be confined to one thread only if nothing has
//! started it before, it then serves all executor threads of that backend, and a job that blocks it blocks them
//! all. Configuring it is the only global state of this crate.
//!
//! # How it works
//!
//! A call is one boxed future and one answer slot. It is pushed into a short queue under a mutex. If the driver on
//! the executor thread is awake, that is all; if not, the caller spawns it with the call in hand. The driver polls
//! every call once: most finish there. Those that do not become tasks of the runtime. Nothing spins.
//!
//! # Map
//!
//! - `runtime`: the [`Runtime`] trait and its contract (R clauses); `task`: the handle of a job
//! - `backend`: one file for each runtime; `context`: the wrapper that enters tokio on poll and on drop
//! - `thread`, `config`, `lifecycle`: the executor thread from outside, its settings, from inside
//! - `bridge`, `call`: `run_in_p2p` (C clauses), its options, admission, the inline path; `block`: the blocking twin
//! - `intake`, `driver`, `registry`: the queue, who empties it, what is alive
//! - `work`, `answer`: one piece of work, and the slot between who asks and who works
//! - `counters`, `histogram`, `error`; `sync`: the locks that the loom models swap

#![cfg_attr(
    not(any(feature = "runtime-tokio", feature = "runtime-smol", feature = "runtime-async-std")),
    expect(unused_variables, clippy::needless_pass_by_value, reason = "without a backend `Backend` has no value")
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
mod registry;
mod runtime;
mod sync;
mod task;
mod thread;
mod work;

pub use crate::{
    backend::{Backend, TokioRuntime},
    bridge::Bridge,
    call::Call,
    config::ThreadConfig,
    context::{TokioContext, in_tokio_context},
    counters::Counters,
    error::{BoxError, CallError, JobError, NotOnExecutorThread, ShutdownError, StartError, UnknownBackend},
    factory::RuntimeFactory,
    histogram::Histogram,
    lifecycle::{Main, ShutdownReport},
    local::{LocalFuture, local_future},
    runtime::{Job, Runtime, RuntimeExt, Sleep},
    task::JobHandle,
    thread::ExecutorThread,
};

/// Compiles and runs the program in the README.
#[cfg(all(doctest, feature = "runtime-tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
