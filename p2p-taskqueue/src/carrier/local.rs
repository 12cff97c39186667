use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::future;
use runtime_bridge::Runtime;

use crate::{
    Caller, PeerId, QueueError, Request, Response, TaskQueue, TaskQueueExt as _,
    api::{Capabilities, Check, ErrorCode, GetMany, QueueStatus, StatsQuery, Status, StatusQuery, Wait, Waited},
    store::TaskStore,
    task::{Task, TaskId},
};

/// The queue in this process: a store's operations, checked, with the waits and the status that need a runtime.
///
/// It answers what concerns the tasks that it keeps; peers, tickets and calls to others are the node's.
#[derive(Debug)]
pub struct LocalQueue {
    store: Arc<dyn TaskStore>,
    owner: PeerId,
    /// Only for the end of waits; the store has its own timer.
    runtime: Arc<dyn Runtime>,
    started: Instant,
}

impl LocalQueue {
    /// A queue over this store, whose tasks `owner` keeps.
    #[must_use]
    pub fn new(store: Arc<dyn TaskStore>, owner: PeerId, runtime: Arc<dyn Runtime>) -> Self {
        let started = runtime.now();
        Self { store, owner, runtime, started }
    }

    /// Counts the tasks.
    ///
    /// # Errors
    ///
    /// `storage_error`, `overloaded`, `shutting_down`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn queue_status(&self) -> Result<QueueStatus, QueueError> {
        let stats = self.store.stats(&Caller::Local, StatsQuery {}).await?;
        Ok(QueueStatus { totals: stats.totals, oldest_queued_s: stats.oldest_queued_s })
    }

    async fn answer_wait(&self, caller: &Caller, wait: Wait) -> Result<Waited, QueueError> {
        let ids = wait.task_id.map_or(wait.task_ids, |id| vec![id]);
        let one = wait.task_id.is_some();
        // Registered before the first look: an end in between is noticed by the one or the other.
        let watch = self.store.watch(&ids)?;
        let tasks = self.tasks(caller, ids.clone()).await?;
        let mut done = true;
        for task in &tasks {
            if task.status.is_terminal() {
                watch.settle(task.task_id);
            } else {
                done = false;
            }
        }
        if done || wait.timeout_s <= 0.0 {
            return Ok(waited(tasks, one, done));
        }
        drop(tasks);
        let timeout = Duration::try_from_secs_f64(wait.timeout_s).unwrap_or(Duration::ZERO);
        let deadline = self.runtime.sleep_until(self.runtime.now() + timeout);
        // Whether it was the end or the deadline, the records say how they stand.
        future::select(pin!(watch.done()), pin!(deadline)).await;
        let tasks = self.tasks(caller, ids).await?;
        let done = tasks.iter().all(|task| task.status.is_terminal());
        Ok(waited(tasks, one, done))
    }

    async fn answer_status(&self, query: StatusQuery) -> Result<Status, QueueError> {
        let queue = if query.detail { Some(self.queue_status().await?) } else { None };
        let of_node = |name: &&str| NODE_OPERATIONS.contains(name);
        let operations = Request::NAMES.iter().filter(|name| !of_node(name)).map(|name| (*name).into()).collect();
        Ok(Status {
            peer_id: self.owner,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: String::new(),
            p2p_runtime: String::new(),
            uptime_s: self.runtime.now().saturating_duration_since(self.started).as_secs_f64(),
            capabilities: Capabilities { task_types: Vec::new(), operations },
            addresses: Vec::new(),
            queue,
            store: query.detail.then(|| self.store.state()),
            peers: None,
            transport: None,
            bridge: None,
        })
    }

    async fn tasks(&self, caller: &Caller, task_ids: Vec<TaskId>) -> Result<Vec<Task>, QueueError> {
        let got = self.store.get_many(caller, GetMany { task_ids }).await?;
        match got.missing.first() {
            Some(id) => Err(QueueError::new(ErrorCode::NotFound, format!("no task {id}"))),
            None => Ok(got.tasks),
        }
    }
}

#[async_trait]
impl TaskQueue for LocalQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        request.check()?;
        match request {
            // Boxed: every request would hold the larger of these futures.
            Request::Wait(wait) => Box::pin(self.answer_wait(caller, wait)).await.map(Response::Waited),
            Request::StatusQuery(query) => Box::pin(self.answer_status(query)).await.map(Response::Status),
            request if NODE_OPERATIONS.contains(&request.name()) => {
                let message = format!("{}: only a node answers this, not the queue behind it", request.name());
                Err(QueueError::new(ErrorCode::Unsupported, message))
            }
            request => self.store.call(caller, request).await,
        }
    }
}

fn waited(mut tasks: Vec<Task>, one: bool, done: bool) -> Waited {
    if one { Waited { task: tasks.pop(), tasks: None, done } } else { Waited { task: None, tasks: Some(tasks), done } }
}

/// What this queue leaves to the node over it.
const NODE_OPERATIONS: [&str; 8] =
    ["peers", "discover", "list_tools", "call_tool", "invite", "join", "at", "peer.heartbeat"];

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use runtime_bridge::TokioRuntime;

    use super::*;
    use crate::{
        Json, TaskQueueExt, TaskStatus,
        api::{Claim, Complete, Fail, Get, Peers, Release, Renew, Submit},
        store::{MemoryStore, StoreOptions},
    };

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
}
