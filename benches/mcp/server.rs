use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Error, noop};

/// Where the MCP server and the node run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Bridge,
    Native,
    /// The node in a process of its own.
    Daemon,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Bridge, Self::Native, Self::Daemon];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Native => "native",
            Self::Daemon => "daemon",
        }
    }
}

/// A server in a process of its own. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) place: SocketAddr,
    processes: Vec<Child>,
    _folder: TempDir,
}

impl Server {
    /// Starts a server whose tool does nothing.
    pub(crate) fn noop() -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--bench", noop::FLAG]);
        Self::started(folder()?, command, Vec::new())
    }

    /// Starts the program in this mode.
    pub(crate) fn start(mode: Mode) -> Result<Self, Error> {
        let (folder, mut processes) = (folder()?, Vec::new());
        let what = if mode == Mode::Daemon { "daemon" } else { "serve" };
        let mut node = program(&folder, what);
        node.args(["--p2p-listen", "/ip4/127.0.0.1/tcp/0"]);
        if mode != Mode::Daemon {
            node.args(["--http", "127.0.0.1:0", "--mode", mode.name()]);
            return Self::started(folder, node, processes);
        }
        let ready = ready(&mut node, &mut processes)?;
        let rpc = ready.pointer("/rpc/0").and_then(Value::as_str).ok_or("a daemon without RPC")?;
        let mut front = Command::new(PROGRAM);
        front.args(["serve", "--json", "--http", "127.0.0.1:0", "--daemon", rpc]).env_remove("RUST_LOG");
        Self::started(folder, front, processes)
    }

    fn started(folder: TempDir, mut command: Command, mut processes: Vec<Child>) -> Result<Self, Error> {
        let ready = ready(&mut command, &mut processes)?;
        let url = ready.get("http").and_then(Value::as_str).ok_or("a server without HTTP")?;
        let place = url.trim_start_matches("http://").trim_end_matches("/mcp").parse()?;
        Ok(Self { place, processes, _folder: folder })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The MCP server is ended before the daemon that it asks.
        for process in self.processes.iter_mut().rev() {
            let _ended = process.kill().and_then(|()| process.wait());
        }
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_taskmesh-under-bench");

fn folder() -> Result<TempDir, Error> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn program(folder: &TempDir, what: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args([what, "--json", "--data-dir"]).arg(folder.path());
    command.env("XDG_CACHE_HOME", folder.path()).env_remove("RUST_LOG");
    command
}

/// Starts a process and reads its ready line.
fn ready(command: &mut Command, processes: &mut Vec<Child>) -> Result<Value, Error> {
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout = process.stdout.take();
    processes.push(process);
    let mut line = String::new();
    BufReader::new(stdout.ok_or("no standard output")?).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|_| format!("not a ready line: {line:?}").into())
}
