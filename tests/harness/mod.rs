//! Starts nodes and runs commands. Everything that is started is ended by its own process id, even when a test fails.

mod command;
mod front;
mod gate;
mod history;
mod http;
mod lan;
mod mcp;
mod node;
mod process;
mod queue_process;
mod request;
mod small_disk;
mod strace;
mod until;

pub(crate) use command::{Answered, PROGRAM, taskmesh, taskmesh_command, taskmesh_in, taskmesh_with_input};
pub(crate) use front::Front;
pub(crate) use gate::Gate;
pub(crate) use history::History;
pub(crate) use http::{HttpConnection, HttpReply, until_metric};
pub(crate) use lan::Lan;
pub(crate) use mcp::McpClient;
pub(crate) use node::Node;
pub(crate) use process::Process;
pub(crate) use queue_process::QueueProcess;
pub(crate) use request::{Era, ID, Request};
pub(crate) use small_disk::SmallDisk;
pub(crate) use strace::Strace;
pub(crate) use taskqueue_api::testing::skipped;
pub(crate) use until::{until, until_async, until_within, while_busy};

use std::time::Duration;

use serde_json::Value;

/// The longest time for anything that takes milliseconds on an idle machine. A busy machine with two cores is slower.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The longest time from the signal to the end of the process, which docs/reference.md promises on an idle machine.
pub(crate) const STOP: Duration = Duration::from_secs(2);

/// The text that the tests count words in: a real one, of this repository.
pub(crate) const LICENCE: &str = include_str!("../../LICENSE-APACHE");

/// Returns the result of `wc -w` for the licence: words are separated by white space.
pub(crate) fn licence_words() -> u64 {
    LICENCE.split_ascii_whitespace().count() as u64
}

/// Returns the value at this JSON pointer; null when there is none.
pub(crate) fn at<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}
