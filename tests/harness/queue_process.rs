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
    api::{List, Stats, StatsQuery, Task},
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::DEADLINE;
use crate::talk::{Order, Said};

/// A process that holds a queue. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct QueueProcess {
    child: Child,
    stdin: ChildStdin,
    /// The reading thread sends what the process says, and hangs up when the process has ended.
    said: Receiver<Said>,
}

impl QueueProcess {
    /// Starts one on `place`, which is a file for a `kind` of `store` and a socket for `socket`, and waits until it is
    /// ready.
    pub(crate) fn start(kind: &str, place: impl AsRef<OsStr>) -> Result<Self> {
        let mut process = Self::spawn(Command::new(Self::PROGRAM).arg(kind).arg(place))?;
        process.ready()?;
        Ok(process)
    }

    /// The program, for those who start it by another one.
    pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_queue-process");

    /// Starts one by this command and does not wait.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (send, said) = sync_channel(SAID_MAX);
        thread::spawn(move || {
            // A line that was cut off by the end of the process says nothing.
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

    /// The next thing that it says.
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

    /// Asks one operation and waits for its answer.
    pub(crate) fn ask<O: Operation>(&mut self, operation: O) -> Result<Result<O::Answer, QueueError>> {
        self.order(&Order::Ask(Box::new(operation.into_request())))?;
        self.answer::<O>()
    }

    /// Asks one operation that has to succeed.
    pub(crate) fn get<O: Operation>(&mut self, operation: O) -> Result<O::Answer> {
        self.ask(operation)?.map_err(|error| anyhow!("{}: {error:?}", O::NAME))
    }

    /// Waits for the answer to an operation that was ordered.
    pub(crate) fn answer<O: Operation>(&mut self) -> Result<Result<O::Answer, QueueError>> {
        match self.next()? {
            Said::Answered(answer) => Ok(answer.and_then(O::answer)),
            said => Err(anyhow!("not an answer but {said:?}")),
        }
    }

    /// Every record of the queue.
    pub(crate) fn records(&mut self) -> Result<Vec<Task>> {
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

    /// How many tasks it counts in each state, by type as well as in all.
    pub(crate) fn totals(&mut self) -> Result<BTreeMap<String, u64>> {
        let Stats { totals, by_type, .. } = self.get(StatsQuery {})?;
        for (status, total) in &totals {
            let known: TaskStatus = status.parse()?;
            let counts = by_type.values().map(|of_type| of_type.count(known));
            ensure!(counts.sum::<u64>() == *total, "{total} tasks are {status}, but {by_type:?}");
        }
        Ok(totals)
    }

    /// The process, for signals and for those who look into it.
    pub(crate) fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")
    }

    /// Stops all of its threads where they are; waits until they stand.
    pub(crate) fn freeze(&self) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::STOP)?;
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED)?.context("nothing to wait for")?;
        ensure!(status.stopped(), "the process has ended: {status:?}");
        Ok(())
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Ends the process after so long, or when it has become ready.
    pub(crate) fn kill_after(self, time: Duration) {
        self.said.recv_timeout(time).ok();
    }

    /// Ends the process without a chance to tidy up; answers what it had said by then and nobody has read.
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

/// Lines that may wait for the test; beyond them the process waits.
const SAID_MAX: usize = 1_024;
