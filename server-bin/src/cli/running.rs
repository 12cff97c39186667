//! What `serve` and `daemon` do alike: start, say so, run until a signal, end in order.

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

/// Which tokio runtime the main thread drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// As many as there are cores: MCP is served on them.
    Many,
    /// This one: it only waits for signals.
    One,
}

/// Runs what `start` starts until it is told to stop.
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
    // Before the ready line: whoever reads it may send the signal at once.
    let mut stop = Stop::listen()?;
    let server = tokio::select! {
        server = Box::pin(start) => server?,
        // What has begun is given up where it is: a daemon may be waited for.
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

/// Tells the service manager, if one has asked for it.
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
