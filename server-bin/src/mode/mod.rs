//! The ways to join the HTTP side and the p2p side. Each mode has a file that says what runs where; the sides
//! themselves are the same in all modes.

mod bridge;
mod daemon;
mod front;
mod native;
mod node;
mod server;
mod settings;

use clap::ValueEnum;
use serde::Deserialize;

pub(crate) use daemon::FrontSettings;
pub(crate) use server::{Ready, Server};
pub(crate) use settings::{Listen, NodeSettings, ServerConfig, WorkerSpec};

/// Where the MCP server and the node run, when one process has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// The MCP server on threads of its own, the node on its executor thread; calls cross between them.
    Bridge,
    /// Both on the executor thread.
    Native,
}
