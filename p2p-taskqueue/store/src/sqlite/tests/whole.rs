//! Tests of the whole store over these rows.

use std::{error::Error, sync::Arc};

use taskqueue_api::{
    AttemptOutcome, Caller, Claim, Complete, ErrorCode, Free, Json, PeerId, Submit, TaskQueueExt as _,
};

use super::super::scrub;
use crate::{
    ManualClock, SqliteStore, StoreOptions, TaskStore,
    conformance::{CACHE_BYTES, Rig, START, conformance, peer, soon},
};

fn rig() -> Result<(Rig, tempfile::TempDir), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("queue.sqlite3");
    let clock = Arc::new(ManualClock::new(START));
    let manual: Arc<ManualClock> = Arc::clone(&clock);
    let options = StoreOptions::new(peer()).with_clock(manual).with_cache_bytes_max(CACHE_BYTES as u64);
    let store = Arc::new(SqliteStore::open(&path, options.clone())?);
    let reopen = Box::new(move |store: Arc<dyn TaskStore>| -> Arc<dyn TaskStore> {
        store.close();
        let report = scrub(&path, &Arc::default()).unwrap();
        assert!(report.is_sound(), "{report:?}");
        Arc::new(SqliteStore::open(&path, options.clone()).unwrap())
    });
    Ok((Rig { store, clock, reopen }, directory))
}

conformance!(rig());

/// A folder that is restored from a copy goes on from the state of the copy, but with other fences.
#[tokio::test]
async fn t2_a_copy_of_a_store_issues_other_fences() -> Result<(), Box<dyn Error>> {
    let (original, copy) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let open = |directory: &tempfile::TempDir| {
        let options = StoreOptions::new(peer()).with_clock(Arc::new(ManualClock::new(START)));
        SqliteStore::open(&directory.path().join("queue.sqlite3"), options)
    };
    let store = open(&original)?;
    let task_id = soon(store.submit(&Caller::Local, Submit::new("echo", Json::null()))).await?.task_id;
    store.close();
    for file in std::fs::read_dir(original.path())? {
        let file = file?;
        std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
    }
    let mut fences = Vec::new();
    for directory in [&original, &copy] {
        let store = open(directory)?;
        let task = soon(store.claim(&Caller::Local, Claim::new("w"))).await?.task.ok_or("a task")?;
        assert_eq!(task.task_id, task_id);
        for stale in &fences {
            let complete = Complete::new(task_id, *stale, Some(Json::null()));
            assert!(soon(store.complete(&Caller::Local, complete)).await.is_err(), "{stale} is of another life");
        }
        fences.push(task.fence.ok_or("a fence")?);
    }
    Ok(())
}

/// The answer is durable: files that are copied at that moment, as a kill would leave them, show the leases as ended.
#[tokio::test]
async fn freed_leases_stay_ended_after_a_crash() -> Result<(), Box<dyn Error>> {
    let (original, killed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let open = |directory: &tempfile::TempDir| {
        let options = StoreOptions::new(peer()).with_clock(Arc::new(ManualClock::new(START)));
        SqliteStore::open(&directory.path().join("queue.sqlite3"), options)
    };
    let (store, machine) = (open(&original)?, PeerId::random());
    let other = Caller::member(machine);
    let submit = Submit { backoff_s: 0.0, ..Submit::new("echo", Json::null()) };
    let task_id = soon(store.submit(&Caller::Local, submit)).await?.task_id;
    let leased = soon(store.claim(&other, Claim::new("w"))).await?.task.ok_or("a task")?;
    assert_eq!(soon(store.free(&Caller::Local, Free { machine })).await?.freed, 1);
    for file in std::fs::read_dir(original.path())? {
        let file = file?;
        std::fs::copy(file.path(), killed.path().join(file.file_name()))?;
    }
    let store = open(&killed)?;
    let late = Complete::new(task_id, leased.fence.ok_or("a fence")?, Some(Json::null()));
    assert_eq!(soon(store.complete(&other, late)).await.unwrap_err().code, ErrorCode::StaleFence);
    let again = soon(store.claim(&Caller::Local, Claim::new("w"))).await?.task.ok_or("the task")?;
    let outcomes: Vec<_> = again.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!((again.task_id, outcomes), (task_id, vec![Some(AttemptOutcome::Freed), None]));
    Ok(())
}
