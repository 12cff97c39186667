//! What the tests of this crate share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use libp2p::PeerId;
use runtime_bridge::{Runtime, Sleep, SpawnedFuture, TokioRuntime};
pub(crate) use taskqueue_api::testing::{DEADLINE, task};
use taskqueue_api::{
    Caller, Cancelled, Claim, Claimed, ClaimedMany, Complete, Completed, Durability, ErrorCode, Fence, Got, GotMany,
    Listed, QueueError, QueueStatus, Released, Renewed, Request, Response, RouteBook, Submit, SubmitResult, Submitted,
    SubmittedMany, Task, TaskId, TaskQueue, TaskStatus, Waited,
};
use tokio::sync::watch;

pub(crate) use crate::wire::{Pipe, pipe};

/// The runtime that drives the test.
pub(crate) fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime::new(tokio::runtime::Handle::current()))
}

/// A runtime whose clock stands until it is moved. Its jobs run on the runtime that drives the test.
#[derive(Debug)]
pub(crate) struct ManualRuntime {
    handle: tokio::runtime::Handle,
    start: Instant,
    /// The time since `start`.
    passed: watch::Sender<Duration>,
}

impl ManualRuntime {
    pub(crate) fn new() -> Arc<Self> {
        let (handle, passed) = (tokio::runtime::Handle::current(), watch::Sender::new(Duration::ZERO));
        Arc::new(Self { handle, start: Instant::now(), passed })
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.passed.send_modify(|passed| *passed += by);
    }

    /// Until everything that the last move of the clock has set going waits again.
    pub(crate) async fn when_waiting(&self) {
        // The test's runtime has one thread: what is ready runs before this has had so many turns.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

impl Runtime for ManualRuntime {
    fn spawn_future(&self, job: SpawnedFuture) {
        drop(self.handle.spawn(job));
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        let mut passed = self.passed.subscribe();
        let start = self.start;
        Sleep::new(async move {
            // The runtime outlives its timers.
            let _ended = passed.wait_for(|passed| start + *passed >= deadline).await;
        })
    }

    fn now(&self) -> Instant {
        self.start + *self.passed.borrow()
    }
}

/// The future's value; a test fails when it does not come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes before the deadline")
}

/// A small queue in memory: enough of each operation to tell whether it arrived.
#[derive(Debug)]
pub(crate) struct FakeQueue {
    owner: PeerId,
    tasks: Mutex<BTreeMap<TaskId, Task>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    /// How many calls have come, and from whom the last one.
    pub(crate) calls: watch::Sender<(u64, Option<Caller>)>,
}

impl FakeQueue {
    pub(crate) fn new(owner: PeerId) -> Arc<Self> {
        let (changes, calls) = (watch::Sender::new(0), watch::Sender::new((0, None)));
        Arc::new(Self { owner, tasks: Mutex::default(), changes, calls })
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<TaskId, Task>) -> T) -> T {
        let changed = change(&mut self.tasks.lock().unwrap());
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    fn submit(&self, submit: Submit) -> Submitted {
        let task = task(self.owner, submit);
        let task_id = task.task_id;
        self.change(|tasks| tasks.insert(task_id, task));
        Submitted { task_id, peer_id: self.owner, duplicate: false, durability: Durability::Volatile }
    }

    fn get(&self, id: TaskId) -> Result<Task, QueueError> {
        let found = self.tasks.lock().unwrap().get(&id).cloned();
        found.ok_or_else(|| QueueError::new(ErrorCode::NotFound, format!("no task {id}")))
    }

    fn update(&self, id: TaskId, update: impl FnOnce(&mut Task)) -> Result<TaskStatus, QueueError> {
        self.get(id)?;
        Ok(self.change(|tasks| {
            let task = tasks.get_mut(&id).unwrap();
            update(task);
            task.status
        }))
    }

    fn get_many(&self, ids: Vec<TaskId>) -> GotMany {
        let (found, missing): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.get(*id).is_ok());
        GotMany { tasks: found.into_iter().map(|id| self.get(id).unwrap()).collect(), missing }
    }

    /// A type named `refused` is.
    fn submit_many(&self, submits: Vec<Submit>) -> Vec<SubmitResult> {
        let refused = || Err(QueueError::invalid("task_type", "is refused"));
        let submit = |one: Submit| if one.task_type == "refused" { refused() } else { Ok(self.submit(one)) };
        submits.into_iter().map(|one| submit(one).into()).collect()
    }

    async fn claim_many(&self, wait_s: f64, max_tasks: u32) -> Vec<Task> {
        let mut tasks: Vec<_> = self.claim(wait_s).await.into_iter().collect();
        while !tasks.is_empty() && tasks.len() < max_tasks as usize {
            let Some(task) = self.claim(0.0).await else { break };
            tasks.push(task);
        }
        tasks
    }

    async fn complete(&self, complete: Complete) -> Result<Completed, QueueError> {
        let task_id = complete.task_id;
        let status = self.update(task_id, |task| {
            (task.status, task.result) = (TaskStatus::Completed, complete.result);
        })?;
        let submitted = complete.submit.into_iter().map(|child| self.submit(child).task_id).collect();
        let next = match complete.claim_next {
            Some(Claim { wait_s, .. }) => self.claim(wait_s).await,
            None => None,
        };
        Ok(Completed { task_id, status, repeated: false, submitted, next })
    }

    async fn claim(&self, wait_s: f64) -> Option<Task> {
        let mut changes = self.changes.subscribe();
        let deadline = tokio::time::Instant::now() + Duration::from_secs_f64(wait_s);
        loop {
            changes.borrow_and_update();
            let queued = self.tasks.lock().unwrap().values().find(|t| t.status == TaskStatus::Queued).cloned();
            if let Some(task) = queued {
                self.update(task.task_id, |task| task.status = TaskStatus::Running).ok()?;
                let fence = Some(Fence { epoch: 1, counter: 1 });
                return Some(Task { status: TaskStatus::Running, fence, ..task });
            }
            tokio::time::timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
        }
    }

    async fn wait(&self, ids: &[TaskId], timeout_s: f64) -> Result<(Vec<Task>, bool), QueueError> {
        let mut changes = self.changes.subscribe();
        let deadline = tokio::time::Instant::now() + Duration::from_secs_f64(timeout_s);
        loop {
            changes.borrow_and_update();
            let tasks = ids.iter().map(|id| self.get(*id)).collect::<Result<Vec<_>, _>>()?;
            let done = tasks.iter().all(|task| task.status.is_terminal());
            if done || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok((tasks, done));
            }
        }
    }
}

#[async_trait]
impl TaskQueue for FakeQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.calls.send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(*caller)));
        Ok(match request {
            Request::Submit(submit) if submit.task_type == "panic" => panic!("as asked"),
            Request::Submit(submit) => Response::Submitted(self.submit(submit)),
            Request::Claim(claim) => Response::Claimed(Claimed { task: self.claim(claim.wait_s).await }),
            Request::SubmitMany(many) => {
                Response::SubmittedMany(SubmittedMany { results: self.submit_many(many.tasks) })
            }
            Request::ClaimMany(many) => {
                let tasks = self.claim_many(many.claim.wait_s, many.max_tasks).await;
                Response::ClaimedMany(ClaimedMany { tasks })
            }
            Request::GetMany(get) => Response::GotMany(self.get_many(get.task_ids)),
            Request::Complete(complete) => Response::Completed(self.complete(complete).await?),
            Request::Release(release) => {
                let status = self.update(release.task_id, |task| task.status = TaskStatus::Queued)?;
                Response::Released(Released { status })
            }
            // There is never anything to tell.
            Request::Renew(renew) => {
                self.get(renew.task_id)?;
                let _over =
                    tokio::time::timeout(Duration::from_secs_f64(renew.wait_s), std::future::pending::<()>()).await;
                let (cancel_requested, deadline, input_responses) = (false, None, BTreeMap::new());
                Response::Renewed(Renewed { lease_until: 1.0, cancel_requested, deadline, input_responses })
            }
            Request::Cancel(cancel) => {
                let status = self.update(cancel.task_id, |task| task.status = TaskStatus::Cancelled)?;
                Response::Cancelled(Cancelled { cancelled: true, cancel_requested: false, status })
            }
            Request::Get(get) => Response::Got(Got { task: self.get(get.task_id)? }),
            Request::Wait(wait) => {
                let ids = if wait.task_ids.is_empty() { vec![wait.task_id.unwrap()] } else { wait.task_ids };
                let (mut tasks, done) = self.wait(&ids, wait.timeout_s).await?;
                let (task, tasks) = if wait.task_id.is_some() { (tasks.pop(), None) } else { (None, Some(tasks)) };
                Response::Waited(Waited { task, tasks, done })
            }
            Request::List(_) => Response::Listed(Listed {
                tasks: self.tasks.lock().unwrap().values().cloned().collect(),
                next_cursor: None,
            }),
            Request::StatusQuery(_) => {
                let queue = QueueStatus { totals: BTreeMap::from([("queued".to_owned(), 7)]), oldest_queued_s: None };
                Response::Status(status(self.owner, queue))
            }
            other => return Err(QueueError::new(ErrorCode::Unsupported, other.name())),
        })
    }
}

fn status(peer_id: PeerId, queue: QueueStatus) -> taskqueue_api::Status {
    taskqueue_api::Status {
        peer_id,
        version: String::new(),
        mode: String::new(),
        p2p_runtime: String::new(),
        uptime_s: 0.0,
        capabilities: taskqueue_api::Capabilities::default(),
        addresses: Vec::new(),
        queue: Some(queue),
        store: None,
        peers: None,
        transport: None,
        bridge: None,
    }
}

/// Routes in memory, which outlive a node.
#[derive(Debug, Default)]
pub(crate) struct FakeRoutes(Mutex<BTreeMap<TaskId, PeerId>>);

#[async_trait]
impl RouteBook for FakeRoutes {
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError> {
        self.0.lock().unwrap().insert(task, owner);
        Ok(())
    }

    async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        Ok(self.0.lock().unwrap().get(&task).copied())
    }
}
