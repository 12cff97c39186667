//! The parts of the benchmark of MCP calls.

pub(crate) mod calls;
mod connection;
pub(crate) mod crowd;
pub(crate) mod noop;
mod server;
pub(crate) mod stream;
mod turns;

pub(crate) use connection::{Connection, Era, tool_call};
pub(crate) use server::{Mode, Server};
pub(crate) use turns::{Candidate, in_turns};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) use crate::report::{Goal, Times};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The pause of a connection, in milliseconds, when the sender waits for an acknowledgement that the receiver delays.
pub(crate) const STALL_MS: f64 = 40.0;

/// Raises the limit of open files, so that this process can hold the connections of a crowd.
pub(crate) fn allow_connections() -> Result<(), Error> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
