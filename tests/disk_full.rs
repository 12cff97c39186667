//! A store on a disk that fills up.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use p2p_taskqueue::{
    ErrorCode, Json, QueueError, TaskId, TaskStatus,
    api::{Claim, Complete, Get, Outcome, Purge, Selection, Submit},
};
use serde_json::Value;

use crate::harness::{PROGRAM, QueueProcess, SmallDisk, at, skipped, until, while_busy};

/// Returns a disk of this size; `None` where the system does not let a test have one.
fn disk(mib: u32) -> Result<Option<SmallDisk>> {
    Ok(SmallDisk::new(mib)?.map_err(|why| skipped(&why)).ok())
}

#[test]
fn on_a_full_disk_submits_are_refused_and_all_else_goes_on() -> Result<()> {
    let Some(disk) = disk(DISK_MIB)? else { return Ok(()) };
    let mut store = start(&disk)?;
    let mut kept = Vec::new();
    for _ in 0..WORK {
        kept.push(store.get(submit())?.task_id);
    }
    disk.fill()?;
    // The submit that first meets the full disk may have been written whole. Its error then says that this is unknown.
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
    kept.push(taken(&mut store)?);
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

/// Removed rows leave room in the file. It counts as room, too, although nothing goes back to the disk.
#[test]
fn submits_are_taken_again_when_ended_tasks_were_purged() -> Result<()> {
    let Some(disk) = disk(DISK_MIB)? else { return Ok(()) };
    let mut store = start(&disk)?;
    let plain = |store: &mut QueueProcess| store.get(Submit::new("job", Json::null())).map(drop);
    (0..4 * WORK).try_for_each(|_| plain(&mut store))?;
    disk.fill()?;
    for round in 0..4 {
        let mut filled = 0;
        loop {
            match store.ask(submit())? {
                Ok(_) => filled += 1,
                Err(error) if is_full(&error) => break,
                // The submit that first meets the full disk may have been written whole. Its error then says that this
                // is unknown.
                Err(error) => ensure!(error.outcome == Outcome::Unknown, "round {round}: {error:?}"),
            }
        }
        ensure!(round == 0 || filled >= WORK, "round {round}: only {filled} submits were taken");
        // Claims and completions are not refused in order to keep the reserve.
        for _ in 0..WORK {
            work_on(&mut store, "job")?;
        }
        while let Some(task) = store.get(claim("fill"))?.task {
            store.get(Complete::new(task.task_id, task.fence.context("no fence")?, None))?;
        }
        while store.get(Purge { selection: Selection::ended(TaskStatus::Completed) })?.more {}
        let since = Instant::now();
        taken(&mut store).with_context(|| format!("round {round}"))?;
        ensure!(since.elapsed() < while_busy(SOON), "round {round}: taken again after {:?}", since.elapsed());
    }
    store.kill()?;
    let mut store = start(&disk)?;
    store.get(submit())?;
    Ok(())
}

/// On a full disk a repair says how much room it needs, and leaves nothing behind. With that much room it succeeds.
#[test]
fn a_repair_for_which_there_is_no_room_says_so_and_leaves_nothing() -> Result<()> {
    let Some(disk) = disk(2 * DISK_MIB)? else { return Ok(()) };
    let repair = || -> Result<(bool, Value)> {
        let output = disk.command(PROGRAM).args(["--json", "repair", "--data-dir"]).arg(disk.folder()).output()?;
        Ok((output.status.success(), serde_json::from_slice(&output.stdout)?))
    };
    let mut store = start(&disk)?;
    (0..WORK).try_for_each(|_| store.get(submit()).map(drop))?;
    store.kill()?;
    // The files that a first repair leaves exist before the listing is taken.
    let (done, answer) = repair()?;
    ensure!(done, "{answer}");
    start(&disk)?.kill()?;
    let before = disk.listing()?;
    let bytes: u64 = ["queue.sqlite3", "queue.sqlite3-wal"].iter().filter_map(|name| before.get(*name)).sum();
    // Three cases: no room, too little for a copy of the old file, and enough for the copy but not for the new file
    // beside it.
    for free in [0, bytes / 2, bytes + 1024 * 1024] {
        disk.fill_but(free)?;
        let before = disk.listing()?;
        let (done, answer) = repair()?;
        ensure!(!done && at(&answer, "/error/code") == "storage_full", "with {free} bytes: {answer}");
        let message = at(&answer, "/error/message").as_str().context("no message")?;
        ensure!(message.contains(&format!("{} bytes are needed", 2 * bytes)), "{message}");
        ensure!(disk.listing()? == before, "with {free} bytes: {before:?} became {:?}", disk.listing()?);
    }
    disk.fill_but(2 * bytes)?;
    let (done, answer) = repair()?;
    ensure!(done && at(&answer, "/tasks") == WORK && at(&answer, "/lost_count") == 0, "{answer}");
    disk.clear()?;
    let mut store = start(&disk)?;
    ensure!(store.records()?.len() == WORK, "a repair lost tasks");
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

fn claim(task_type: &str) -> Claim {
    Claim { supported_task_types: vec![task_type.to_owned()], ..Claim::new("worker") }
}

/// Claims a task and completes it.
fn work(store: &mut QueueProcess) -> Result<(TaskId, Json)> {
    work_on(store, "fill")
}

fn work_on(store: &mut QueueProcess, task_type: &str) -> Result<(TaskId, Json)> {
    let Some(task) = store.get(claim(task_type))?.task else { bail!("no task") };
    let result = Json::from_value(&task.task_id)?;
    let complete = Complete::new(task.task_id, task.fence.context("no fence")?, Some(result.clone()));
    store.get(complete)?;
    Ok((task.task_id, result))
}

/// Submits until a submit is accepted, because there is room again.
fn taken(store: &mut QueueProcess) -> Result<TaskId> {
    until("a submit is taken", || match store.ask(submit())? {
        Ok(submitted) => Ok(Some(submitted.task_id)),
        Err(error) if is_full(&error) => Ok(None),
        Err(error) => bail!("{error:?}"),
    })
}

/// The size of the disk: room for the reserve that a store sets aside at its start, and some more.
const DISK_MIB: u32 = 64;

/// The time within which submits are accepted again once there is room: one second, and a reserve.
const SOON: Duration = Duration::from_secs(3);

/// The tasks that are completed while the disk is full.
const WORK: usize = 50;
