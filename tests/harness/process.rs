use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::DEADLINE;

/// A `taskmesh` process that is ready. Dropping it kills the process and shows its log.
pub(crate) struct Process {
    child: Child,
    ready: Value,
    /// The reading thread sends all of standard error when the process has closed it.
    stderr: Receiver<String>,
    is_over: bool,
}

impl Process {
    /// Starts a command with `--json` and waits for its ready line.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut errors = child.stderr.take().context("no standard error")?;
        let (send_ready, ready) = sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // The receiver is gone when the test has failed meanwhile.
            drop(send_ready.send(read.map(|_| line)));
        });
        let (send_stderr, stderr) = sync_channel(1);
        thread::spawn(move || {
            let mut text = String::new();
            drop(errors.read_to_string(&mut text));
            drop(send_stderr.send(text));
        });
        let mut process = Self { child, ready: Value::Null, stderr, is_over: false };
        let line = ready.recv_timeout(DEADLINE).context("no ready line in time")??;
        process.ready = serde_json::from_str(&line).map_err(|_| {
            process.child.kill().ok();
            anyhow!("not a ready line: {line:?}; {}", process.stderr.recv_timeout(DEADLINE).unwrap_or_default())
        })?;
        Ok(process)
    }

    pub(crate) const fn ready(&self) -> &Value {
        &self.ready
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process, so that it cannot tidy up.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.is_over = true;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends the signal and waits for the end. Returns the exit status, the time that it took, and the log.
    pub(crate) fn stop(mut self, signal: Signal) -> Result<(ExitStatus, Duration, String)> {
        self.is_over = true;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        let since = Instant::now();
        kill_process(pid, signal)?;
        // Standard error is closed when the process ends. Unlike the end itself, this can be waited for with a
        // deadline.
        let Ok(stderr) = self.stderr.recv_timeout(DEADLINE) else {
            self.child.kill()?;
            bail!("the process did not end on {signal:?}");
        };
        let status = self.child.wait()?;
        Ok((status, since.elapsed(), stderr))
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "shown only for a test that fails")]
    fn drop(&mut self) {
        if !self.is_over {
            self.child.kill().ok();
            self.child.wait().ok();
            if let Ok(stderr) = self.stderr.recv_timeout(DEADLINE) {
                eprintln!("the process said:\n{stderr}");
            }
        }
    }
}
