use std::{
    io::{BufRead as _, BufReader, ErrorKind},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::DEADLINE;

/// A watch over a process's system calls, which can also make them fail. Dropping it detaches from the process.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    /// The reading thread sends each line, and hangs up at the end.
    lines: Receiver<String>,
}

impl Strace {
    /// Watches the process's syncs from now on; with `inject`, does this to each of them. The inner error says why it
    /// cannot be done.
    pub(crate) fn syncs_of(process: Pid, inject: Option<&str>) -> Result<Result<Self, String>> {
        let inject = inject.map(|inject| format!("-einject={SYNCS}:{inject}"));
        Self::attach(process, std::iter::once(format!("-etrace={SYNCS}")).chain(inject))
    }

    /// Watches how the process writes and syncs this file from now on, and makes the first sync of each thread fail.
    pub(crate) fn first_sync_fails(process: Pid, file: &Path) -> Result<Result<Self, String>> {
        let file = file.to_str().context("a name that strace takes")?.to_owned();
        let (trace, inject) = (format!("-etrace={WRITES},{SYNCS}"), format!("-einject={SYNCS}:error=EIO:when=1"));
        // The content does not matter, so one byte of it is enough.
        Self::attach(process, ["-P".to_owned(), file, trace, inject, "-s1".to_owned()])
    }

    /// Runs the program to its end, and returns its calls that made, renamed and synced files. The inner error says why
    /// they cannot be seen.
    pub(crate) fn names_of(program: &str, arguments: &[&str]) -> Result<Result<Vec<String>, String>> {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", &format!("-etrace={NAMES},{SYNCS}"), program]).args(arguments);
        let output = match command.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("there is no strace".to_owned())),
            output => output?,
        };
        let said = String::from_utf8(output.stderr)?;
        let lines: Vec<String> = said.lines().filter(|line| line.ends_with("= 0")).map(str::to_owned).collect();
        Ok(if lines.is_empty() { Err(said) } else { Ok(lines) })
    }

    fn attach(process: Pid, arguments: impl IntoIterator<Item = String>) -> Result<Result<Self, String>> {
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &process.as_raw_nonzero().to_string()]).args(arguments);
        let mut child = match command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("there is no strace".to_owned())),
            spawned => spawned?,
        };
        let stderr = child.stderr.take().context("no standard error")?;
        let (send, lines) = sync_channel(LINES_MAX);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let strace = Self { child, lines };
        let first = strace.lines.recv_timeout(DEADLINE).context("strace says nothing")?;
        Ok(if first.contains("attached") { Ok(strace) } else { Err(first) })
    }

    /// Waits for the next call.
    pub(crate) fn next(&self) -> Result<String> {
        self.lines.recv_timeout(DEADLINE).context("strace sees nothing")
    }

    /// Detaches from the process, and returns how many syncs have succeeded meanwhile, and how many were made to fail.
    pub(crate) fn detach(self) -> Result<(usize, usize)> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let lines: Vec<String> = self.lines.iter().collect();
        let spoiled = lines.iter().filter(|line| line.ends_with("(INJECTED)")).count();
        Ok((lines.iter().filter(|line| line.ends_with("= 0")).count(), spoiled))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Even when strace is killed, the system detaches it from the process.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The system calls that ask for stable storage.
const SYNCS: &str = "fsync,fdatasync,sync_file_range,msync";

/// The system calls that write at a place in a file.
const WRITES: &str = "lseek,write,pwrite64";

/// The system calls that make or move a name.
const NAMES: &str = "mkdir,mkdirat,rename,renameat,renameat2";

/// The most lines that may wait to be read.
const LINES_MAX: usize = 10_000;
