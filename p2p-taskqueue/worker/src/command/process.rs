use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{ChildStderr as StdErr, ChildStdin as StdIn, ChildStdout as StdOut, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime_bridge::Runtime;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use super::{
    KILL_WAIT, TERMINATION_GRACE,
    messages::{END, Ends, Environment, Report, send_ends},
    talk::Talk,
};

/// A command that was started.
#[derive(Debug)]
pub(super) enum Process {
    /// The command is a child of this process.
    Own(OwnChild),
    /// The command is a child of a supervisor, which is a child of this process.
    Supervised(Supervised),
}

impl Process {
    /// Starts the command in a process group of its own.
    pub(super) fn start(mut command: Command) -> io::Result<(Self, Talk)> {
        let (talk, ends) = pipes()?;
        let [stdin, stdout, stderr] = ends.map(Stdio::from);
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0).spawn()?;
        let group = child.id().and_then(group);
        Ok((Self::Own(OwnChild { child, group, is_over: false }), talk))
    }

    /// Starts the command through a supervisor: an idle one, or a new one that this command line starts.
    pub(super) async fn start_supervised(
        idle: &Idle,
        new: Command,
        environment: &Environment,
    ) -> io::Result<(Self, Talk)> {
        let mut supervisor = match idle.take() {
            Some(supervisor) => supervisor,
            None => Supervisor::start(new)?,
        };
        let talk = supervisor.order(environment).await?;
        let group = match supervisor.report().await? {
            Report::Started(group) => Pid::from_raw(group),
            Report::Refused { code, message } => {
                idle.put(supervisor);
                return Err(code.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error));
            }
            report => return Err(out_of_turn(&report)),
        };
        Ok((Self::Supervised(Supervised { supervisor, group, idle: idle.clone() }), talk))
    }

    /// Waits until the command itself has ended, whatever it has left behind. Callers may call this once.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Own(own) => own.child.wait().await,
            Self::Supervised(supervised) => supervised.ended().await,
        }
    }

    /// Ends the command and everything that is left of it: first with SIGTERM, then with SIGKILL.
    pub(super) async fn end(self, runtime: &Arc<dyn Runtime>) {
        match self {
            Self::Own(mut own) => own.end(runtime).await,
            Self::Supervised(supervised) => supervised.end(runtime).await,
        }
    }
}

/// A command without a supervisor. Dropping it kills its group.
#[derive(Debug)]
pub(super) struct OwnChild {
    child: Child,
    group: Option<Pid>,
    /// Whether the group has no process left. Its number may belong to another group by now.
    is_over: bool,
}

impl OwnChild {
    async fn end(&mut self, runtime: &Arc<dyn Runtime>) {
        let asked_at = runtime.now();
        let mut is_left = signal(self.group, Signal::TERM);
        while is_left && runtime.now() < asked_at + TERMINATION_GRACE {
            runtime.sleep_until(runtime.now() + LOOK_AGAIN).await;
            // An ended child stays in its group until somebody waits for it. An error shows again below.
            drop(self.child.try_wait());
            is_left = self.group.is_some_and(|group| test_kill_process_group(group).is_ok());
        }
        if is_left {
            signal(self.group, Signal::KILL);
        }
        if let Err(error) = self.child.wait().await {
            tracing::warn!(%error, "could not wait for a command that was ended");
        }
        self.is_over = true;
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        if !self.is_over {
            signal(self.group, Signal::KILL);
        }
    }
}

/// Idle supervisors. Each has served at least one command, so there are never more than the most commands that ran at
/// once.
#[derive(Debug, Clone, Default)]
pub(super) struct Idle(Arc<Mutex<Vec<Supervisor>>>);

impl Idle {
    fn take(&self) -> Option<Supervisor> {
        let mut supervisors = self.lock();
        // Somebody may have killed a supervisor in the meantime. Such a supervisor is skipped.
        while let Some(mut supervisor) = supervisors.pop() {
            if matches!(supervisor.child.try_wait(), Ok(None)) {
                return Some(supervisor);
            }
        }
        None
    }

    fn put(&self, supervisor: Supervisor) {
        self.lock().push(supervisor);
    }

    // The data is valid whenever the lock is released, also after a panic.
    fn lock(&self) -> MutexGuard<'_, Vec<Supervisor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A supervisor process. When this value is dropped, the process ends its command and itself.
#[derive(Debug)]
struct Supervisor {
    child: Child,
    /// The supervisor holds the other end.
    control: BufReader<UnixStream>,
}

impl Supervisor {
    fn start(mut command: Command) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        // The supervisor uses blocking I/O on its end.
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        // The supervisor must not keep any of the node's files open, because it may outlive the node by a moment.
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { child: command.spawn()?, control: BufReader::new(control) })
    }

    async fn order(&mut self, environment: &Environment) -> io::Result<Talk> {
        let (talk, ends) = pipes()?;
        let mut line = serde_json::to_vec(environment)?;
        line.push(b'\n');
        send_ends(self.control.get_ref(), &ends)?;
        self.control.write_all(&line).await?;
        Ok(talk)
    }

    async fn report(&mut self) -> io::Result<Report> {
        let mut line = Vec::new();
        (&mut self.control).take(REPORT_BYTES_MAX).read_until(b'\n', &mut line).await?;
        serde_json::from_slice(&line).map_err(|_| io::Error::other("its supervisor was ended"))
    }

    /// Asks the supervisor to end the command and everything that is left of it.
    async fn end(&mut self) -> io::Result<()> {
        self.control.write_all(&[END]).await?;
        // Earlier reports do not matter any more.
        while !matches!(self.report().await?, Report::Over) {}
        Ok(())
    }
}

/// A command with a supervisor.
#[derive(Debug)]
pub(super) struct Supervised {
    supervisor: Supervisor,
    group: Option<Pid>,
    idle: Idle,
}

impl Supervised {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self.supervisor.report().await? {
            Report::Ended(status) => Ok(ExitStatus::from_raw(status)),
            report => Err(out_of_turn(&report)),
        }
    }

    async fn end(mut self, runtime: &Arc<dyn Runtime>) {
        let in_time = runtime.sleep_until(runtime.now() + TERMINATION_GRACE + KILL_WAIT + SUPERVISOR_MARGIN);
        let ended = tokio::select! {
            ended = self.supervisor.end() => ended,
            () = in_time => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        match ended {
            Ok(()) => self.idle.put(self.supervisor),
            Err(error) => {
                tracing::warn!(%error, "a command's supervisor could not end everything");
                let until = runtime.now() + KILL_WAIT;
                // The next attempt must not begin while a process of this one is still dying.
                while signal(self.group, Signal::KILL) && runtime.now() < until {
                    runtime.sleep_until(runtime.now() + LOOK_AGAIN).await;
                }
            }
        }
    }
}

fn out_of_turn(report: &Report) -> io::Error {
    io::Error::other(format!("a supervisor's report out of turn: {report:?}"))
}

/// Makes the pipes of a command: this side's ends, and the command's ends.
fn pipes() -> io::Result<(Talk, Ends)> {
    let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) = (io::pipe()?, io::pipe()?, io::pipe()?);
    let talk = Talk::new(
        ChildStdin::from_std(StdIn::from(OwnedFd::from(to_stdin)))?,
        ChildStdout::from_std(StdOut::from(OwnedFd::from(from_stdout)))?,
        ChildStderr::from_std(StdErr::from(OwnedFd::from(from_stderr)))?,
    );
    Ok((talk, [stdin.into(), stdout.into(), stderr.into()]))
}

fn group(leader: u32) -> Option<Pid> {
    i32::try_from(leader).ok().and_then(Pid::from_raw)
}

/// Sends a signal to the group. Answers whether the group still had a process.
fn signal(group: Option<Pid>, signal: Signal) -> bool {
    group.is_some_and(|group| kill_process_group(group, signal).is_ok())
}

/// The pause between two checks. A process that ends on a signal does so within milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The longest report, in bytes: a line of a few words, and an error text of the system.
const REPORT_BYTES_MAX: u64 = 4 * 1024;

/// The extra time that a supervisor has on a very busy machine. Usually it ends within the regular time.
const SUPERVISOR_MARGIN: Duration = Duration::from_secs(2);
