//! The life of a node process, shared by `serve` and `daemon`: start, report that it is ready, run until a signal, end
//! in order.

use std::process::ExitCode;

use anyhow::Context as _;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    failure::Failure,
    mode::{Ready, Server},
    output::Output,
};

/// The kind of tokio runtime that the main thread drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// One thread for each core: MCP is served on them.
    Many,
    /// The main thread alone, which only waits for signals.
    One,
}

/// Runs the server that `start` returns, until a signal ends it.
pub(super) fn run(
    threads: Threads,
    start: impl Future<Output = Result<Server, Failure>>,
    welcome: impl FnOnce(&Ready) -> String,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut builder = match threads {
        Threads::Many => Builder::new_multi_thread(),
        Threads::One => Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().context("cannot start tokio")?;
    runtime.block_on(until_stopped(start, welcome, output))?;
    Ok(ExitCode::SUCCESS)
}

async fn until_stopped(
    start: impl Future<Output = Result<Server, Failure>>,
    welcome: impl FnOnce(&Ready) -> String,
    output: Output,
) -> Result<(), Failure> {
    // This comes before the ready line, because its reader may send the signal at once.
    let mut stop = Stop::listen()?;
    let server = tokio::select! {
        server = Box::pin(start) => server?,
        // The start is given up at any point, because it may be waiting for a daemon.
        () = stop.asked() => return Ok(()),
    };
    let ready = server.ready();
    output.document(&json!(ready), || welcome(ready));
    tell_systemd(NotifyState::Ready);
    stop.asked().await;
    tracing::info!("stopping");
    tell_systemd(NotifyState::Stopping);
    tokio::select! {
        () = server.shutdown() => {}
        () = stop.asked() => tracing::warn!("stopping at once: tasks that were running are done again after their leases"),
    }
    Ok(())
}

/// Tells the service manager, if this process was started by one that wants to know.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for ctrl-c")?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
