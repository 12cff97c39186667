//! Starts nodes and runs commands. Whatever is started is ended by its own process id, also when a test fails.

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

pub(crate) use command::{Answered, PROGRAM, taskmesh, taskmesh_command, taskmesh_with_input};
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
pub(crate) use until::{until, until_async, while_busy};

use std::time::Duration;

use serde_json::Value;

/// How long anything may take that takes milliseconds on an idle machine. Two cores of a busy one are slower.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What docs/reference.md allows an idle machine, from the signal to the end of the process.
pub(crate) const STOP: Duration = Duration::from_secs(2);

/// The text of the main job: a real one, of this repository.
pub(crate) const LICENCE: &str = include_str!("../../LICENSE-APACHE");

/// What `wc -w` says of it: words are what white space separates.
pub(crate) fn licence_words() -> u64 {
    LICENCE.split_ascii_whitespace().count() as u64
}

/// What stands at this JSON pointer; null when nothing does.
pub(crate) fn at<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}
