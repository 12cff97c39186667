use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use p2p_taskqueue::{
    Operation, QueueError, TaskStatus,
    api::{List, Stats, StatsQuery, TaskRecord},
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::DEADLINE;
use crate::talk::{Order, Said};

/// A process that holds a queue. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct QueueProcess {
    child: Child,
    stdin: ChildStdin,
    /// The reading thread sends what the process says, and hangs up when the process has ended.
    said: Receiver<Said>,
}

impl QueueProcess {
    /// Starts a process and waits until it is ready. `place` is a file for the `kind` `store`, and a socket for
    /// `socket`.
    pub(crate) fn start(kind: &str, place: impl AsRef<OsStr>) -> Result<Self> {
        let mut process = Self::spawn(Command::new(Self::PROGRAM).arg(kind).arg(place))?;
        process.ready()?;
        Ok(process)
    }

    /// The path of the program, for tests that start it by another program.
    pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_queue-process");

    /// Starts a process with this command and does not wait.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (send, said) = sync_channel(SAID_MAX);
        thread::spawn(move || {
            // The end of the process may have cut off the last line, which is then ignored.
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for said in lines.map_while(|line| serde_json::from_str(&line).ok()) {
                if send.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, said })
    }

    /// Waits for the process to be ready.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let said = self.next()?;
        ensure!(matches!(said, Said::Ready), "not ready but {said:?}");
        Ok(())
    }

    /// Waits for the next line of the process.
    pub(crate) fn next(&mut self) -> Result<Said> {
        self.said.recv_timeout(DEADLINE).map_err(|error| match self.child.try_wait() {
            Ok(Some(status)) => anyhow!("the process has ended: {status}"),
            _ => anyhow!("the process says nothing: {error}"),
        })
    }

    /// Gives an order and does not wait.
    pub(crate) fn order(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        Ok(self.stdin.write_all(line.as_bytes())?)
    }

    /// Asks for one operation and waits for its answer.
    pub(crate) fn ask<O: Operation>(&mut self, operation: O) -> Result<Result<O::Answer, QueueError>> {
        self.order(&Order::Ask(Box::new(operation.into_request())))?;
        self.answer::<O>()
    }

    /// Asks for one operation that has to succeed.
    pub(crate) fn get<O: Operation>(&mut self, operation: O) -> Result<O::Answer> {
        self.ask(operation)?.map_err(|error| anyhow!("{}: {error:?}", O::NAME))
    }

    /// Waits for the answer to an operation that was ordered.
    pub(crate) fn answer<O: Operation>(&mut self) -> Result<Result<O::Answer, QueueError>> {
        match self.next()? {
            Said::Answered(answer) => Ok(answer.and_then(|answer| O::answer(*answer))),
            said => Err(anyhow!("not an answer but {said:?}")),
        }
    }

    /// Returns every record of the queue.
    pub(crate) fn records(&mut self) -> Result<Vec<TaskRecord>> {
        let (mut records, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.get(List { limit: 1_000, cursor, ..List::default() })?;
            records.extend(page.tasks);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(records);
            }
        }
    }

    /// Returns the number of tasks in each state, and checks that the counts by type add up to it.
    pub(crate) fn totals(&mut self) -> Result<BTreeMap<String, u64>> {
        let Stats { totals, by_type, .. } = self.get(StatsQuery {})?;
        for (status, total) in &totals {
            let known: TaskStatus = status.parse()?;
            let counts = by_type.values().map(|of_type| of_type.count(known));
            ensure!(counts.sum::<u64>() == *total, "{total} tasks are {status}, but {by_type:?}");
        }
        Ok(totals)
    }

    /// Returns the process id, for signals and for programs that look into the process.
    pub(crate) fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")
    }

    /// Stops all threads of the process, and waits until they have stopped.
    pub(crate) fn freeze(&self) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::STOP)?;
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED)?.context("nothing to wait for")?;
        ensure!(status.stopped(), "the process has ended: {status:?}");
        Ok(())
    }

    /// Lets the threads go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Kills the process after this time, or as soon as it is ready.
    pub(crate) fn kill_after(self, time: Duration) {
        self.said.recv_timeout(time).ok();
    }

    /// Kills the process, so that it cannot tidy up, and returns the lines that nobody has read.
    pub(crate) fn kill(mut self) -> Result<Vec<Said>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.said.iter().collect())
    }
}

impl Drop for QueueProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The most lines that may wait for the test; beyond them the process waits.
const SAID_MAX: usize = 1_024;
