use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use runtime_bridge::Runtime;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};

use super::{Contact, Handler, Outcome, Source};
use crate::{Json, Task, api::limits::JSON_BYTES_MAX};

/// Runs a command for each task: the payload on its standard input, the result from its standard output.
///
/// A payload that is a JSON string is given as its text, any other as compact JSON. The output is the result: parsed when
/// the whole of it is one JSON value, else as a string without its final newline. A command that exits with another code
/// than 0 has failed; the error has the code and the end of its standard error.
///
/// Its environment says what it works on, for a program that renews the lease with word of its progress, or with a
/// question: `TASKMESH_TASK_ID`, `TASKMESH_ATTEMPT`, `TASKMESH_FENCE`, `TASKMESH_LEASE_S`, and `TASKMESH_OWNER`, the peer
/// that keeps the task, unless it is the local node; besides what [`with_env`](Self::with_env) has given it.
///
/// The command runs in a process group of its own, which is ended as a whole when the task is called off. It needs a
/// tokio context, which the executor thread gives to whatever runs on it.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    /// For the time between asking a command to end and ending it.
    runtime: Arc<dyn Runtime>,
}

impl CommandHandler {
    /// Splits a command line as a shell splits words; no shell runs it.
    ///
    /// # Errors
    ///
    /// [`ParseCommandError`] when a quote is left open or there is no word.
    pub fn parse(line: &str, runtime: Arc<dyn Runtime>) -> Result<Self, ParseCommandError> {
        let mut words = shell_words::split(line).map_err(|_| ParseCommandError::OpenQuote)?.into_iter();
        let program = words.next().filter(|word| !word.is_empty()).ok_or(ParseCommandError::Empty)?;
        Ok(Self { program, arguments: words.collect(), environment: Vec::new(), runtime })
    }

    /// Gives the command an environment variable besides.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn spawn(&self, task: &Task, source: Source) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        // Not that of a command which this one may be running in.
        for name in ["TASKMESH_FENCE", "TASKMESH_OWNER"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs(task.fence.map(|fence| ("TASKMESH_FENCE", fence.to_string())));
        command.envs(source.owner.map(|owner| ("TASKMESH_OWNER", owner.to_string())));
        command
            .args(&self.arguments)
            .env("TASKMESH_TASK_ID", task.task_id.to_string())
            .env("TASKMESH_ATTEMPT", task.attempt.to_string())
            .env("TASKMESH_LEASE_S", source.lease.as_secs_f64().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    fn outcome(&self, conversation: &Conversation) -> Outcome {
        let Conversation { status, output, error_tail } = conversation;
        if status.success() {
            return result(output);
        }
        let separator = if error_tail.is_empty() { "" } else { ": " };
        failed(format!("{} {}{separator}{error_tail}", self.program, ending(*status)))
    }

    async fn end(&self, child: &mut Child, group: Option<Pid>) {
        signal(group, Signal::TERM);
        let grace = self.runtime.sleep_until(self.runtime.now() + TERMINATION_GRACE);
        tokio::select! {
            _ = child.wait() => {}
            () = grace => {}
        }
        // Also what the command has left behind in its group.
        signal(group, Signal::KILL);
        if let Err(error) = child.wait().await {
            tracing::warn!(%error, "could not wait for a command that was ended");
        }
    }
}

#[async_trait]
impl Handler for CommandHandler {
    async fn run(&self, task: &Task, mut contact: Contact) -> Outcome {
        let mut child = match self.spawn(task, contact.source()) {
            Ok(child) => child,
            Err(error) => return failed(format!("could not start {}: {error}", self.program)),
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let finished = tokio::select! {
            finished = converse(&mut child, input(&task.payload)) => Some(finished),
            () = contact.stop_requested() => None,
        };
        match finished {
            Some(Ok(conversation)) => self.outcome(&conversation),
            Some(Err(error)) => {
                self.end(&mut child, group).await;
                let retryable = !matches!(error, TalkError::TooLong);
                Outcome::Failed { error: format!("{}: {error}", self.program), retryable }
            }
            None => {
                self.end(&mut child, group).await;
                Outcome::Stopped
            }
        }
    }
}

/// Why a text is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCommandError {
    /// A quote has no end.
    #[error("a quote is left open")]
    OpenQuote,
    /// There is no word.
    #[error("the command is empty")]
    Empty,
}

/// What a command has said and how it ended.
struct Conversation {
    status: ExitStatus,
    output: Vec<u8>,
    error_tail: String,
}

/// Why a command was not heard to its end.
#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error("it wrote more than {JSON_BYTES_MAX} bytes, the limit of a result")]
    TooLong,
    #[error("{0}")]
    Io(#[from] io::Error),
}

async fn converse(child: &mut Child, input: Vec<u8>) -> Result<Conversation, TalkError> {
    let missing = || io::Error::other("a pipe to the command is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let ((), output, error_tail) = tokio::try_join!(write_all(stdin, &input), read_bounded(stdout), read_tail(stderr))?;
    Ok(Conversation { status: child.wait().await?, output, error_tail })
}

/// A command may end without having read its input: that is its own affair.
async fn write_all(mut stdin: ChildStdin, input: &[u8]) -> Result<(), TalkError> {
    if let Err(error) = stdin.write_all(input).await {
        tracing::debug!(%error, "the command did not read its whole input");
    }
    Ok(())
}

/// Reads to the end, which has to come within the limit of a result.
async fn read_bounded(reader: impl AsyncRead + Unpin) -> Result<Vec<u8>, TalkError> {
    let mut output = Vec::new();
    let limit = JSON_BYTES_MAX as u64 + 1;
    reader.take(limit).read_to_end(&mut output).await?;
    if output.len() > JSON_BYTES_MAX { Err(TalkError::TooLong) } else { Ok(output) }
}

/// Reads to the end and keeps the last of it.
async fn read_tail(mut reader: impl AsyncRead + Unpin) -> Result<String, TalkError> {
    let mut tail: Vec<u8> = Vec::new();
    let mut chunk = [0; ERROR_TAIL_BYTES];
    loop {
        let count = reader.read(&mut chunk).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&tail).trim().to_owned());
        }
        tail.extend(chunk.iter().take(count));
        let excess = tail.len().saturating_sub(ERROR_TAIL_BYTES);
        tail.drain(..excess);
    }
}

fn input(payload: &Json) -> Vec<u8> {
    payload.to::<String>().unwrap_or_else(|_| payload.compact()).into_bytes()
}

fn result(output: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(output);
    if let Ok(json) = Json::parse(text.trim().to_owned()) {
        return Outcome::Done(json);
    }
    let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    let json = Json::from_text(text);
    if json.len_bytes() > JSON_BYTES_MAX {
        let error = format!("the output as a JSON string is over {JSON_BYTES_MAX} bytes, the limit of a result");
        return Outcome::Failed { error, retryable: false };
    }
    Outcome::Done(json)
}

fn failed(error: String) -> Outcome {
    Outcome::Failed { error, retryable: true }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    // An error means that nobody is left in the group.
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, signal)
    {
        tracing::debug!(%error, "no process left to end");
    }
}

/// What is kept of a command's standard error.
const ERROR_TAIL_BYTES: usize = 4 * 1024;

/// A stopping node has two seconds in all; a command gets a quarter of them.
const TERMINATION_GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
