//! A disk that fails when it is asked for stable storage.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use p2p_taskqueue::{
    ErrorCode, Json,
    api::{Get, Submit},
};

use crate::{
    harness::{DEADLINE, History, QueueProcess, Strace, skipped},
    talk::{Order, Said},
};

#[test]
fn every_answered_submit_was_synced_before() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut store = QueueProcess::start("store", folder.path().join("queue.sqlite3"))?;
    let Some(strace) = watch(&store, None)? else { return Ok(()) };
    for _ in 0..SUBMITS {
        store.get(Submit::new("synced", Json::null()))?;
    }
    let (synced, _) = strace.detach()?;
    ensure!(synced >= SUBMITS, "{synced} syncs for {SUBMITS} submits, one after the other");
    Ok(())
}

#[test]
fn nothing_is_acknowledged_without_a_sync_and_nothing_acknowledged_is_lost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("queue.sqlite3");
    let mut store = QueueProcess::start("store", &file)?;
    let mut kept = Vec::new();
    for _ in 0..SUBMITS {
        kept.push(store.get(Submit::new("synced", Json::null()))?.task_id);
    }
    let Some(strace) = watch(&store, Some("error=EIO"))? else { return Ok(()) };
    for _ in 0..SUBMITS {
        let refusal = store.ask(Submit::new("synced", Json::null()))?.err();
        let refusal = refusal.context("acknowledged without a sync")?;
        ensure!(refusal.code == ErrorCode::StorageError, "{refusal:?}");
    }
    let (synced, spoiled) = strace.detach()?;
    ensure!(synced == 0 && spoiled > 0, "{synced} syncs were let through, {spoiled} spoiled");
    // When the disk works again, it goes on by itself.
    let since = Instant::now();
    let submitted = loop {
        match store.ask(Submit::new("synced", Json::null()))? {
            Ok(submitted) => break submitted,
            Err(error) => ensure!(error.code == ErrorCode::StorageError && since.elapsed() < DEADLINE, "{error:?}"),
        }
    };
    kept.push(submitted.task_id);
    store.kill()?;
    let mut store = QueueProcess::start("store", &file)?;
    for task_id in kept {
        store.get(Get { task_id })?;
    }
    store.get(Submit::new("synced", Json::null()))?;
    Ok(())
}

/// The syncs begin to fail in the middle of the work of several clients, over and over on the same files.
#[test]
fn what_was_acknowledged_before_the_syncs_failed_is_there_after_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("queue.sqlite3");
    let mut history = History::default();
    for seed in 0..ROUNDS {
        history.next_life();
        let mut store = QueueProcess::start("store", &file)?;
        history.verify(&store.records()?)?;
        store.order(&Order::Load { seed, clients: 8 })?;
        for _ in 0..LINES {
            history.note(store.next()?)?;
        }
        let Some(_strace) = watch(&store, Some("error=EIO"))? else { return Ok(()) };
        let mut refused = 0;
        while refused < REFUSALS {
            refused += u64::from(note(&mut history, store.next()?)?);
        }
        for said in store.kill()? {
            note(&mut history, said)?;
        }
    }
    let mut store = QueueProcess::start("store", &file)?;
    history.verify(&store.records()?)
}

/// Whether it was a refusal, which must say that the storage failed.
fn note(history: &mut History, said: Said) -> Result<bool> {
    match said {
        Said::Refused(error) if error.code == ErrorCode::StorageError => Ok(true),
        said => history.note(said).map(|()| false),
    }
}

fn watch(store: &QueueProcess, inject: Option<&str>) -> Result<Option<Strace>> {
    Ok(match Strace::syncs_of(store.pid()?, inject)? {
        Ok(strace) => Some(strace),
        Err(why) => {
            skipped(&why);
            None
        }
    })
}

const SUBMITS: usize = 10;

/// Lives of the store, each with other clients' work under way when the disk fails.
const ROUNDS: u64 = 5;

/// What is said before the disk fails, and refusals after it.
const LINES: usize = 200;
const REFUSALS: u64 = 50;
