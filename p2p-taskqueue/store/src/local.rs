use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::future;
use runtime_bridge::Runtime;
use taskqueue_api::{
    Answer, AnsweredBy, Caller, Cancel, Capabilities, Check, ErrorCode, GetMany, Guard, PeerId, QueueError,
    QueueStatus, Renew, Renewed, Request, Response, StatsQuery, Status, StatusQuery, TaskId, TaskQueue,
    TaskQueueExt as _, TaskRecord, TaskStatus, Wait, Waited,
};

use super::nudges::Nudges;
use crate::{TaskStore, Watch};

/// The queue in this process: the operations of a store with their checks, and the waits and the status, which need a
/// runtime.
///
/// It answers operations on the tasks that it keeps. Peers, tickets and calls to others belong to the node.
#[derive(Debug)]
pub struct LocalQueue {
    store: Arc<dyn TaskStore>,
    owner: PeerId,
    /// Ends waits. The store has a timer of its own for the rest.
    runtime: Arc<dyn Runtime>,
    started: Instant,
    /// The renewals that wait in this queue.
    nudges: Nudges,
}

impl LocalQueue {
    /// Makes a queue over this store. `owner` is the peer that keeps the tasks.
    #[must_use]
    pub fn new(store: Arc<dyn TaskStore>, owner: PeerId, runtime: Arc<dyn Runtime>) -> Self {
        let started = runtime.now();
        Self { store, owner, runtime, started, nudges: Nudges::default() }
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
        // The watch is registered before the first look, so an end in between is noticed by one of the two.
        let watch = self.store.watch(&ids)?;
        let mut tasks = self.tasks(caller, ids.clone(), &watch).await?;
        let mut done = true;
        for task in &tasks {
            if task.status.is_terminal() {
                watch.settle(task.task_id);
            } else {
                done = false;
            }
        }
        if done || wait.timeout_s <= 0.0 {
            self.explain(&mut tasks).await;
            return Ok(waited(tasks, one, done));
        }
        drop(tasks);
        let timeout = Duration::try_from_secs_f64(wait.timeout_s).unwrap_or(Duration::ZERO);
        let deadline = self.runtime.sleep_until(self.runtime.now() + timeout);
        // Whichever came first, the end or the deadline, the records show the state of the tasks.
        future::select(pin!(watch.done()), pin!(deadline)).await;
        let mut tasks = self.tasks(caller, ids, &watch).await?;
        self.explain(&mut tasks).await;
        let done = tasks.iter().all(|task| task.status.is_terminal());
        Ok(waited(tasks, one, done))
    }

    /// Notes in the records of queued tasks why the tasks wait, as far as the store knows it. The store is asked only if
    /// there is such a record.
    async fn explain(&self, tasks: &mut [TaskRecord]) {
        if tasks.iter().any(is_unexplained) {
            self.store.explain(tasks).await;
        }
    }

    /// Does the same to the records in an answer.
    async fn explained(&self, mut response: Response) -> Response {
        self.explain(shown(&mut response)).await;
        response
    }

    /// Renews at once. If the renewal may wait and there is room, it then waits until there is something to tell the
    /// worker, and renews again.
    ///
    /// Whenever this is dropped, the first renewal stands and nothing waits any more.
    async fn answer_renewal(&self, caller: &Caller, renew: Renew) -> Result<Renewed, QueueError> {
        if renew.wait_s <= 0.0 {
            return self.store.renew(caller, renew).await;
        }
        // Both are registered before the first look, so news in between is noticed by one of the two.
        let news = self.nudges.expect(renew.task_id).and_then(|nudge| Ok((nudge, self.store.watch(&[renew.task_id])?)));
        let (nudge, end) = match news {
            Ok(news) => news,
            // Other callers fill the room for waits. That must not cost the lease.
            Err(error) if error.code == ErrorCode::Overloaded => return self.store.renew(caller, renew).await,
            Err(error) => return Err(error),
        };
        let wait = Duration::try_from_secs_f64(renew.wait_s).unwrap_or(Duration::ZERO);
        let mut over = pin!(self.runtime.sleep_until(self.runtime.now() + wait));
        // The worker's progress is stored only once, because another renewal may report more in the meantime.
        let again = Renew { progress: None, status_message: None, ..renew.clone() };
        let mut renewed = self.store.renew(caller, renew).await?;
        while !renewed.cancel_requested && renewed.input_responses.is_empty() {
            let is_over = tokio::select! {
                () = nudge.told() => false,
                () = end.done() => false,
                () = &mut over => true,
            };
            renewed = self.store.renew(caller, again.clone()).await?;
            if is_over {
                break;
            }
        }
        Ok(renewed)
    }

    /// Makes a change, and tells the worker of the task about it.
    async fn change_and_tell(&self, caller: &Caller, task: TaskId, request: Request) -> Result<Response, QueueError> {
        let answer = self.store.call(caller, request).await;
        if answer.is_ok() {
            self.nudges.tell(task);
        }
        answer
    }

    async fn answer_status(&self, query: StatusQuery) -> Result<Status, QueueError> {
        let queue = if query.detail { Some(self.queue_status().await?) } else { None };
        let answered = Request::OPERATIONS.iter().filter(|facts| facts.answered_by != AnsweredBy::Node);
        let operations = answered.map(|facts| facts.name.into()).collect();
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

    /// Returns the records of these tasks. For a task that was removed since the watch was registered, it returns the
    /// last record.
    async fn tasks(&self, caller: &Caller, ids: Vec<TaskId>, watch: &Watch) -> Result<Vec<TaskRecord>, QueueError> {
        let got = self.store.get_many(caller, GetMany { task_ids: ids.clone() }).await?;
        if got.missing.is_empty() {
            return Ok(got.tasks);
        }
        let mut there = got.tasks.into_iter().peekable();
        let each = ids.into_iter().map(|id| {
            let found = there.next_if(|task| task.task_id == id).or_else(|| watch.removed(id, self.owner));
            found.ok_or_else(|| QueueError::new(ErrorCode::NotFound, format!("no task {id}")))
        });
        each.collect()
    }
}

#[async_trait]
impl TaskQueue for LocalQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        request.check()?;
        match Guard::of(caller) {
            None => self.respond(caller, request).await,
            Some(guard) => guard.call(&Unguarded(self), caller, &Caller::Local, request).await,
        }
    }
}

/// The queue behind the guard.
#[derive(Debug)]
struct Unguarded<'a>(&'a LocalQueue);

#[async_trait]
impl TaskQueue for Unguarded<'_> {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.0.respond(caller, request).await
    }
}

impl LocalQueue {
    async fn respond(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        match request {
            // The futures are boxed, because otherwise every request would have the size of the largest one.
            Request::Wait(wait) => Box::pin(self.answer_wait(caller, wait)).await.map(Response::Waited),
            Request::Renew(renew) => Box::pin(self.answer_renewal(caller, renew)).await.map(Response::Renewed),
            Request::Cancel(Cancel { task_id, .. }) | Request::Answer(Answer { task_id, .. }) => {
                self.change_and_tell(caller, task_id, request).await
            }
            Request::StatusQuery(query) => Box::pin(self.answer_status(query)).await.map(Response::Status),
            request if request.facts().answered_by == AnsweredBy::Node => {
                let message = format!("{}: only a node answers this, not the queue behind it", request.name());
                Err(QueueError::new(ErrorCode::Unsupported, message))
            }
            request => {
                let mut response = self.store.call(caller, request).await?;
                if !shown(&mut response).iter().any(is_unexplained) {
                    return Ok(response);
                }
                Ok(Box::pin(self.explained(response)).await)
            }
        }
    }
}

/// Returns the records that a read has answered.
fn shown(response: &mut Response) -> &mut [TaskRecord] {
    match response {
        Response::Got(got) => std::slice::from_mut(&mut got.task),
        Response::GotMany(got) => &mut got.tasks,
        Response::Listed(listed) => &mut listed.tasks,
        _ => &mut [],
    }
}

/// Whether the record of a queued task does not say why the task waits.
fn is_unexplained(task: &TaskRecord) -> bool {
    task.status == TaskStatus::Queued && task.waiting_for.is_none()
}

fn waited(mut tasks: Vec<TaskRecord>, one: bool, done: bool) -> Waited {
    if one { Waited { task: tasks.pop(), tasks: None, done } } else { Waited { task: None, tasks: Some(tasks), done } }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
