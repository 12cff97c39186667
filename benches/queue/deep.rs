use std::{
    fs,
    io::{BufRead as _, BufReader, stdin},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    str::FromStr,
    time::Instant,
};

use futures::future::try_join_all;
use p2p_taskqueue::{
    TaskQueueExt as _,
    api::{Claim, Submit, SubmitMany},
};

use super::{Bench, Error, Goal, Lines, ME, Queue, Times, claim, complete, open, runtime, submit};

/// The argument that makes this program the process that holds a long queue.
pub(crate) const HOLD: &str = "hold";

/// The lengths of the two queues that are compared.
const SHORT: usize = 1_000;
const LONG: usize = 1_000_000;

/// The number of task types that are queued, each with every priority.
const TYPES: usize = 50;

/// The tasks of one batch, and the batches that are on their way at once.
const BATCH: usize = 1_000;
const BATCHES: usize = 4;

/// The number of claims on each queue, in turn of any type and of one type.
const CLAIMS: usize = 2_000;

/// Measures the cost of a long queue.
pub(crate) fn measure(bench: &Bench, lines: &Lines, goals: &mut Vec<Goal>) -> Result<(), Error> {
    if !lines.want("deep") {
        return Ok(());
    }
    let (short, long) = (bench.file("deep/short"), bench.file("deep/long"));
    Holder::start(&short, SHORT)?.close()?;

    println!("\nwith {LONG} queued, in a process of its own");
    let filled = Holder::start(&long, LONG)?;
    let Held { fill_s, rss_before_kib, rss_kib, .. } = filled.held;
    println!("filled in {fill_s:.1} s, {:.0}/s in batches of {BATCH}", LONG as f64 / fill_s);
    println!("resident: {:.0} MiB when empty, {:.0} MiB when full", rss_before_kib / 1024.0, rss_kib / 1024.0);
    drop(filled);
    let killed = Holder::start(&long, 0)?;
    let (after_kill, opened_kib) = (killed.held.open_s, killed.held.rss_kib);
    println!("opened after a kill in {after_kill:.3} s, then resident: {:.0} MiB", opened_kib / 1024.0);
    killed.close()?;
    let closed = Holder::start(&long, 0)?;
    let after_close = closed.held.open_s;
    println!("opened after an orderly end in {after_close:.3} s");
    closed.close()?;
    goals.push(Goal::at_most(
        "memory of the process with 1,000,000 queued",
        200.0,
        " MiB",
        rss_kib.max(opened_kib) / 1024.0,
    ));
    goals.push(Goal::at_most("opening 1,000,000 queued after a kill", 1.0, " s", after_kill));
    goals.push(Goal::at_most("opening 1,000,000 queued after an orderly end", 1.0, " s", after_close));

    let queues = [bench.open(&short)?, bench.open(&long)?];
    let [few, many] = bench.runtime.block_on(bench.runtime.spawn(claims(queues)))??;
    println!("claims with {SHORT} queued: {few}\nclaims with {LONG} queued: {many}");
    goals.push(Goal::at_most(
        "claim p99 with 1,000,000 queued / 1,000",
        2.0,
        "x",
        many.micros_at(99) / few.micros_at(99),
    ));
    goals.push(Goal::at_most(
        "claim p50 with 1,000,000 queued / 1,000",
        2.0,
        "x",
        many.micros_at(50) / few.micros_at(50),
    ));
    Ok(())
}

/// Claims from each queue in turn. Each task that is completed is followed by a new one, so that the queues keep their
/// length.
async fn claims(queues: [Queue; 2]) -> Result<[Times; 2], Error> {
    let mut times = [Times::default(), Times::default()];
    for number in 0..CLAIMS {
        let claim = if number % 2 == 0 { Claim::new("bench") } else { claim(&task_type(number / 2)) };
        for (queue, times) in queues.iter().zip(&mut times) {
            let start = Instant::now();
            let claimed = queue.claim(&ME, claim.clone()).await?;
            times.push(start.elapsed());
            queue.complete(&ME, complete(claimed.task.as_ref())?).await?;
            queue.submit(&ME, mixed(number)).await?;
        }
    }
    Ok(times)
}

fn task_type(number: usize) -> String {
    format!("type-{}", number % TYPES)
}

fn mixed(number: usize) -> Submit {
    // When a type comes up again, its priority has gone on by 7. As 7 and 10 have no common factor, every type gets
    // every priority.
    let priority = u8::try_from(number * 7 / TYPES % 10).unwrap_or_default() + 1;
    Submit { priority, ..submit(task_type(number)) }
}

/// The measurements of the process that holds a queue, when its store is open and full.
#[derive(Debug)]
struct Held {
    open_s: f64,
    rss_before_kib: f64,
    fill_s: f64,
    rss_kib: f64,
}

impl Held {
    fn to_line(&self) -> String {
        format!("{} {} {} {}", self.open_s, self.rss_before_kib, self.fill_s, self.rss_kib)
    }
}

impl FromStr for Held {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self, Error> {
        let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        let &[open_s, rss_before_kib, fill_s, rss_kib] = numbers.as_slice() else {
            return Err(format!("the process that holds the queue said {line:?}").into());
        };
        Ok(Self { open_s, rss_before_kib, fill_s, rss_kib })
    }
}

/// Opens the store, adds `count` tasks, prints the measurements, and closes the store in order when standard input
/// ends.
pub(crate) fn hold(file: &Path, count: usize) -> Result<(), Error> {
    let runtime = runtime()?;
    let start = Instant::now();
    let queue = open(&runtime, file)?;
    let (open_s, rss_before_kib, start) = (start.elapsed().as_secs_f64(), resident_kib()?, Instant::now());
    for first in (0..count).step_by(BATCH * BATCHES) {
        let batches = (0..BATCHES).map(|batch| first + batch * BATCH).filter(|first| *first < count);
        runtime.block_on(try_join_all(batches.map(|first| queue.submit_many(&ME, batch(first)))))?;
    }
    let held = Held { open_s, rss_before_kib, fill_s: start.elapsed().as_secs_f64(), rss_kib: resident_kib()? };
    println!("{}", held.to_line());
    stdin().lines().for_each(drop);
    Ok(())
}

fn batch(first: usize) -> SubmitMany {
    SubmitMany { tasks: (first..first + BATCH).map(mixed).collect() }
}

/// Returns the resident memory of this process, in KiB.
fn resident_kib() -> Result<f64, Error> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The process that holds a queue, from outside. Dropping it kills the process.
#[derive(Debug)]
struct Holder {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    held: Held,
}

impl Holder {
    fn start(file: &Path, count: usize) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(HOLD).arg(file).arg(count.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        Ok(Self { held: line.parse()?, child, _stdout: stdout })
    }

    /// Lets the process close its store, and waits for its end.
    fn close(mut self) -> Result<(), Error> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the process that held the queue: {status}").into()) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
