//! A disk that fails when it is asked to sync.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use p2p_taskqueue::{
    ErrorCode, Json,
    api::{Get, Submit},
};

use crate::{
    harness::{History, QueueProcess, Strace, skipped, until},
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
    // When the disk works again, the store goes on by itself.
    let submitted =
        until("the store takes submits again", || match store.ask(Submit::new("synced", Json::null()))? {
            Ok(submitted) => Ok(Some(submitted)),
            Err(error) if error.code == ErrorCode::StorageError => Ok(None),
            Err(error) => bail!("{error:?}"),
        })?;
    kept.push(submitted.task_id);
    store.kill()?;
    let mut store = QueueProcess::start("store", &file)?;
    for task_id in kept {
        store.get(Get { task_id })?;
    }
    store.get(Submit::new("synced", Json::null()))?;
    Ok(())
}

/// The syncs begin to fail while several clients work, again and again on the same files.
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

/// After a failed sync, the file's content in memory may not be on the disk, not even what was written long before. All
/// of it must be written again before a sync that succeeds can be trusted.
#[test]
fn after_a_failed_sync_of_the_file_everything_since_the_last_good_one_is_written_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("queue.sqlite3");
    let mut store = QueueProcess::start("store", &file)?;
    let mut kept = vec![store.get(Submit::new("synced", Json::null()))?.task_id];
    let strace = match Strace::first_sync_fails(store.pid()?, &file)? {
        Ok(strace) => strace,
        Err(why) => {
            skipped(&why);
            return Ok(());
        }
    };
    let mut seen = FileCalls::default();
    // While a reader holds its snapshot, later commits cannot be copied from the log into the file. So this copy ends
    // without a sync.
    let reader = rusqlite::Connection::open(&file)?;
    kept.push(store.get(large())?.task_id);
    reader.execute_batch("BEGIN; SELECT count(*) FROM task")?;
    kept.push(store.get(large())?.task_id);
    while seen.unsynced.is_empty() && seen.failed.is_none() {
        seen.note(&strace.next()?)?;
    }
    reader.execute_batch("COMMIT")?;
    drop(reader);
    // The next copy takes the whole log, and the sync after it fails.
    kept.push(store.get(large())?.task_id);
    while seen.failed.is_none() {
        seen.note(&strace.next()?)?;
    }
    let failed = seen.failed.clone().context("a failed sync")?;
    // Goes on until a sync succeeds.
    while seen.synced.is_empty() {
        if let Ok(submitted) = store.ask(large())? {
            kept.push(submitted.task_id);
        }
        seen.note(&strace.next()?)?;
    }
    let forgotten: Vec<_> = failed.difference(&seen.synced).collect();
    ensure!(forgotten.is_empty(), "of {failed:?} only {:?} was written again", seen.synced);
    drop(strace);
    store.kill()?;
    let mut store = QueueProcess::start("store", &file)?;
    for task_id in kept {
        store.get(Get { task_id })?;
    }
    Ok(())
}

/// Returns a submit that is large enough to take pages of its own.
fn large() -> Submit {
    Submit::new("synced", Json::from_text(&"x".repeat(20_000)))
}

/// The writes and syncs of a process on a file: the places written since the last sync, before a sync that failed, and
/// before a sync that succeeded after it.
#[derive(Debug, Default)]
struct FileCalls {
    at: u64,
    unsynced: BTreeSet<u64>,
    failed: Option<BTreeSet<u64>>,
    synced: BTreeSet<u64>,
}

impl FileCalls {
    fn note(&mut self, line: &str) -> Result<()> {
        let call = line.split_once("] ").map_or(line, |(_, call)| call);
        let last = |call: &str| call.rsplit_once(')')?.0.rsplit_once(", ").and_then(|(_, last)| last.parse().ok());
        if call.starts_with("lseek(") {
            self.at = call.rsplit_once("= ").context("an answer")?.1.trim().parse()?;
        } else if call.starts_with("write(") {
            self.unsynced.insert(self.at);
        } else if call.starts_with("pwrite64(") {
            self.unsynced.insert(last(call).with_context(|| format!("a place in {call}"))?);
        } else if call.contains("sync(") && call.contains("(INJECTED)") {
            self.failed = Some(std::mem::take(&mut self.unsynced));
        } else if call.contains("sync(") && call.ends_with("= 0") {
            let written = std::mem::take(&mut self.unsynced);
            if self.failed.is_some() {
                self.synced = written;
            }
        }
        Ok(())
    }
}

/// Notes what a process has said, and returns whether it was a refusal because the storage failed.
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

/// The number of processes that open the store, each with clients at work when the disk fails.
const ROUNDS: u64 = 5;

/// The lines that are read before the disk fails, and the refusals that are awaited after it.
const LINES: usize = 200;
const REFUSALS: u64 = 50;
