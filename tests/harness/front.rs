use std::{process::ExitStatus, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Node, Process, at, taskmesh_command};

/// A `taskmesh serve --daemon` process: an MCP server without a node. Dropping it kills the process.
pub(crate) struct Front {
    process: Process,
    /// Holds the path of a data folder that the process must not use.
    folder: TempDir,
}

impl Front {
    /// Starts an MCP server for a node that is ready, over the first of its RPC addresses.
    pub(crate) fn of(node: &Node) -> Result<Self> {
        let address = node.ready("rpc")?.get(0).and_then(Value::as_str).context("no RPC address")?;
        let token_file =
            node.ready("rpc_token_file").ok().and_then(Value::as_str).filter(|_| address.starts_with("http"));
        let token = token_file.map(|file| vec!["--daemon-token-file", file]).unwrap_or_default();
        Self::start(&[&["--daemon", address], &token[..]].concat())
    }

    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = taskmesh_command(&folder.path().join("untouched"));
        command.args(["serve", "--json", "--http", "127.0.0.1:0"]).args(arguments);
        Ok(Self { process: Process::start(&mut command)?, folder })
    }

    pub(crate) const fn ready(&self) -> &Value {
        self.process.ready()
    }

    pub(crate) fn http(&self) -> Result<&str> {
        at(self.ready(), "/http").as_str().context("http is no text")
    }

    /// Whether the process has made a data folder, which it must not do.
    pub(crate) fn has_data_folder(&self) -> bool {
        self.folder.path().join("untouched").exists()
    }

    pub(crate) fn kill(self) -> Result<()> {
        self.process.kill()
    }

    pub(crate) fn stop(self, signal: Signal) -> Result<(ExitStatus, Duration, String)> {
        self.process.stop(signal)
    }
}
