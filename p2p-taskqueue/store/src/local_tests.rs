use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use runtime_bridge::TokioRuntime;
use taskqueue_api::{
    Claim, Complete, Fail, Fence, Get, Json, List, Pause, Peers, Purge, Release, Selection, StoreStatus, Submit,
    TaskQueueExt, TaskStatus, WaitReason,
    testing::exchanges::{Cast, requests_at_once},
};

use super::*;
use crate::{MemoryStore, StoreOptions};

type TestResult = Result<(), Box<dyn std::error::Error>>;
const ME: Caller = Caller::Local;

fn queue() -> Result<LocalQueue, Box<dyn std::error::Error>> {
    let owner = PeerId::random();
    let store = MemoryStore::new(StoreOptions::new(owner))?;
    let runtime = TokioRuntime::new(tokio::runtime::Handle::current());
    Ok(LocalQueue::new(Arc::new(store), owner, Arc::new(runtime)))
}

async fn submit(queue: &LocalQueue) -> Result<TaskId, QueueError> {
    Ok(queue.submit(&ME, Submit::new("echo", Json::null())).await?.task_id)
}

async fn claim(queue: &LocalQueue) -> Result<(TaskId, Complete), Box<dyn std::error::Error>> {
    let task = queue.claim(&ME, Claim::new("w")).await?.task.ok_or("no task")?;
    let fence = task.fence.ok_or("no fence")?;
    let complete = Complete::new(task.task_id, fence, None);
    Ok((task.task_id, complete))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer in time")
}

#[tokio::test]
async fn a_wait_ends_with_the_last_of_its_tasks() -> TestResult {
    let queue = queue()?;
    let ids = vec![submit(&queue).await?, submit(&queue).await?];
    let (first, end_first) = claim(&queue).await?;
    let (_, end_second) = claim(&queue).await?;
    let wait = Wait { task_id: None, task_ids: ids.clone(), timeout_s: 100.0 };
    let mut waiting = Box::pin(queue.wait(&ME, wait));
    let mut one = Box::pin(queue.wait(&ME, Wait::one(first, 100.0)));
    assert!((&mut waiting).now_or_never().is_none() && (&mut one).now_or_never().is_none());
    queue.complete(&ME, end_first).await?;
    assert!(soon(one).await?.done);
    assert!((&mut waiting).now_or_never().is_none());
    queue.complete(&ME, end_second).await?;
    let waited = soon(waiting).await?;
    assert!(waited.done && waited.task.is_none());
    let tasks = waited.tasks.ok_or("no tasks")?;
    assert_eq!(tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), ids);
    assert!(tasks.iter().all(|task| task.status == TaskStatus::Completed));
    Ok(())
}

#[tokio::test]
async fn at_the_timeout_the_record_is_as_it_stands() -> TestResult {
    let queue = queue()?;
    let id = submit(&queue).await?;
    for timeout_s in [0.0, 0.01] {
        let waited = soon(queue.wait(&ME, Wait::one(id, timeout_s))).await?;
        assert!(!waited.done);
        assert_eq!(waited.task.ok_or("no task")?.status, TaskStatus::Queued);
    }
    let unknown = TaskId::from_bytes([1; 16]);
    assert_eq!(soon(queue.wait(&ME, Wait::one(unknown, 9.0))).await.unwrap_err().code, ErrorCode::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_long_poll_without_a_task_ends_with_none() -> TestResult {
    let queue = queue()?;
    let claim = Claim { wait_s: 0.01, ..Claim::new("w") };
    assert_eq!(soon(queue.claim(&ME, claim)).await?.task, None);
    Ok(())
}

#[tokio::test]
async fn a_thousand_waits_are_all_woken_and_hold_nobody_up() -> TestResult {
    let queue = queue()?;
    let id = submit(&queue).await?;
    let (_, end) = claim(&queue).await?;
    let mut waits = future::join_all((0..1_000).map(|_| queue.wait(&ME, Wait::one(id, 100.0))));
    assert!((&mut waits).now_or_never().is_none());
    soon(queue.get(&ME, Get { task_id: id })).await?;
    soon(queue.complete(&ME, end)).await?;
    for waited in soon(waits).await {
        assert!(waited?.done);
    }
    Ok(())
}

#[tokio::test]
async fn waiting_claims_are_bounded() -> TestResult {
    let queue = queue()?;
    let claim = || queue.claim(&ME, Claim { wait_s: 100.0, ..Claim::new("w") });
    let waiting: Vec<_> = (0..16_384).map(|_| claim()).collect();
    let mut waiting = future::join_all(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(soon(claim()).await.unwrap_err().code, ErrorCode::Overloaded);
    drop(waiting);
    let id = submit(&queue).await?;
    assert_eq!(soon(claim()).await?.task.ok_or("no task")?.task_id, id);
    Ok(())
}

#[tokio::test]
async fn bounds_are_checked_and_what_is_the_nodes_is_refused() -> TestResult {
    let queue = queue()?;
    let submit = Submit { priority: 11, ..Submit::new("echo", Json::null()) };
    assert_eq!(queue.submit(&ME, submit).await.unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!(queue.peers(&ME, Peers::default()).await.unwrap_err().code, ErrorCode::Unsupported);
    let status = queue.status(&ME, StatusQuery { detail: true, ..StatusQuery::default() }).await?;
    assert_eq!(status.queue.ok_or("no detail")?.totals["queued"], 0);
    Ok(())
}

#[tokio::test]
async fn a_task_runs_from_submit_to_result() -> TestResult {
    let queue = queue()?;
    let payload = Json::parse(r#"{"text":"a b c","n":1.50}"#.to_owned())?;
    let submitted = queue.submit(&ME, Submit::new("wordcount", payload.clone())).await?;
    let id = submitted.task_id;
    let claimed = queue.claim(&ME, Claim::new("w1")).await?.task.ok_or("no task")?;
    assert_eq!((claimed.task_id, claimed.status, claimed.attempt), (id, TaskStatus::Running, 1));
    assert_eq!((claimed.payload, claimed.owner), (payload, submitted.peer_id));
    assert_eq!(queue.claim(&ME, Claim::new("w2")).await?.task, None);
    let fence = claimed.fence.ok_or("no fence")?;
    let renew = Renew { progress: Some(0.5), ..Renew::new(id, fence, 60.0) };
    assert!(!queue.renew(&ME, renew).await?.cancel_requested);
    assert_eq!(queue.get(&ME, Get { task_id: id }).await?.task.progress, Some(0.5));
    let fail = Fail { task_id: id, fence, error: "once more".to_owned(), retryable: true, delay_s: Some(0.0) };
    assert_eq!(queue.fail(&ME, fail).await?.status, TaskStatus::Queued);
    let again = queue.claim(&ME, Claim::new("w1")).await?.task.ok_or("no task")?;
    let fence = again.fence.ok_or("no fence")?;
    let release = Release { task_id: id, fence, delay_s: 0.0, reason: String::new() };
    queue.release(&ME, release).await?;
    let last = queue.claim(&ME, Claim::new("w1")).await?.task.ok_or("no task")?;
    assert_eq!((last.attempt, last.error.as_deref()), (2, Some("once more")));
    let fence = last.fence.ok_or("no fence")?;
    let result = Some(Json::parse("3".to_owned())?);
    let complete = Complete::new(id, fence, result.clone());
    assert!(!queue.complete(&ME, complete.clone()).await?.repeated);
    assert!(queue.complete(&ME, complete).await?.repeated);
    let waited = queue.wait(&ME, Wait::one(id, 5.0)).await?;
    assert!(waited.done);
    assert_eq!(waited.task.ok_or("no task")?.result, result);
    Ok(())
}

/// Submits a task, and claims it; returns the task and its fence.
async fn running(queue: &LocalQueue) -> Result<(TaskId, Fence), Box<dyn std::error::Error>> {
    submit(queue).await?;
    let (id, complete) = claim(queue).await?;
    Ok((id, complete.fence))
}

/// Makes a renewal that may wait and that asks the questions with these keys.
fn waiting((task_id, fence): (TaskId, Fence), keys: &[&str]) -> Renew {
    let input_requests = keys.iter().map(|key| ((*key).to_owned(), Json::null())).collect();
    Renew { wait_s: 100.0, progress: Some(0.5), input_requests, ..Renew::new(task_id, fence, 200.0) }
}

fn answer(task_id: TaskId, key: &str) -> Answer {
    Answer { task_id, input_responses: [(key.to_owned(), Json::from_text(key))].into() }
}

/// Runs `then` once the renewal is stored, and returns the answer of the renewal.
async fn beside<T>(queue: &LocalQueue, renew: Renew, then: impl Future<Output = T>) -> Result<Renewed, QueueError> {
    let task_id = renew.task_id;
    let then = async {
        while queue.get(&ME, Get { task_id }).await.unwrap().task.progress != Some(0.5) {}
        then.await
    };
    soon(future::join(queue.renew(&ME, renew), then)).await.0
}

#[tokio::test]
async fn a_renewal_that_waits_is_answered_when_the_task_is_called_off() -> TestResult {
    let queue = queue()?;
    let held = running(&queue).await?;
    let renewed = beside(&queue, waiting(held, &[]), async {
        let newer = Renew { progress: Some(0.75), ..Renew::new(held.0, held.1, 200.0) };
        queue.renew(&ME, newer).await.unwrap();
        queue.cancel(&ME, Cancel { task_id: held.0, reason: String::new() }).await.unwrap();
    });
    assert!(renewed.await?.cancel_requested);
    // The progress that another renewal has reported in the meantime stays.
    assert_eq!(queue.get(&ME, Get { task_id: held.0 }).await?.task.progress, Some(0.75));
    // A renewal does not wait when there is something to tell the worker.
    assert!(soon(queue.renew(&ME, waiting(held, &[]))).await?.cancel_requested);
    assert_eq!(queue.nudges.waiting(), 0);
    Ok(())
}

#[tokio::test]
async fn a_renewal_that_finds_no_room_to_wait_is_made_all_the_same() -> TestResult {
    let queue = queue()?;
    let held = running(&queue).await?;
    let mut others = Vec::new();
    while let Ok(other) = queue.nudges.expect(TaskId::from_bytes([1; 16])) {
        others.push(other);
    }
    soon(queue.renew(&ME, waiting(held, &[]))).await?;
    drop(others);
    let mut watches = Vec::new();
    while let Ok(watch) = queue.store.watch(&[held.0]) {
        watches.push(watch);
    }
    soon(queue.renew(&ME, waiting(held, &[]))).await?;
    assert_eq!(queue.nudges.waiting(), 0);
    Ok(())
}

#[tokio::test]
async fn a_renewal_that_waits_is_answered_what_it_asks_and_nothing_else() -> TestResult {
    let queue = queue()?;
    let held = running(&queue).await?;
    let renewed = beside(&queue, waiting(held, &["q"]), async {
        queue.renew(&ME, Renew { wait_s: 0.0, ..waiting(held, &["r"]) }).await.unwrap();
        queue.answer(&ME, answer(held.0, "r")).await.unwrap();
        queue.answer(&ME, answer(held.0, "q")).await.unwrap();
    });
    assert_eq!(renewed.await?.input_responses, answer(held.0, "q").input_responses);
    let renewed = soon(queue.renew(&ME, waiting(held, &["q", "r"]))).await?;
    assert_eq!(renewed.input_responses.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_renewal_that_waits_ends_with_its_task_or_its_time() -> TestResult {
    let queue = queue()?;
    let held = running(&queue).await?;
    let short = Renew { wait_s: 0.01, ..waiting(held, &["q"]) };
    let renewed = soon(queue.renew(&ME, short)).await?;
    assert!(!renewed.cancel_requested && renewed.input_responses.is_empty());
    let complete = queue.complete(&ME, Complete::new(held.0, held.1, None));
    let ended = beside(&queue, waiting(held, &["q"]), complete).await;
    assert_eq!(ended.unwrap_err().code, ErrorCode::AlreadyFinished);
    Ok(())
}

#[tokio::test]
async fn a_renewal_that_is_dropped_waits_no_more() -> TestResult {
    let queue = queue()?;
    let held = running(&queue).await?;
    let mut renewing = Box::pin(queue.renew(&ME, waiting(held, &["q"])));
    assert!((&mut renewing).now_or_never().is_none());
    assert_eq!(queue.nudges.waiting(), 1);
    drop(renewing);
    assert_eq!(queue.nudges.waiting(), 0);
    Ok(())
}

#[tokio::test]
async fn whoever_comes_after_the_end_finds_a_result_that_nobody_wanted_kept() -> TestResult {
    let queue = queue()?;
    let submit = Submit { result_ttl_s: 0.0, ..Submit::new("echo", Json::null()) };
    let id = queue.submit(&ME, submit).await?.task_id;
    let (_, end) = claim(&queue).await?;
    queue.complete(&ME, end).await?;
    // These calls give the writer turns in which it could remove the record.
    for _ in 0..20 {
        queue.stats(&ME, StatsQuery {}).await?;
        self::submit(&queue).await?;
    }
    let waited = soon(queue.wait(&ME, Wait::one(id, 9.0))).await?;
    assert!(waited.done && waited.task.is_some_and(|task| task.status == TaskStatus::Completed));
    Ok(())
}

#[tokio::test]
async fn whoever_waits_is_answered_with_the_records_that_go_meanwhile() -> TestResult {
    let queue = queue()?;
    let ids = vec![submit(&queue).await?, submit(&queue).await?, submit(&queue).await?];
    let (first, end_first) = claim(&queue).await?;
    let (second, end_second) = claim(&queue).await?;
    let (third, end_third) = claim(&queue).await?;
    let wait = Wait { task_id: None, task_ids: [ids.clone(), vec![first]].concat(), timeout_s: 100.0 };
    let mut waiting = Box::pin(queue.wait(&ME, wait.clone()));
    let mut for_last = Box::pin(queue.wait(&ME, Wait::one(third, 100.0)));
    assert!((&mut waiting).now_or_never().is_none() && (&mut for_last).now_or_never().is_none());
    let purge = |id| queue.purge(&ME, Purge { selection: Selection::ids(vec![id]) });
    // This is long before the last task ends.
    queue.complete(&ME, Complete { result: Some(Json::from_text("one")), ..end_first }).await?;
    assert_eq!(purge(first).await?.purged, 1);
    queue.complete(&ME, end_second).await?;
    // The task is purged in the same transaction in which it ends.
    let (ended, purged) = future::join(queue.complete(&ME, end_third), purge(third)).await;
    assert_eq!((ended?.status, purged?.purged), (TaskStatus::Completed, 1));
    let waited = soon(for_last).await?;
    assert!(waited.done && waited.task.is_some_and(|task| task.task_id == third));
    let waited = soon(waiting).await?;
    let tasks = waited.tasks.ok_or("no tasks")?;
    assert_eq!(tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), [first, second, third, first]);
    assert_eq!(tasks[0].result, Some(Json::from_text("one")));
    assert!(waited.done && tasks.iter().all(|task| task.status == TaskStatus::Completed));
    // A wait that begins later finds only the records that still exist.
    assert_eq!(soon(queue.wait(&ME, wait)).await.unwrap_err().code, ErrorCode::NotFound);
    Ok(())
}

#[tokio::test]
async fn every_operation_of_the_table_is_answered_by_whom_it_names() -> TestResult {
    let owner = PeerId::random();
    let store = Arc::new(MemoryStore::new(StoreOptions::new(owner))?);
    let runtime = TokioRuntime::new(tokio::runtime::Handle::current());
    let queue = LocalQueue::new(Arc::<MemoryStore>::clone(&store), owner, Arc::new(runtime));
    let cast = Cast { dialler: PeerId::random(), listener: owner, ticket: String::new() };
    for request in requests_at_once(&cast) {
        let facts = *request.facts();
        let of_store = soon(store.call(&ME, request.clone())).await;
        let of_queue = soon(queue.call(&ME, request)).await;
        let is_answered = |answer: Result<Response, QueueError>| {
            !answer.is_err_and(|error| matches!(error.code, ErrorCode::Unsupported | ErrorCode::Internal))
        };
        let expected = match facts.answered_by {
            AnsweredBy::Store => (true, true),
            AnsweredBy::Queue => (false, true),
            AnsweredBy::Node => (false, false),
        };
        assert_eq!((is_answered(of_store), is_answered(of_queue)), expected, "{}", facts.name);
    }
    Ok(())
}

/// A store that counts how often it is asked why tasks wait.
#[derive(Debug)]
struct Counting {
    inner: MemoryStore,
    asked: AtomicUsize,
}

impl Counting {
    /// Returns how often it was asked since the last call.
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl TaskQueue for Counting {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.inner.call(caller, request).await
    }
}

#[async_trait]
impl TaskStore for Counting {
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.inner.watch(ids)
    }

    async fn explain(&self, tasks: &mut [TaskRecord]) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.explain(tasks).await;
    }

    fn state(&self) -> StoreStatus {
        self.inner.state()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn vitals(&self, with_memory: bool) -> crate::queue::Vitals {
        self.inner.vitals(with_memory)
    }
}

fn counting() -> Result<(LocalQueue, Arc<Counting>), Box<dyn std::error::Error>> {
    let owner = PeerId::random();
    let inner = MemoryStore::new(StoreOptions::new(owner))?;
    let store = Arc::new(Counting { inner, asked: AtomicUsize::new(0) });
    let runtime = TokioRuntime::new(tokio::runtime::Handle::current());
    Ok((LocalQueue::new(Arc::<Counting>::clone(&store), owner, Arc::new(runtime)), store))
}

#[tokio::test]
async fn every_read_of_a_queued_task_says_why_it_waits() -> TestResult {
    let (queue, _) = counting()?;
    let ids = vec![submit(&queue).await?, submit(&queue).await?];
    queue.pause(&ME, Pause::default()).await?;
    let mut tasks = vec![queue.get(&ME, Get { task_id: ids[0] }).await?.task];
    tasks.extend(queue.get_many(&ME, GetMany { task_ids: ids.clone() }).await?.tasks);
    tasks.extend(queue.list(&ME, List::default()).await?.tasks);
    for timeout_s in [0.0, 0.01] {
        tasks.extend(soon(queue.wait(&ME, Wait::one(ids[0], timeout_s))).await?.task);
        let wait = Wait { task_id: None, task_ids: ids.clone(), timeout_s };
        tasks.extend(soon(queue.wait(&ME, wait)).await?.tasks.unwrap_or_default());
    }
    assert_eq!(tasks.len(), 1 + 2 + 2 + 2 * (1 + 2));
    for task in tasks {
        assert_eq!(task.waiting_for.map(|why| why.reason), Some(WaitReason::Paused));
    }
    assert_eq!(
        queue.submit(&ME, Submit::new("echo", Json::null())).await?.waiting_for.map(|why| why.reason),
        Some(WaitReason::Paused)
    );
    Ok(())
}

#[tokio::test]
async fn the_store_is_asked_once_for_an_answer_and_only_about_queued_tasks() -> TestResult {
    let (queue, store) = counting()?;
    let first = submit(&queue).await?;
    let (running, end) = claim(&queue).await?;
    assert_eq!(first, running);
    let second = submit(&queue).await?;
    let delayed = Submit { delay_s: Some(1_000.0), ..Submit::new("late", Json::null()) };
    let delayed = queue.submit(&ME, delayed).await?.task_id;
    assert_eq!(store.asked(), 0, "changes ask nothing");
    queue.list(&ME, List::default()).await?;
    queue.get_many(&ME, GetMany { task_ids: vec![first, second] }).await?;
    assert_eq!(store.asked(), 2);
    queue.get(&ME, Get { task_id: running }).await?;
    queue.get(&ME, Get { task_id: delayed }).await?;
    queue.list(&ME, List { status: Some(TaskStatus::Running), ..List::default() }).await?;
    assert_eq!(store.asked(), 0, "these records say all there is to say");
    // The first look of a wait asks nothing, only the last one does.
    assert!(!soon(queue.wait(&ME, Wait::one(second, 0.01))).await?.done);
    assert_eq!(store.asked(), 1);
    let mut waiting = Box::pin(queue.wait(&ME, Wait::one(second, 100.0)));
    assert!((&mut waiting).now_or_never().is_none());
    queue.complete(&ME, end).await?;
    let (_, end) = claim(&queue).await?;
    queue.complete(&ME, end).await?;
    assert!(soon(waiting).await?.done);
    assert_eq!(store.asked(), 0, "the task has ended");
    Ok(())
}
