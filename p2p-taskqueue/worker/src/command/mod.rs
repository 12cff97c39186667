mod descendants;
mod messages;
mod process;
mod supervisor;
mod talk;

use std::{
    ffi::OsString,
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use runtime_bridge::Runtime;
use taskqueue_api::{Json, TaskRecord, limits::JSON_BYTES_MAX};

use self::{
    messages::Environment,
    process::{Idle, Process},
    supervisor::set,
    talk::{Heard, Talk, TalkError},
};
use super::{AttemptEnd, Contact, Handler, Source};

pub use supervisor::supervise;

/// Runs a command for each task: the payload on its standard input, the result from its standard output.
///
/// A payload that is a JSON string is given as its text; any other payload is given as compact JSON.
///
/// The output is the result. If all of it is one JSON value that is allowed as a result, it is parsed. Otherwise it
/// becomes a string without its final newline.
///
/// A command that exits with a code other than 0 has failed. The error has the code and the end of its standard error.
///
/// Environment variables tell the command which task it works on, so that a program can renew the lease and report
/// progress or ask a question: `TASKMESH_TASK_ID`, `TASKMESH_ATTEMPT`, `TASKMESH_FENCE` and `TASKMESH_LEASE_S`.
/// `TASKMESH_OWNER` is the peer that keeps the task, and is set unless that is the local node. The variables of
/// [`with_env`](Self::with_env) are added to these.
///
/// An attempt ends with its command. The command runs in a process group of its own. When it ends, or when the task is
/// cancelled, the processes that it has left in its group are asked to end (SIGTERM), and killed half a second later.
///
/// This process does that. So nothing is ended when this process is killed, and processes that have left the group are
/// not found. With [`supervised_by`](Self::supervised_by) a separate process does it.
///
/// The handler needs a tokio context. The executor thread provides one to everything that runs on it.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    supervisor: Option<PathBuf>,
    /// Supervisors that were started and wait for the next command.
    idle: Idle,
    /// Measures the time between asking a command to end and killing it.
    runtime: Arc<dyn Runtime>,
}

impl CommandHandler {
    /// Splits a command line into words as a shell does. No shell runs it.
    ///
    /// # Errors
    ///
    /// [`ParseCommandError`] when a quote is left open or there is no word.
    pub fn parse(line: &str, runtime: Arc<dyn Runtime>) -> Result<Self, ParseCommandError> {
        let mut words = shell_words::split(line).map_err(|_| ParseCommandError::OpenQuote)?.into_iter();
        let program = words.next().filter(|word| !word.is_empty()).ok_or(ParseCommandError::Empty)?;
        Ok(Self {
            program,
            arguments: words.collect(),
            environment: Vec::new(),
            supervisor: None,
            idle: Idle::default(),
            runtime,
        })
    }

    /// Adds an environment variable for the command.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Uses a supervisor: a separate process that starts the commands and ends them.
    ///
    /// It ends them at once when this process is gone, however that happened. Another attempt, on any machine, then
    /// does not run beside the old one. On Linux it also finds processes that have left the command's group and
    /// session. A command starts as fast as without a supervisor, because the supervisor stays for the next command.
    ///
    /// The program may be `/proc/self/exe`. When its first argument is [`SUPERVISE`], it must call [`supervise`] with
    /// the further arguments before it does anything else.
    #[must_use]
    pub fn supervised_by(mut self, program: impl Into<PathBuf>) -> Self {
        self.supervisor = Some(program.into());
        self
    }

    async fn start(&self, task: &TaskRecord, source: Source) -> io::Result<(Process, Talk)> {
        let environment = self.environment_of(task, source);
        let Some(supervisor) = &self.supervisor else {
            let mut command = Command::new(&self.program);
            set(command.args(&self.arguments), environment);
            return Process::start(command.into());
        };
        let mut new = Command::new(supervisor);
        // The process has a name of its own, so that somebody who ends the node by its name does not end the supervisor
        // too.
        new.arg0("task-supervisor").arg(SUPERVISE).arg(&self.program).args(&self.arguments);
        Process::start_supervised(&self.idle, new.into(), &environment).await
    }

    /// The variables that tell a command which task it works on.
    fn environment_of(&self, task: &TaskRecord, source: Source) -> Environment {
        let given = self.environment.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        let own = [
            ("TASKMESH_TASK_ID", Some(task.task_id.to_string())),
            ("TASKMESH_ATTEMPT", Some(task.attempt.to_string())),
            ("TASKMESH_LEASE_S", Some(source.lease.as_secs_f64().to_string())),
            // Without a fence the variable is removed. Otherwise the command would inherit it when this program itself
            // runs inside a command.
            ("TASKMESH_FENCE", task.fence.map(|fence| fence.to_string())),
            ("TASKMESH_OWNER", source.owner.map(|owner| owner.to_string())),
        ];
        given.chain(own.map(|(name, value)| (name.to_owned(), value.map(OsString::from)))).collect()
    }

    /// Gives a command its input and reads its output until it has ended; `None` when it is told to stop before.
    async fn hear(
        &self,
        process: &mut Process,
        talk: &mut Talk,
        input: &[u8],
        contact: &mut Contact,
    ) -> Result<Option<ExitStatus>, TalkError> {
        let status = tokio::select! {
            status = process.ended() => status?,
            error = talk.hold(input) => return Err(error),
            () = contact.stop_requested() => return Ok(None),
        };
        let grace = async {
            tokio::select! {
                () = self.runtime.sleep_until(self.runtime.now() + OUTPUT_GRACE) => {}
                () = contact.stop_requested() => {}
            }
        };
        talk.finish(grace).await?;
        Ok(Some(status))
    }

    fn outcome(&self, status: ExitStatus, heard: &Heard) -> AttemptEnd {
        if status.success() {
            return result(&heard.output);
        }
        let error_tail = heard.error_tail();
        let separator = if error_tail.is_empty() { "" } else { ": " };
        failed(format!("{} {}{separator}{error_tail}", self.program, ending(status)))
    }
}

#[async_trait]
impl Handler for CommandHandler {
    async fn run(&self, task: &TaskRecord, mut contact: Contact) -> AttemptEnd {
        let (mut process, mut talk) = match self.start(task, contact.source()).await {
            Ok(started) => started,
            Err(error) => return failed(format!("could not start {}: {error}", self.program)),
        };
        let ended = self.hear(&mut process, &mut talk, &input(&task.payload), &mut contact).await;
        // This is also needed after a success: the attempt is over, so everything that belongs to it ends.
        process.end(&self.runtime).await;
        match ended {
            Ok(Some(status)) => self.outcome(status, &talk.into_heard()),
            Ok(None) => AttemptEnd::Stopped,
            Err(error) => {
                let retryable = !matches!(error, TalkError::TooLong);
                AttemptEnd::Failed { error: format!("{}: {error}", self.program), retryable }
            }
        }
    }
}

/// The reason why a text is not a command.
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

fn input(payload: &Json) -> Vec<u8> {
    payload.to::<String>().unwrap_or_else(|_| payload.compact()).into_bytes()
}

fn result(output: &[u8]) -> AttemptEnd {
    let text = String::from_utf8_lossy(output);
    if let Ok(json) = Json::parse(text.trim().to_owned())
        && json.check_readable().is_ok()
    {
        return AttemptEnd::Done(json);
    }
    let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    let json = Json::from_text(text);
    if json.len_bytes() > JSON_BYTES_MAX {
        let error = format!("the output as a JSON string is over {JSON_BYTES_MAX} bytes, the limit of a result");
        return AttemptEnd::Failed { error, retryable: false };
    }
    AttemptEnd::Done(json)
}

fn failed(error: String) -> AttemptEnd {
    AttemptEnd::Failed { error, retryable: true }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The first argument of a supervisor.
pub const SUPERVISE: &str = "supervise-command";

/// What a command has left behind may still write something, for example a `tee` that the command wrote through. A
/// process that keeps the pipes open longer is not waited for.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// A stopping node has two seconds in all. A command gets a quarter of them.
const TERMINATION_GRACE: Duration = Duration::from_millis(500);

/// A killed process is gone within milliseconds, unless the system itself blocks it. A blocked process cannot do
/// anything.
const KILL_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
