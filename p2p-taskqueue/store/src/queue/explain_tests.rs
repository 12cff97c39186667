//! Tests what reads of queued tasks cost the writer: nothing where nothing can be held back, and never the room of
//! submits.

use std::{error::Error, sync::Arc};

use futures::{FutureExt as _, future::join_all};
use taskqueue_api::{
    Caller, Claim, Complete, Durability, Get, Json, List, Pause, Submit, TaskId, TaskQueueExt as _, TaskRecord,
    TaskStatus,
};

use super::{Core, explain::KINDS_ASKED_MAX};
use crate::{
    Backend as _, StoreOptions,
    conformance::{peer, soon},
    faulty::{FaultyBackend, Plan},
    memory::MemoryBackend,
};

const ME: Caller = Caller::Local;

/// Opens a store whose commits can be held.
fn open() -> Result<(Core, Arc<Plan>), Box<dyn Error>> {
    let plan = Arc::new(Plan::default());
    let backend = FaultyBackend { inner: MemoryBackend::default(), plan: Arc::clone(&plan) };
    let rows = backend.open_rows()?;
    Ok((Core::start(Box::new(backend), rows, StoreOptions::new(peer()), Durability::Volatile)?, plan))
}

fn keyed(key: &str) -> Submit {
    Submit { concurrency_key: Some(key.to_owned()), ..Submit::new("a", Json::null()) }
}

async fn get(core: &Core, task_id: TaskId) -> Result<TaskRecord, Box<dyn Error>> {
    Ok(soon(core.get(&ME, Get { task_id })).await?.task)
}

/// Returns the reason in the record, once the writer has said it.
async fn explained(core: &Core, mut task: TaskRecord) -> Option<String> {
    core.explain(std::slice::from_mut(&mut task)).await;
    task.waiting_for.map(|why| why.message)
}

#[tokio::test]
async fn reads_of_what_waits_leave_submits_their_room() -> Result<(), Box<dyn Error>> {
    let (core, plan) = open()?;
    soon(core.submit(&ME, keyed("k"))).await?;
    soon(core.claim(&ME, Claim::new("w"))).await?.task.ok_or("the first")?;
    let second = soon(core.submit(&ME, keyed("k"))).await?.task_id;
    let record = get(&core, second).await?;
    plan.hold_commits(true);
    // While this one is committed, the writer answers nobody.
    let mut first = Box::pin(core.submit(&ME, keyed("l")));
    assert!((&mut first).now_or_never().is_none());
    let mut reads = Box::pin(join_all((0..READS).map(|_| explained(&core, record.clone()))));
    assert!((&mut reads).now_or_never().is_none());
    let mut next = Box::pin(core.submit(&ME, keyed("l")));
    let at_once = (&mut next).now_or_never();
    assert!(at_once.is_none(), "it was answered {at_once:?}");
    plan.hold_commits(false);
    soon(first).await?;
    soon(next).await?;
    let reasons: Vec<_> = soon(reads).await.into_iter().flatten().collect();
    assert_eq!(reasons.len(), KINDS_ASKED_MAX, "the others were answered without a reason");
    assert!(reasons.iter().all(|reason| reason == "1 of 1 tasks with the concurrency key 'k' run"));
    assert_eq!(core.vitals(false).in_use.kinds_asked, 0);
    Ok(())
}

#[tokio::test]
async fn the_writer_is_asked_only_about_what_something_may_hold_back() -> Result<(), Box<dyn Error>> {
    let (core, plan) = open()?;
    let ended = soon(core.submit(&ME, keyed("k"))).await?.task_id;
    let leased = soon(core.claim(&ME, Claim::new("w"))).await?.task.ok_or("the first")?;
    let complete = Complete::new(ended, leased.fence.ok_or("no fence")?, None);
    soon(core.complete(&ME, complete)).await?;
    let running = soon(core.submit(&ME, keyed("k"))).await?.task_id;
    soon(core.claim(&ME, Claim::new("w"))).await?.task.ok_or("the second")?;
    let delayed = soon(core.submit(&ME, Submit { delay_s: Some(1_000.0), ..keyed("k") })).await?.task_id;
    let mut listed = soon(core.list(&ME, List::default())).await?.tasks;
    assert_eq!(listed.len(), 3);
    let plain = soon(core.submit(&ME, Submit::new("a", Json::null()))).await?.task_id;
    let plain = get(&core, plain).await?;
    let key = soon(core.submit(&ME, keyed("k"))).await?.task_id;
    let key = get(&core, key).await?;
    for (id, status) in [(ended, TaskStatus::Completed), (running, TaskStatus::Running), (delayed, TaskStatus::Queued)]
    {
        assert_eq!(get(&core, id).await?.status, status);
    }
    plan.hold_commits(true);
    let mut turn = Box::pin(core.submit(&ME, keyed("l")));
    assert!((&mut turn).now_or_never().is_none());
    let before = listed.clone();
    assert!(core.explain(&mut listed).now_or_never().is_some(), "the writer was asked about {before:?}");
    assert_eq!(listed, before);
    assert_eq!(explained(&core, plain.clone()).now_or_never(), Some(None));
    // Only the writer knows how many run with a key.
    assert!(explained(&core, key.clone()).now_or_never().is_none());
    plan.hold_commits(false);
    soon(turn).await?;
    assert!(soon(explained(&core, key)).await.is_some());
    // Since something is paused, the writer is asked about every type.
    soon(core.pause(&ME, Pause { task_types: vec!["b".to_owned()], drain: false })).await?;
    assert_eq!(soon(explained(&core, plain.clone())).await, None);
    soon(core.pause(&ME, Pause { task_types: vec!["a".to_owned()], drain: false })).await?;
    assert!(soon(explained(&core, plain)).await.is_some_and(|reason| reason.starts_with("type 'a' is paused")));
    Ok(())
}

/// More than there are places for messages to the writer.
const READS: usize = 50_000;
