//! The supervisor: this program, run as a process between a worker and its command. It ends the command when the node
//! is gone.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use p2p_taskqueue::worker::supervise;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use crate::foreign::Foreign;

/// Returns the path of the program that supervises commands; `None` when the system does not tell where this program
/// is.
pub(crate) fn program() -> Option<PathBuf> {
    // This leads to the running file, even when another version has replaced it meanwhile.
    let this = Path::new("/proc/self/exe");
    let found = if this.exists() { Ok(this.to_owned()) } else { env::current_exe() };
    found
        .inspect_err(|error| tracing::warn!(%error, "commands are not supervised: when the node is killed they go on"))
        .ok()
}

/// Runs as a supervisor; `words` are the command.
pub(crate) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    match stay().and_then(|_stays| supervise(words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Only a person who started it by hand sees this.
            writeln!(io::stderr(), "error: this is for the workers of a node: {}", Foreign(&error)).ok();
            ExitCode::FAILURE
        }
    }
}

/// Ignores the signals that a service manager sends to all processes of a node when it stops. The node ends its
/// commands itself, and learns from this process how they ended.
fn stay() -> io::Result<Runtime> {
    // The handlers stay installed when the listeners are dropped, and a command does not inherit them.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let within = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        drop(signal(kind)?);
    }
    drop(within);
    Ok(runtime)
}
