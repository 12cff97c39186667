//! The process between a worker and its command: this program again, which ends the command when the node is gone.

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

/// The program that supervises commands; none when the system does not say where this program is.
pub(crate) fn program() -> Option<PathBuf> {
    // This very file, also when another version has taken its place meanwhile.
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
            // Seen only by a person who has started it by hand.
            writeln!(io::stderr(), "error: this is for the workers of a node: {}", Foreign(&error)).ok();
            ExitCode::FAILURE
        }
    }
}

/// Takes no notice of what a service manager sends to all processes of a node when it stops: the node ends its commands, and
/// hears from here how that went.
fn stay() -> io::Result<Runtime> {
    // The handlers stay when the listeners are gone, and a command does not inherit them.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let within = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        drop(signal(kind)?);
    }
    drop(within);
    Ok(runtime)
}
