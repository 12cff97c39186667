//! A store on a disk that fills up.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use p2p_taskqueue::{
    ErrorCode, Json, QueueError, TaskId, TaskStatus,
    api::{Claim, Complete, Get, Outcome, Submit},
};

use crate::harness::{DEADLINE, QueueProcess, SmallDisk, skipped};

#[test]
fn on_a_full_disk_submits_are_refused_and_all_else_goes_on() -> Result<()> {
    let disk = match SmallDisk::new(DISK_MIB)? {
        Ok(disk) => disk,
        Err(why) => {
            skipped(&why);
            return Ok(());
        }
    };
    let mut store = start(&disk)?;
    let mut kept = Vec::new();
    for _ in 0..WORK {
        kept.push(store.get(submit())?.task_id);
    }
    disk.fill()?;
    // The one at which it is noticed may have been written whole, and says so.
    let mut unknown = 0;
    loop {
        match store.ask(submit())? {
            Ok(submitted) => kept.push(submitted.task_id),
            Err(error) if is_full(&error) => break,
            Err(error) if error.outcome == Outcome::Unknown && unknown == 0 => unknown = 1,
            Err(error) => bail!("not refused for want of room: {error:?}"),
        }
    }

    let mut done = Vec::new();
    for _ in 0..WORK {
        done.push(work(&mut store)?);
        ensure!(store.ask(submit())?.is_err_and(|error| is_full(&error)), "a submit found room");
    }
    let there = store.records()?.len();
    ensure!((kept.len()..=kept.len() + unknown).contains(&there), "what was refused is there");

    disk.clear()?;
    let since = Instant::now();
    while let Err(error) = store.ask(submit()).map(|answer| answer.map(|submitted| kept.push(submitted.task_id)))? {
        ensure!(is_full(&error) && since.elapsed() < DEADLINE, "there is room again: {error:?}");
    }
    done.push(work(&mut store)?);
    store.kill()?;
    let mut store = start(&disk)?;
    for id in &kept {
        ensure!(store.get(Get { task_id: *id })?.task.payload == payload(), "{id} has another payload");
    }
    for (id, result) in done {
        let task = store.get(Get { task_id: id })?.task;
        ensure!((task.status, task.result.as_ref()) == (TaskStatus::Completed, Some(&result)), "{task:?}");
    }
    let there = store.records()?.len();
    ensure!((kept.len()..=kept.len() + unknown).contains(&there), "what was refused is there");
    Ok(())
}

fn start(disk: &SmallDisk) -> Result<QueueProcess> {
    let mut command = disk.command(QueueProcess::PROGRAM);
    let mut process = QueueProcess::spawn(command.arg("store").arg(disk.folder().join("queue.sqlite3")))?;
    process.ready()?;
    Ok(process)
}

fn submit() -> Submit {
    Submit::new("fill", payload())
}

fn payload() -> Json {
    Json::from_text(&"x".repeat(64 * 1024))
}

fn is_full(error: &QueueError) -> bool {
    error.code == ErrorCode::StorageFull && error.outcome == Outcome::NotApplied
}

/// Claims a task and completes it.
fn work(store: &mut QueueProcess) -> Result<(TaskId, Json)> {
    let Some(task) = store.get(Claim::new("worker"))?.task else { bail!("no task") };
    let result = Json::from_value(&task.task_id)?;
    let complete = Complete::new(task.task_id, task.fence.context("no fence")?, Some(result.clone()));
    store.get(complete)?;
    Ok((task.task_id, result))
}

/// Room for what a store sets aside at its start, and some more.
const DISK_MIB: u32 = 64;

/// Tasks that are done while the disk is full.
const WORK: usize = 50;
