//! Tests of the whole store over these rows.

use std::{error::Error, sync::Arc};

use taskqueue_api::{Caller, Claim, Complete, Json, Submit, TaskQueueExt as _};

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
