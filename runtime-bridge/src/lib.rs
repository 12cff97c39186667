//! Calls across async runtimes: a dedicated executor thread and one helper, `run_in_p2p`.

mod answer;
mod backend;
mod bridge;
mod config;
mod context;
mod counters;
mod driver;
mod error;
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
    bridge::{Bridge, Call},
    config::ThreadConfig,
    context::{TokioContext, in_tokio_context},
    counters::Counters,
    error::{
        BoxError, CallError, JobError, NotOnExecutorThread, ShutdownError, StartError,
        UnknownBackend,
    },
    lifecycle::ShutdownReport,
    runtime::{Job, Runtime, RuntimeExt, Sleep},
    task::JobHandle,
    thread::ExecutorThread,
};
