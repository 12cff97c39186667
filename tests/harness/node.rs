use std::{
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Process,
    command::{Answered, taskmesh, taskmesh_command, taskmesh_command_in},
    until,
};

/// The address of a free port on this machine.
const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// A `taskmesh serve` or `taskmesh daemon` process and its data folder. Dropping it kills the process.
pub(crate) struct Node {
    folder: TempDir,
    verb: &'static [&'static str],
    /// The network namespace that the process runs in; `None` is that of the tests.
    namespace: Option<String>,
    arguments: Vec<String>,
    process: Option<Process>,
}

fn command_in(namespace: Option<&str>, folder: &Path) -> Command {
    match namespace {
        Some(namespace) => taskmesh_command_in(namespace, folder),
        None => taskmesh_command(folder),
    }
}

/// The commands that start a node with an MCP server, and without one.
const SERVE: &[&str] = &["serve", "--json"];
const DAEMON: &[&str] = &["daemon", "--json"];

impl Node {
    /// Starts a node on a new folder and on free ports.
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

    /// Starts a node without an MCP server on an existing folder.
    pub(crate) fn daemon_on(folder: TempDir) -> Result<Self> {
        Self::start_as(DAEMON, folder, None, &["--p2p-listen", LOOPBACK])
    }

    /// Starts a node on an existing folder with these arguments alone, in a network namespace if one is named.
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

    /// Starts the node again on the same folder, after its process has ended.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the node runs");
        let mut command = command_in(self.namespace.as_deref(), self.folder.path());
        command.args(self.verb).args(&self.arguments);
        // A test that needs its own address names it in the arguments.
        if self.verb == SERVE && !self.arguments.iter().any(|argument| argument == "--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the process if it runs, and returns the folder.
    pub(crate) fn into_folder(mut self) -> Result<TempDir> {
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        Ok(self.folder)
    }

    /// Returns a field of the ready line.
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

    /// Returns the process id, for what the operating system knows of the process.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the node does not run")?.pid())
    }

    /// Runs a command on the node's folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Answered> {
        taskmesh(self.folder.path(), arguments)
    }

    /// Runs a command that has to succeed, and returns its JSON answer.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let answered = self.run(&[arguments, &["--json"]].concat())?;
        ensure!(answered.code == Some(0), "{arguments:?}: {answered:?}");
        answered.json()
    }

    /// Brings this node into the other one's mesh with a ticket.
    pub(crate) fn join(&self, other: &Self) -> Result<()> {
        self.join_as(other, "member")
    }

    /// Brings this node into the other one's mesh, in this role.
    pub(crate) fn join_as(&self, other: &Self, role: &str) -> Result<()> {
        let invitation = other.ask(&["invite", "--role", role])?;
        let ticket = invitation.get("ticket").and_then(Value::as_str).context("no ticket")?;
        let joined = self.ask(&["join", ticket])?;
        ensure!(joined.get("connected") == Some(&Value::Bool(true)), "not connected: {joined}");
        // This node has the proof of the other one, which may not have read this node's proof yet.
        other.sees(self)
    }

    /// Returns a data folder that belongs to this node's mesh and knows no addresses of peers.
    pub(crate) fn guest_folder(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let invitation = self.ask(&["invite"])?;
        let ticket = invitation.get("ticket").and_then(Value::as_str).context("no ticket")?;
        let mut join = command_in(self.namespace.as_deref(), folder.path());
        let joined = join.args(["join", ticket]).output()?;
        ensure!(joined.status.success(), "{joined:?}");
        std::fs::write(folder.path().join("peers.json"), "[]")?;
        Ok(folder)
    }

    /// Polls until this node has a connection to the other one. It does not wait by an operation, such as a search or a
    /// task at the other node, because that would make a connection.
    pub(crate) fn sees(&self, other: &Self) -> Result<()> {
        let them = other.peer_id()?;
        let is_connected = || Ok(self.ask(&["peers", "--connected"])?.to_string().contains(&them).then_some(()));
        until(format_args!("{them} is connected"), is_connected)
    }

    /// Kills the process, so that it cannot tidy up.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.take().context("the node does not run")?.kill()
    }

    /// Sends the signal and waits for the end. Returns the exit status, the time that it took, and the log.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(ExitStatus, Duration, String)> {
        self.process.take().context("the node does not run")?.stop(signal)
    }
}
