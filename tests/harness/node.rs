use std::{path::Path, process::ExitStatus, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Process,
    command::{Answered, taskmesh, taskmesh_command, taskmesh_command_in},
    until,
};

/// A free port of this machine.
const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// A `taskmesh serve` or `taskmesh daemon` process and its data folder. Dropping it kills the process.
pub(crate) struct Node {
    folder: TempDir,
    verb: &'static [&'static str],
    /// The network namespace that it runs in; the tests' own without one.
    namespace: Option<String>,
    arguments: Vec<String>,
    process: Option<Process>,
}

/// With an MCP server, and without.
const SERVE: &[&str] = &["serve", "--json"];
const DAEMON: &[&str] = &["daemon", "--json"];

impl Node {
    /// Starts a node on a folder of its own and on free ports.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_at(LOOPBACK, arguments)
    }

    /// Starts a node that listens at this address.
    pub(crate) fn start_at(listen: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_on(tempfile::tempdir()?, None, &[&["--p2p-listen", listen], arguments].concat())
    }

    /// Starts a node without an MCP server.
    pub(crate) fn daemon(arguments: &[&str]) -> Result<Self> {
        Self::start_as(DAEMON, tempfile::tempdir()?, None, &[&["--p2p-listen", LOOPBACK], arguments].concat())
    }

    /// Starts a node without an MCP server on a folder that is there.
    pub(crate) fn daemon_on(folder: TempDir) -> Result<Self> {
        Self::start_as(DAEMON, folder, None, &["--p2p-listen", LOOPBACK])
    }

    /// Starts a node on a folder that is there, in a network namespace if one is named, with these arguments alone.
    pub(crate) fn start_on(folder: TempDir, namespace: Option<String>, arguments: &[&str]) -> Result<Self> {
        Self::start_as(SERVE, folder, namespace, arguments)
    }

    fn start_as(
        verb: &'static [&'static str],
        folder: TempDir,
        namespace: Option<String>,
        arguments: &[&str],
    ) -> Result<Self> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut node = Self { folder, verb, namespace, arguments, process: None };
        node.start_again()?;
        Ok(node)
    }

    /// Starts it on the same folder, after its process has ended.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the node runs");
        let mut command = match &self.namespace {
            Some(namespace) => taskmesh_command_in(namespace, self.folder.path()),
            None => taskmesh_command(self.folder.path()),
        };
        command.args(self.verb).args(&self.arguments);
        // A test that wants its own address says so.
        if self.verb == SERVE && !self.arguments.iter().any(|argument| argument == "--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A field of the ready line.
    pub(crate) fn ready(&self, field: &str) -> Result<&Value> {
        let ready = self.process.as_ref().context("the node does not run")?.ready();
        ready.get(field).with_context(|| format!("no {field} in {ready}"))
    }

    pub(crate) fn http(&self) -> Result<&str> {
        self.ready("http")?.as_str().context("http is no text")
    }

    pub(crate) fn peer_id(&self) -> Result<String> {
        Ok(self.ready("peer_id")?.as_str().context("peer_id is no text")?.to_owned())
    }

    pub(crate) fn address(&self) -> Result<String> {
        let first = self.ready("addresses")?.get(0).and_then(Value::as_str);
        Ok(first.context("no address")?.to_owned())
    }

    /// The process, for what the operating system says of it.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the node does not run")?.pid())
    }

    /// Runs a command on the node's folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Answered> {
        taskmesh(self.folder.path(), arguments)
    }

    /// Runs a command that has to succeed, for its JSON answer.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let answered = self.run(&[arguments, &["--json"]].concat())?;
        ensure!(answered.code == Some(0), "{arguments:?}: {answered:?}");
        answered.json()
    }

    /// Brings this node into the other one's mesh, by a ticket.
    pub(crate) fn join(&self, other: &Self) -> Result<()> {
        let invitation = other.ask(&["invite"])?;
        let ticket = invitation.get("ticket").and_then(Value::as_str).context("no ticket")?;
        let joined = self.ask(&["join", ticket])?;
        ensure!(joined.get("connected") == Some(&Value::Bool(true)), "not connected: {joined}");
        // This end has the other one's proof; the other one may be about to read this one's.
        other.sees(self)
    }

    /// A folder that belongs to this node's mesh and knows no address of anybody.
    pub(crate) fn guest_folder(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let invitation = self.ask(&["invite"])?;
        let ticket = invitation.get("ticket").and_then(Value::as_str).context("no ticket")?;
        let joined = taskmesh(folder.path(), &["join", ticket])?;
        ensure!(joined.code == Some(0), "{joined:?}");
        std::fs::write(folder.path().join("peers.json"), "[]")?;
        Ok(folder)
    }

    /// Looks until a connection to the other one stands, as this one sees it. What would wait for it, like a task at the other
    /// one or a search, would make one.
    pub(crate) fn sees(&self, other: &Self) -> Result<()> {
        let them = other.peer_id()?;
        let is_connected = || Ok(self.ask(&["peers", "--connected"])?.to_string().contains(&them).then_some(()));
        until(format_args!("{them} is connected"), is_connected)
    }

    /// Ends the process without a chance to tidy up.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.take().context("the node does not run")?.kill()
    }

    /// Sends the signal and waits for the end; says how it ended, how long it took, and what it had logged.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(ExitStatus, Duration, String)> {
        self.process.take().context("the node does not run")?.stop(signal)
    }
}
