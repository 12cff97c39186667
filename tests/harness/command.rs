use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The exit code and the output of a command.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answered {
    /// Parses standard output, which has to be one JSON document.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not one JSON document: {self:?}"))
    }
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskmesh-under-test");

/// Returns a command on a data folder, not yet started.
pub(crate) fn taskmesh_command(data_dir: &Path) -> Command {
    on_folder(Command::new(PROGRAM), data_dir)
}

/// Returns such a command in a network namespace. `ip` replaces itself with the program, so its process id is the
/// program's.
pub(crate) fn taskmesh_command_in(namespace: &str, data_dir: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, PROGRAM]);
    on_folder(command, data_dir)
}

fn on_folder(mut command: Command, data_dir: &Path) -> Command {
    // Announce files for the whole machine stay within the test.
    command.env("XDG_CACHE_HOME", data_dir.join("cache"));
    command.env("TASKMESH_DATA_DIR", data_dir).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command on a data folder to its end.
pub(crate) fn taskmesh(data_dir: &Path, arguments: &[&str]) -> Result<Answered> {
    taskmesh_with_input(data_dir, arguments, b"")
}

/// Runs a command with this standard input.
pub(crate) fn taskmesh_with_input(data_dir: &Path, arguments: &[&str], input: &[u8]) -> Result<Answered> {
    let mut child = taskmesh_command(data_dir).args(arguments).stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    answered(child.wait_with_output()?)
}

/// Runs a command on a data folder in a network namespace to its end.
pub(crate) fn taskmesh_in(namespace: &str, data_dir: &Path, arguments: &[&str]) -> Result<Answered> {
    answered(taskmesh_command_in(namespace, data_dir).args(arguments).output()?)
}

fn answered(output: Output) -> Result<Answered> {
    Ok(Answered {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}
