//! Calls across async runtimes: a dedicated executor thread and one helper, `run_in_p2p`.

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
mod histogram;
mod intake;
mod lifecycle;
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
    error::{
        BoxError, CallError, JobError, NotOnExecutorThread, ShutdownError, StartError,
        UnknownBackend,
    },
    histogram::Histogram,
    lifecycle::ShutdownReport,
    runtime::{Job, Runtime, RuntimeExt, Sleep},
    task::JobHandle,
    thread::ExecutorThread,
};
