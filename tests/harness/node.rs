use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    DEADLINE,
    command::{Answered, taskmesh, taskmesh_command, taskmesh_command_in},
};

/// A free port of this machine.
const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// A `taskmesh serve` process and its data folder. Dropping it kills the process.
pub(crate) struct Node {
    folder: TempDir,
    /// The network namespace that it runs in; the tests' own without one.
    namespace: Option<String>,
    arguments: Vec<String>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    ready: Value,
    /// The reading thread sends all of standard error when the process has closed it.
    stderr: Receiver<String>,
}

impl Node {
    /// Starts a node on a folder of its own and on free ports.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_at(LOOPBACK, arguments)
    }

    /// Starts a node that listens at this address.
    pub(crate) fn start_at(listen: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_on(tempfile::tempdir()?, None, &[&["--p2p-listen", listen], arguments].concat())
    }

    /// Starts a node on a folder that is there, in a network namespace if one is named, with these arguments alone.
    pub(crate) fn start_on(folder: TempDir, namespace: Option<String>, arguments: &[&str]) -> Result<Self> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut node = Self { folder, namespace, arguments, process: None };
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
        command.args(["serve", "--json"]).args(&self.arguments);
        if !self.arguments.iter().any(|argument| argument == "--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut errors = child.stderr.take().context("no standard error")?;
        let (send_ready, ready) = sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // Nobody listens any more when the test has failed meanwhile.
            drop(send_ready.send(read.map(|_| line)));
        });
        let (send_stderr, stderr) = sync_channel(1);
        thread::spawn(move || {
            let mut text = String::new();
            drop(errors.read_to_string(&mut text));
            drop(send_stderr.send(text));
        });
        let mut process = Process { child, ready: Value::Null, stderr };
        let line = ready.recv_timeout(DEADLINE).context("no ready line in time")??;
        process.ready = serde_json::from_str(&line).map_err(|_| {
            process.child.kill().ok();
            anyhow!("not a ready line: {line:?}; {}", process.stderr.recv_timeout(DEADLINE).unwrap_or_default())
        })?;
        self.process = Some(process);
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A field of the ready line.
    pub(crate) fn ready(&self, field: &str) -> Result<&Value> {
        let ready = &self.process.as_ref().context("the node does not run")?.ready;
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
        Ok(self.process.as_ref().context("the node does not run")?.child.id())
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

    /// Waits until a connection to the other one stands, as this one sees it.
    pub(crate) fn sees(&self, other: &Self) -> Result<()> {
        let (them, since) = (other.peer_id()?, Instant::now());
        loop {
            let peers = self.ask(&["peers", "--connected"])?;
            if peers.to_string().contains(&them) {
                return Ok(());
            }
            ensure!(since.elapsed() < DEADLINE, "{them} is not connected: {}", self.ask(&["peers"])?);
        }
    }

    /// Ends the process without a chance to tidy up.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node does not run")?;
        process.child.kill()?;
        process.child.wait()?;
        Ok(())
    }

    /// Sends the signal and waits for the end; says how it ended, how long it took, and what it had logged.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(ExitStatus, Duration, String)> {
        let mut process = self.process.take().context("the node does not run")?;
        let pid = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        let since = Instant::now();
        kill_process(pid, signal)?;
        // Standard error is closed when the process ends, which is an event to wait for with a deadline.
        let Ok(stderr) = process.stderr.recv_timeout(DEADLINE) else {
            process.child.kill()?;
            bail!("the node did not end on {signal:?}");
        };
        let status = process.child.wait()?;
        Ok((status, since.elapsed(), stderr))
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "shown only for a test that fails")]
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.child.kill().ok();
            process.child.wait().ok();
            if let Ok(stderr) = process.stderr.recv_timeout(DEADLINE) {
                eprintln!("the node said:\n{stderr}");
            }
        }
    }
}
