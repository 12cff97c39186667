//! A store whose process is killed again and again at random moments.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use p2p_taskqueue::{
    Json, TaskStatus,
    api::{Claim, Complete, TaskRecord},
};

use crate::{
    harness::{DEADLINE, History, QueueProcess, until},
    talk::{Order, Said},
};

#[test]
fn nothing_acknowledged_is_lost_or_done_twice_however_often_the_process_is_killed() -> Result<()> {
    let seed = env::var("TASKMESH_SEED").map_or_else(|_| Ok(fastrand::u64(..)), |seed| seed.parse())?;
    eprintln!("TASKMESH_SEED={seed} makes the same choices again, but not at the same moments");
    let rounds = if env::var_os("TASKMESH_LONG").is_some() { 200 } else { 50 };
    let (mut rng, mut history) = (Rng::with_seed(seed), History::default());
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("queue.sqlite3");
    for round in 0..rounds {
        round_of(&file, &mut rng, &mut history).with_context(|| format!("round {round}"))?;
    }
    let mut process = QueueProcess::start("store", &file)?;
    history.next_life();
    drain(&mut process, &mut history)?;
    let records = verify(&mut process, &history)?;
    ensure!(records.iter().all(|task| task.status.is_terminal()), "drained, and yet not everything has ended");
    ensure!(records.len() > rounds * LINES_MAX / 40, "only {} tasks were submitted at all", records.len());
    Ok(())
}

/// Checks what the previous process has left, starts a new one, lets it work, and kills it.
fn round_of(file: &Path, rng: &mut Rng, history: &mut History) -> Result<()> {
    if rng.u8(0..8) == 0 {
        let opening = QueueProcess::spawn(Command::new(QueueProcess::PROGRAM).arg("store").arg(file))?;
        opening.kill_after(Duration::from_micros(rng.u64(0..OPENING_US)));
    }
    history.next_life();
    let mut process = QueueProcess::start("store", file)?;
    repeat(&mut process, history, rng)?;
    verify(&mut process, history)?;
    process.order(&Order::Load { seed: rng.u64(..), clients: CLIENTS })?;
    for _ in 0..rng.usize(1..LINES_MAX) {
        history.note(process.next()?)?;
    }
    process.kill()?.into_iter().try_for_each(|said| history.note(said))
}

/// Repeats submits with an idempotency key: all those without an acknowledgement, and some of the others.
fn repeat(process: &mut QueueProcess, history: &mut History, rng: &mut Rng) -> Result<()> {
    let (known, open): (Vec<_>, Vec<_>) = history.keyed().partition(|(_, id)| id.is_some());
    let known = rng.choose_multiple(known, REPEATS);
    let repeats: Vec<_> = open.into_iter().chain(known).map(|(submit, id)| (submit.clone(), id)).collect();
    for (submit, first) in repeats {
        let again = process.get(submit.clone())?;
        ensure!(first.is_none() || again.duplicate, "{submit:?} was taken for a new one");
        history.submitted(again.task_id, submit)?;
    }
    Ok(())
}

/// Reads the whole store, compares it with the history, and returns its records.
fn verify(process: &mut QueueProcess, history: &History) -> Result<Vec<TaskRecord>> {
    let (counts, records) = until("the store comes to rest", || {
        let before = process.totals()?;
        let records = process.records()?;
        // If a lease expired between the two reads, the counts would differ.
        Ok((process.totals()? == before).then_some((before, records)))
    })?;
    for status in TaskStatus::ALL {
        let listed = records.iter().filter(|task| task.status == status).count() as u64;
        let counted = counts.get(status.as_str()).copied().unwrap_or_default();
        ensure!(listed == counted, "{listed} tasks are listed as {status}, {counted} are counted");
    }
    history.verify(&records)?;
    Ok(records)
}

/// Completes every task that has not ended. No task is held for longer than one lease.
fn drain(process: &mut QueueProcess, history: &mut History) -> Result<()> {
    let mut since = Instant::now();
    loop {
        let claimed = process.get(Claim { wait_s: 0.2, ..Claim::new("drain") })?;
        if let Some(task) = claimed.task {
            let fence = task.fence.context("no fence")?;
            history.note(Said::Claimed(task.task_id, fence, task.payload.clone()))?;
            let result = Json::from_value(&(task.payload.to::<String>()?, 0))?;
            process.get(Complete::new(task.task_id, fence, Some(result.clone())))?;
            history.note(Said::Completed(task.task_id, fence, result, Vec::new()))?;
            since = Instant::now();
        } else {
            let totals = process.totals()?;
            let unended = ["queued", "running"].map(|status| totals.get(status).copied().unwrap_or_default());
            if unended == [0, 0] {
                return Ok(());
            }
            ensure!(since.elapsed() < DEADLINE, "{unended:?} tasks are queued and running, and none is given out");
        }
    }
}

/// Enough clients for several of them to share a commit.
const CLIENTS: usize = 8;

/// The most lines that a process writes before it is killed: some tenths of a second of work.
const LINES_MAX: usize = 400;

/// The repeated submits among the acknowledged ones, in each round.
const REPEATS: usize = 5;

/// The latest moment, in microseconds, at which a starting process is killed: about as long as a start takes.
const OPENING_US: u64 = 30_000;
