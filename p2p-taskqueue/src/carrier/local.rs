use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::future;
use runtime_bridge::Runtime;

use crate::{
    Caller, PeerId, QueueError, Request, Response, TaskQueue,
    api::{
        Capabilities, Check, Claim, Claimed, ErrorCode, Got, List, Listed, QueueStatus, Status, StatusQuery, Submit,
        Submitted, Wait, Waited,
    },
    engine::Record,
    store::TaskStore,
    task::{Task, TaskId},
};

/// The queue in this process: the operations over a store.
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
        self.store.status().await
    }

    async fn answer_submit(&self, caller: &Caller, submit: Submit) -> Result<Submitted, QueueError> {
        let submission = self.store.submit(caller.scope(), submit).await?;
        Ok(Submitted {
            task_id: submission.task_id,
            peer_id: self.owner,
            duplicate: submission.duplicate,
            durability: self.store.durability(),
        })
    }

    async fn answer_claim(&self, caller: &Caller, claim: Claim) -> Result<Claimed, QueueError> {
        let peer = match caller {
            Caller::Local => self.owner,
            Caller::Peer(peer) => *peer,
        };
        let leased = self.store.claim(peer, claim).await?;
        // No await from here on: what was claimed reaches the caller.
        let task = leased.map(|leased| Task { fence: Some(leased.fence), ..leased.record.into_task(self.owner) });
        Ok(Claimed { task })
    }

    async fn answer_get(&self, id: TaskId) -> Result<Got, QueueError> {
        let task = self.tasks(vec![id]).await?.pop();
        task.map(|task| Got { task })
            .ok_or_else(|| QueueError::new(ErrorCode::Internal, "the store answered no record"))
    }

    async fn answer_wait(&self, wait: Wait) -> Result<Waited, QueueError> {
        let ids = wait.task_id.map_or(wait.task_ids, |id| vec![id]);
        let one = wait.task_id.is_some();
        // Registered before the first look: an end in between is noticed by the one or the other.
        let watch = self.store.watch(&ids)?;
        let tasks = self.tasks(ids.clone()).await?;
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
        drop(future::select(pin!(watch.done()), pin!(deadline)).await);
        let tasks = self.tasks(ids).await?;
        let done = tasks.iter().all(|task| task.status.is_terminal());
        Ok(waited(tasks, one, done))
    }

    async fn answer_list(&self, query: List) -> Result<Listed, QueueError> {
        let page = self.store.list(query).await?;
        let tasks = page.records.into_iter().map(|record| record.into_task(self.owner)).collect();
        Ok(Listed { tasks, next_cursor: page.next_cursor })
    }

    async fn answer_status(&self, query: StatusQuery) -> Result<Status, QueueError> {
        let queue = if query.detail { Some(self.queue_status().await?) } else { None };
        let operations = OPERATIONS.iter().map(|name| (*name).to_owned()).collect();
        Ok(Status {
            peer_id: self.owner,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: String::new(),
            p2p_runtime: String::new(),
            uptime_s: self.runtime.now().saturating_duration_since(self.started).as_secs_f64(),
            capabilities: Capabilities { task_types: Vec::new(), operations },
            addresses: Vec::new(),
            queue,
            peers: None,
            bridge: None,
        })
    }

    async fn tasks(&self, ids: Vec<TaskId>) -> Result<Vec<Task>, QueueError> {
        let records: Vec<Record> = self.store.get(ids).await?;
        Ok(records.into_iter().map(|record| record.into_task(self.owner)).collect())
    }
}

#[async_trait]
impl TaskQueue for LocalQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        request.check()?;
        match request {
            Request::Submit(submit) => self.answer_submit(caller, submit).await.map(Response::Submitted),
            Request::Claim(claim) => self.answer_claim(caller, claim).await.map(Response::Claimed),
            Request::Renew(renew) => self.store.renew(renew).await.map(Response::Renewed),
            Request::Complete(complete) => self.store.complete(complete).await.map(Response::Completed),
            Request::Fail(fail) => self.store.fail(fail).await.map(Response::Failed),
            Request::Release(release) => self.store.release(release).await.map(Response::Released),
            Request::Cancel(cancel) => self.store.cancel(cancel).await.map(Response::Cancelled),
            Request::Get(get) => self.answer_get(get.task_id).await.map(Response::Got),
            Request::Wait(wait) => self.answer_wait(wait).await.map(Response::Waited),
            Request::List(list) => self.answer_list(list).await.map(Response::Listed),
            Request::StatusQuery(query) => self.answer_status(query).await.map(Response::Status),
            Request::Peers(_) | Request::Invite(_) | Request::Join(_) | Request::At(_) => {
                let message = format!("{}: only a node answers this, not the queue behind it", request.name());
                Err(QueueError::new(ErrorCode::Unsupported, message))
            }
        }
    }
}

fn waited(mut tasks: Vec<Task>, one: bool, done: bool) -> Waited {
    if one { Waited { task: tasks.pop(), tasks: None, done } } else { Waited { task: None, tasks: Some(tasks), done } }
}

/// What this queue answers by itself.
const OPERATIONS: [&str; 11] =
    ["submit", "claim", "renew", "complete", "fail", "release", "cancel", "get", "wait", "list", "status"];

#[cfg(test)]
mod tests {
    use runtime_bridge::TokioRuntime;

    use super::*;
    use crate::{
        Json, TaskQueueExt, TaskStatus,
        api::{Complete, CompletedStatus, Fail, Get, Release, Renew},
        store::{SqliteStore, StoreOptions},
    };

    type TestResult = Result<(), Box<dyn std::error::Error>>;
    const ME: Caller = Caller::Local;

    fn queue() -> Result<(LocalQueue, tempfile::TempDir), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let store = SqliteStore::open(&directory.path().join("queue.sqlite3"), StoreOptions::default())?;
        let runtime = TokioRuntime::new(tokio::runtime::Handle::current());
        Ok((LocalQueue::new(Arc::new(store), PeerId::random(), Arc::new(runtime)), directory))
    }

    #[tokio::test]
    async fn a_task_runs_from_submit_to_result() -> TestResult {
        let (queue, _directory) = queue()?;
        let payload = Json::parse(r#"{"text":"a b c","n":1.50}"#.to_owned())?;
        let submitted = queue.submit(&ME, Submit::new("wordcount", payload.clone())).await?;
        let id = submitted.task_id;
        let claimed = queue.claim(&ME, Claim::new("w1")).await?.task.ok_or("no task")?;
        assert_eq!((claimed.task_id, claimed.status, claimed.attempt), (id, TaskStatus::Running, 1));
        assert_eq!((claimed.payload, claimed.owner), (payload, submitted.peer_id));
        assert_eq!(queue.claim(&ME, Claim::new("w2")).await?.task, None);
        let fence = claimed.fence.ok_or("no fence")?;
        let renew = Renew { task_id: id, fence, lease_s: 60.0, progress: Some(0.5), status_message: None };
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
        let complete =
            Complete { task_id: id, fence, status: CompletedStatus::Completed, result: result.clone(), error: None };
        assert!(!queue.complete(&ME, complete.clone()).await?.repeated);
        assert!(queue.complete(&ME, complete).await?.repeated);
        let waited = queue.wait(&ME, Wait::one(id, 5.0)).await?;
        assert!(waited.done);
        assert_eq!(waited.task.ok_or("no task")?.result, result);
        Ok(())
    }
}
