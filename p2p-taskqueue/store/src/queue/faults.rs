//! Tests with a failure at every point: nothing acknowledged is lost, nothing refused is there, and the store goes on.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    path::Path,
    sync::Arc,
    time::Duration,
};

use taskqueue_api::{
    Answer, AttemptOutcome, Caller, Cancel, Claim, Complete, Durability, ErrorCode, Fail, Fence, Free, Get, Json,
    OnParentFailure, Outcome, PeerId, QueueError, Release, Renew, Retry, Selection, Submit, TaskId, TaskQueueExt as _,
    TaskRecord, TaskStatus,
};

use super::Core;
use crate::{
    ManualClock, SqliteStore, StoreError, StoreOptions,
    backend::Fault,
    conformance::{START, peer, soon},
    faulty::{FaultyBackend, FaultyRows, Plan},
    sqlite::{OpenFile, SqliteBackend},
};

const ME: Caller = Caller::Local;

/// What the client knows of a task's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was acknowledged.
    Is(TaskStatus),
    /// An error said that it may have been applied.
    MayBe(TaskStatus),
}

/// A client with its own log of the answers.
struct Client {
    core: Core,
    clock: Arc<ManualClock>,
    known: HashMap<TaskId, Known>,
    /// Running tasks for which an answer to a question was acknowledged.
    answered: Vec<(TaskId, Fence)>,
    /// Tasks for which it was acknowledged that their lease was ended.
    freed: Vec<TaskId>,
    payload: u32,
}

impl Client {
    async fn submit(&mut self, change: impl FnOnce(&mut Submit)) -> Option<TaskId> {
        self.payload += 1;
        let mut submit = Submit::new("a", Json::from_value(&self.payload).unwrap());
        change(&mut submit);
        match soon(self.core.submit(&ME, submit)).await {
            Ok(submitted) => {
                self.known.insert(submitted.task_id, Known::Is(TaskStatus::Queued));
                Some(submitted.task_id)
            }
            Err(error) => {
                assert_retryable(&error);
                None
            }
        }
    }

    async fn claim(&self) -> Option<TaskRecord> {
        match soon(self.core.claim(&ME, Claim { lease_s: 1_000.0, ..Claim::new("w") })).await {
            Ok(claimed) => claimed.task,
            Err(error) => {
                assert_retryable(&error);
                None
            }
        }
    }

    fn note<T>(&mut self, task: TaskId, status: TaskStatus, answer: Result<T, QueueError>) {
        match answer {
            Ok(_) => _ = self.known.insert(task, Known::Is(status)),
            Err(error) if error.outcome == Outcome::Unknown => _ = self.known.insert(task, Known::MayBe(status)),
            // The claim before it may have failed.
            Err(error) => assert!(error.retryable || error.code == ErrorCode::StaleFence, "{error:?}"),
        }
    }

    /// Does some of every kind of write.
    async fn work(&mut self) {
        let first = {
            let key = format!("k{}", self.payload);
            self.submit(|submit| submit.idempotency_key = Some(key)).await
        };
        self.submit(|submit| submit.delay_s = Some(10.0)).await;
        self.submit(|submit| submit.deadline_s = Some(1e6)).await;
        if let Some(parent) = first {
            self.submit(|submit| {
                submit.after = vec![parent];
                submit.on_parent_failure = OnParentFailure::Run;
            })
            .await;
        }
        if let Some(task) = self.claim().await {
            let (id, fence) = (task.task_id, task.fence.unwrap());
            let renew = Renew { progress: Some(0.5), ..Renew::new(id, fence, 1_000.0) };
            drop(soon(self.core.renew(&ME, renew)).await);
            let child = Submit::new("child", Json::null());
            let complete = Complete { submit: vec![child], ..Complete::new(id, fence, Some(Json::from_text("r"))) };
            let answer = soon(self.core.complete(&ME, complete)).await;
            if let Ok(completed) = &answer {
                self.known.extend(completed.submitted.iter().map(|child| (*child, Known::Is(TaskStatus::Queued))));
            }
            self.note(id, TaskStatus::Completed, answer);
        }
        if let Some(task) = self.claim().await {
            let (task_id, fence) = (task.task_id, task.fence.unwrap());
            let fail = Fail { task_id, fence, error: "no".to_owned(), retryable: false, delay_s: None };
            let answer = soon(self.core.fail(&ME, fail)).await;
            self.note(task_id, TaskStatus::Failed, answer);
            if self.known.get(&task_id) == Some(&Known::Is(TaskStatus::Failed)) {
                let selection = Selection::ids(vec![task_id]);
                let answer = soon(self.core.retry(&ME, Retry { selection })).await;
                self.note(task_id, TaskStatus::Queued, answer);
            }
        }
        if let Some(task) = self.claim().await {
            let (task_id, fence) = (task.task_id, task.fence.unwrap());
            let release = Release { task_id, fence, delay_s: 0.0, reason: String::new() };
            drop(soon(self.core.release(&ME, release)).await);
            let answer = soon(self.core.cancel(&ME, Cancel { task_id, reason: String::new() })).await;
            match &answer {
                Ok(cancelled) if !cancelled.cancelled => {}
                _ => self.note(task_id, TaskStatus::Cancelled, answer),
            }
        }
        if let Some(task) = self.claim().await {
            let (task_id, fence) = (task.task_id, task.fence.unwrap());
            drop(soon(self.core.renew(&ME, asks(task_id, fence))).await);
            let answer = Answer { task_id, input_responses: BTreeMap::from([("q".to_owned(), Json::from_text("r"))]) };
            if soon(self.core.answer(&ME, answer)).await.is_ok_and(|answered| answered.accepted == 1) {
                self.answered.push((task_id, fence));
            }
        }
        self.free().await;
        self.clock.advance(Duration::from_secs(11));
        self.submit(|_| {}).await;
    }
}

impl Client {
    /// Has another machine claim a task, and ends the lease of that machine.
    async fn free(&mut self) {
        let machine = PeerId::random();
        let claim = Claim { lease_s: 1_000.0, ..Claim::new("w") };
        let claimed = soon(self.core.claim(&Caller::member(machine), claim)).await;
        let Some(task) = claimed.ok().and_then(|claimed| claimed.task) else { return };
        match soon(self.core.free(&ME, Free { machine })).await {
            Ok(freed) if freed.freed == 1 => self.freed.push(task.task_id),
            Ok(_) => {}
            Err(error) => assert_retryable(&error),
        }
    }
}

fn asks(task_id: TaskId, fence: Fence) -> Renew {
    let input_requests = BTreeMap::from([("q".to_owned(), Json::null())]);
    Renew { input_requests, ..Renew::new(task_id, fence, 1_000.0) }
}

fn assert_retryable(error: &QueueError) {
    assert!(error.retryable, "{error:?}");
}

/// Compares the store with the answers that the client got.
async fn check(store: &SqliteStore, client: &HashMap<TaskId, Known>) -> Result<(), Box<dyn Error>> {
    for (id, known) in client {
        let got = soon(store.get(&ME, Get { task_id: *id })).await;
        let task = got.map_err(|error| format!("{id} {known:?}: {error}"))?.task;
        match known {
            Known::Is(TaskStatus::Queued) => assert!(!task.status.is_terminal(), "{id}: {:?}", task.status),
            Known::Is(status) => assert_eq!(task.status, *status, "{id}"),
            Known::MayBe(_) => {}
        }
        if task.status == TaskStatus::Completed {
            assert_eq!(task.result, Some(Json::from_text("r")));
        }
    }
    Ok(())
}

/// Opens a store in this file that fails as planned.
fn open(path: &Path, options: StoreOptions) -> Result<(Core, Arc<Plan>), StoreError> {
    let OpenFile { backend, rows, .. } = SqliteBackend::open(path)?;
    let plan = Arc::new(Plan::default());
    let rows = Box::new(FaultyRows { inner: rows, plan: Arc::clone(&plan) });
    let backend = FaultyBackend { inner: backend, plan: Arc::clone(&plan) };
    let durability = options.durability;
    Ok((Core::start(Box::new(backend), rows, options, durability)?, plan))
}

/// Does one run with a failure at a point. Returns whether the point was reached.
async fn run(point: usize, fault: Fault) -> Result<bool, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("queue.sqlite3");
    let clock = Arc::new(ManualClock::new(START));
    let manual: Arc<ManualClock> = Arc::clone(&clock);
    let options = StoreOptions::new(peer()).with_clock(manual);
    let (core, plan) = open(&path, options.clone())?;
    let mut client = Client { core, clock, known: HashMap::new(), answered: Vec::new(), freed: Vec::new(), payload: 0 };
    plan.fail_after(point, fault);
    client.work().await;
    // This is past every pause that follows a failure.
    client.clock.advance(Duration::from_secs(2));
    let reached = !plan.is_pending();
    client.work().await;
    let last = client.submit(|_| {}).await;
    assert!(last.is_some(), "point {point}: the store did not go on");
    let Client { core, known, answered, freed, .. } = client;
    core.close();
    drop(core);
    let store = SqliteStore::open(&path, options)?;
    check(&store, &known).await.map_err(|error| format!("point {point}: {error}"))?;
    for (task, fence) in answered {
        let told = soon(store.renew(&ME, asks(task, fence))).await?.input_responses;
        assert_eq!(told.get("q"), Some(&Json::from_text("r")), "point {point}: the answer to {task} is lost");
    }
    for task_id in freed {
        let attempts = soon(store.get(&ME, Get { task_id })).await?.task.attempts;
        let is_noted = attempts.iter().any(|attempt| attempt.outcome == Some(AttemptOutcome::Freed));
        assert!(is_noted, "point {point}: the end of the lease of {task_id} is lost: {attempts:?}");
    }
    Ok(reached)
}

async fn at_every_point(fault: fn() -> Fault) -> Result<(), Box<dyn Error>> {
    let mut point = 0;
    while run(point, fault()).await? {
        point += 1;
    }
    assert!(point > 150, "only {point} points were passed");
    Ok(())
}

#[tokio::test]
async fn a_failure_before_or_after_any_write_commit_or_sync_loses_nothing() -> Result<(), Box<dyn Error>> {
    at_every_point(|| Fault::Failed("a test says so".to_owned())).await
}

#[tokio::test]
async fn a_full_disk_at_any_write_commit_or_sync_loses_nothing() -> Result<(), Box<dyn Error>> {
    at_every_point(|| Fault::Full("a test says so".to_owned())).await
}

/// When the disk fills up, only operations that add rows are refused. The others are tried again with the room that was
/// set aside.
#[tokio::test]
async fn whatever_finds_the_disk_full_is_done_unless_it_adds() -> Result<(), Box<dyn Error>> {
    let mut failed = 0;
    for point in 0..30 {
        let directory = tempfile::tempdir()?;
        let options = StoreOptions::new(peer()).with_clock(Arc::new(ManualClock::new(START)));
        let (core, plan) = open(&directory.path().join("queue.sqlite3"), options)?;
        soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
        let task = soon(core.claim(&ME, Claim::new("w"))).await?.task.ok_or("a task")?;
        plan.fail_after(point, Fault::Full("a test says so".to_owned()));
        // Both run in one transaction, if both are there in time.
        let done = Complete::new(task.task_id, task.fence.ok_or("a fence")?, Some(Json::null()));
        let (added, done) =
            soon(futures::future::join(core.submit(&ME, Submit::new("b", Json::null())), core.complete(&ME, done)))
                .await;
        match done {
            Ok(_) => {}
            // The sync failed, or the commit took effect all the same.
            Err(error) => assert_eq!(error.outcome, Outcome::Unknown, "point {point}: {error:?}"),
        }
        failed += usize::from(added.is_err_and(|error| error.code == ErrorCode::StorageFull));
    }
    assert!(failed > 5, "the disk was full for {failed} submits");
    Ok(())
}

/// Waits until the store has synced this many times, and fails the test when it does not.
async fn synced(core: &Core, plan: &Plan, times: usize) {
    let unknown = Renew::new(TaskId::from_bytes([0; 16]), Fence { epoch: 0, counter: 0 }, 1.0);
    for _ in 0..1_000 {
        if plan.syncs() >= times {
            return;
        }
        // When this is answered, the writer has done what it was doing.
        drop(soon(core.renew(&ME, unknown.clone())).await);
    }
    panic!("{} syncs instead of {times}", plan.syncs());
}

#[tokio::test]
async fn t1_a_submit_is_acknowledged_after_its_sync_or_says_that_it_was_not() -> Result<(), Box<dyn Error>> {
    for durability in [Durability::Synced, Durability::Relaxed] {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("queue.sqlite3");
        let clock = Arc::new(ManualClock::new(START));
        let manual: Arc<ManualClock> = Arc::clone(&clock);
        let options = StoreOptions::new(peer()).with_clock(manual).with_durability(durability);
        let (core, plan) = open(&path, options)?;
        let before = plan.syncs();
        let submitted = soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
        assert_eq!(submitted.durability, durability);
        let task = soon(core.claim(&ME, Claim::new("w"))).await?.task.ok_or("a task")?;
        // A claim needs no sync of its own (clause T1).
        assert_eq!(plan.syncs() - before, usize::from(durability == Durability::Synced));
        if durability == Durability::Relaxed {
            clock.advance(Duration::from_millis(49));
            drop(soon(core.get(&ME, Get { task_id: task.task_id })).await?);
            assert_eq!(plan.syncs(), before);
            clock.advance(Duration::from_millis(1));
        }
        synced(&core, &plan, before + 1).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_question_and_its_answer_are_acknowledged_after_their_sync() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let options = StoreOptions::new(peer()).with_clock(Arc::new(ManualClock::new(START)));
    let (core, plan) = open(&directory.path().join("queue.sqlite3"), options)?;
    soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
    let task = soon(core.claim(&ME, Claim::new("w"))).await?.task.ok_or("a task")?;
    let (task_id, fence) = (task.task_id, task.fence.ok_or("a fence")?);
    let before = plan.syncs();
    soon(core.renew(&ME, Renew::new(task_id, fence, 60.0))).await?;
    assert_eq!(plan.syncs(), before, "a renewal that asks nothing needs none");
    soon(core.renew(&ME, asks(task_id, fence))).await?;
    assert_eq!(plan.syncs(), before + 1);
    let input_responses = BTreeMap::from([("q".to_owned(), Json::null())]);
    soon(core.answer(&ME, Answer { task_id, input_responses })).await?;
    assert_eq!(plan.syncs(), before + 2);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_ended_in_a_transaction_that_failed_stays_ended() -> Result<(), Box<dyn Error>> {
    // Tries every point of the transaction that ends the lease and refuses the renewal.
    for point in 0..40 {
        let directory = tempfile::tempdir()?;
        let clock = Arc::new(ManualClock::new(START));
        let manual: Arc<ManualClock> = Arc::clone(&clock);
        let options = StoreOptions::new(peer()).with_clock(manual);
        let (core, plan) = open(&directory.path().join("queue.sqlite3"), options)?;
        soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
        let task = soon(core.claim(&ME, Claim { lease_s: 10.0, ..Claim::new("w") })).await?.task.ok_or("a task")?;
        let renew = Renew::new(task.task_id, task.fence.ok_or("a fence")?, 1_000.0);
        plan.fail_after(point, Fault::Failed("a test says so".to_owned()));
        clock.advance(Duration::from_secs(11));
        for _ in 0..3 {
            let renewed = soon(core.renew(&ME, renew.clone())).await;
            assert!(renewed.is_err(), "point {point}: the lease had ended a second before");
        }
    }
    Ok(())
}

/// The failure may be one of a sync, and after a failed sync the rows must be opened anew before anything else is done.
#[tokio::test]
async fn a_failed_tidying_up_is_not_tried_again_on_the_same_rows() -> Result<(), Box<dyn Error>> {
    for after in [false, true] {
        let directory = tempfile::tempdir()?;
        let clock = Arc::new(ManualClock::new(START));
        let manual: Arc<ManualClock> = Arc::clone(&clock);
        let options = StoreOptions::new(peer()).with_clock(manual);
        let (core, plan) = open(&directory.path().join("queue.sqlite3"), options)?;
        soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
        plan.fail_next("tidy", after);
        // The writer has been idle for long enough to tidy up.
        clock.advance(Duration::from_secs(1));
        for _ in 0..1_000 {
            if !plan.is_pending() {
                break;
            }
            drop(
                soon(core.renew(&ME, Renew::new(TaskId::from_bytes([0; 16]), Fence { epoch: 0, counter: 0 }, 1.0)))
                    .await,
            );
        }
        clock.advance(Duration::from_secs(2));
        soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
        let events = plan.events();
        let failed = events.iter().position(|event| *event == ("tidy", false)).ok_or("it did not fail")?;
        assert_eq!(events.get(failed + 1), Some(&("open_rows", true)), "after it: {after}: {events:?}");
    }
    Ok(())
}
