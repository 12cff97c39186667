use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use p2p_taskqueue::{
    Caller, ErrorCode, Fence, Json, PeerId, QueueError, Request, Response, Task, TaskId, TaskQueue, TaskStatus,
    api::{
        Answered, At, BridgeStatus, Cancelled, Capabilities, Check, Claimed, ClaimedMany, Complete, Completed,
        Durability, Failed, Got, GotMany, Listed, Peer, PeersListed, QueueStatus, Released, Renewed, Status, Submit,
        SubmitResult, Submitted, SubmittedMany, ToolCalled, ToolOffer, ToolsListed, Waited,
    },
};
use tokio::sync::Notify;

use crate::canned;

/// A queue that notes what it is asked and answers with the tasks that were submitted to it.
#[derive(Debug)]
pub(crate) struct FakeQueue {
    pub(crate) peer: PeerId,
    requests: Mutex<Vec<Request>>,
    tasks: Mutex<BTreeMap<TaskId, Task>>,
    refusal: Option<QueueError>,
    wait_refusal: Option<QueueError>,
    /// What its neighbour offers; the local node offers nothing.
    offers: Vec<ToolOffer>,
    read_refusal: Option<QueueError>,
    change_refusal: Option<QueueError>,
    /// Waits and claims that wait never end by themselves.
    holds: bool,
    /// Ends one of those.
    pub(crate) let_go: Notify,
    /// Nothing is answered.
    is_silent: bool,
    /// Told each time when one of those starts, and when it is dropped.
    pub(crate) held: Notify,
    pub(crate) dropped: Notify,
    pub(crate) holding: AtomicUsize,
}

impl FakeQueue {
    pub(crate) fn new() -> Self {
        Self {
            peer: PeerId::random(),
            requests: Mutex::default(),
            tasks: Mutex::default(),
            refusal: None,
            wait_refusal: None,
            offers: Vec::new(),
            read_refusal: None,
            change_refusal: None,
            holds: false,
            let_go: Notify::new(),
            is_silent: false,
            held: Notify::new(),
            dropped: Notify::new(),
            holding: AtomicUsize::new(0),
        }
    }

    /// Refuses everything.
    pub(crate) fn refusing(error: QueueError) -> Self {
        Self { refusal: Some(error), ..Self::new() }
    }

    /// Refuses waits only.
    pub(crate) fn refusing_waits(self, error: QueueError) -> Self {
        Self { wait_refusal: Some(error), ..self }
    }

    /// With a neighbour whose workers offer this.
    pub(crate) fn beside(offers: Vec<ToolOffer>) -> Self {
        Self { offers, ..Self::new() }
    }

    /// Refuses to read single records only.
    pub(crate) fn refusing_reads(self, error: QueueError) -> Self {
        Self { read_refusal: Some(error), ..self }
    }

    /// Refuses to cancel and to take answers only.
    pub(crate) fn refusing_changes(self, error: QueueError) -> Self {
        Self { change_refusal: Some(error), ..self }
    }

    /// Lets waits wait until they are let go.
    pub(crate) fn holding() -> Self {
        Self { holds: true, ..Self::new() }
    }

    /// Answers nothing.
    pub(crate) fn silent() -> Self {
        Self { is_silent: true, ..Self::new() }
    }

    /// What was asked last.
    pub(crate) fn last(&self) -> Request {
        self.requests.lock().unwrap().last().cloned().expect("nothing was asked")
    }

    pub(crate) fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) fn put(&self, payload: Json) -> TaskId {
        let id = TaskId::random().unwrap();
        self.tasks.lock().unwrap().insert(id, self.task(id, "wordcount", payload));
        id
    }

    /// Puts a task that is changed as given.
    pub(crate) fn put_as(&self, change: impl FnOnce(&mut Task)) -> TaskId {
        let id = self.put(Json::null());
        self.change(id, change);
        id
    }

    pub(crate) fn change(&self, id: TaskId, change: impl FnOnce(&mut Task)) {
        change(self.tasks.lock().unwrap().get_mut(&id).expect("no such task"));
    }

    pub(crate) fn record(&self, id: TaskId) -> Task {
        self.find(id).unwrap()
    }

    /// The only task.
    pub(crate) fn only(&self) -> TaskId {
        let tasks = self.tasks.lock().unwrap();
        assert_eq!(tasks.len(), 1);
        *tasks.keys().next().unwrap()
    }

    pub(crate) fn fence() -> Fence {
        Fence { epoch: 3, counter: 14 }
    }

    fn task(&self, task_id: TaskId, task_type: &str, payload: Json) -> Task {
        canned::record(self.peer, task_id, task_type, payload)
    }

    fn find(&self, id: TaskId) -> Result<Task, QueueError> {
        let task = self.tasks.lock().unwrap().get(&id).cloned();
        task.ok_or_else(|| QueueError::new(ErrorCode::NotFound, "no such task"))
    }

    fn answer(&self, request: Request) -> Result<Response, QueueError> {
        Ok(match request {
            Request::At(At { request, .. }) if matches!(*request, Request::ListTools(_)) => {
                Response::ToolsListed(ToolsListed { tools: self.offers.clone() })
            }
            Request::At(At { request, .. }) => return self.answer(*request),
            Request::Submit(submit) => Response::Submitted(self.submit(submit)),
            Request::SubmitMany(many) => {
                Response::SubmittedMany(SubmittedMany { results: self.submit_many(many.tasks) })
            }
            Request::CallTool(call) => {
                let task = self.task(TaskId::from_bytes([7; 16]), &call.tool_name, call.args);
                Response::ToolCalled(ToolCalled { result: Json::null(), task })
            }
            Request::Claim(_) => Response::Claimed(Claimed { task: self.claim() }),
            Request::ClaimMany(_) => Response::ClaimedMany(ClaimedMany { tasks: self.claim().into_iter().collect() }),
            Request::Renew(_) => Response::Renewed(Renewed { lease_until: 300.5, ..Renewed::default() }),
            Request::Complete(complete) => Response::Completed(self.complete(complete)),
            Request::Fail(_) => Response::Failed(Failed { status: TaskStatus::Queued, attempt: 1 }),
            Request::Release(_) => Response::Released(Released { status: TaskStatus::Queued }),
            Request::Cancel(_) => Response::Cancelled(Cancelled {
                cancelled: true,
                cancel_requested: false,
                status: TaskStatus::Cancelled,
            }),
            Request::Answer(_) => Response::Answered(Answered { accepted: 1, open: 0, status: TaskStatus::Running }),
            Request::GetMany(get) => Response::GotMany(self.get_many(get.task_ids)),
            Request::Get(get) => Response::Got(Got { task: self.find(get.task_id)? }),
            Request::Wait(wait) => {
                let one = wait.task_id.map(|id| self.find(id)).transpose()?;
                let several = wait.task_ids.iter().map(|id| self.find(*id)).collect::<Result<Vec<_>, _>>()?;
                let tasks = (!several.is_empty()).then_some(several);
                Response::Waited(Waited { task: one, tasks, done: true })
            }
            Request::List(_) => Response::Listed(Listed {
                tasks: self.tasks.lock().unwrap().values().cloned().collect(),
                next_cursor: None,
            }),
            Request::StatusQuery(query) => Response::Status(self.status(query.detail)),
            Request::Peers(_) => {
                Response::PeersListed(PeersListed { self_peer_id: self.peer, peers: vec![self.neighbour()] })
            }
            other => return canned::answer(&other),
        })
    }

    fn submit(&self, submit: Submit) -> Submitted {
        let task_id = TaskId::random().unwrap();
        let task = self.task(task_id, &submit.task_type, submit.payload);
        let task = Task { submitter: submit.submitter, ..task };
        self.tasks.lock().unwrap().insert(task_id, task);
        Submitted { task_id, peer_id: self.peer, duplicate: false, durability: Durability::Synced }
    }

    /// The last one is refused.
    fn submit_many(&self, mut submits: Vec<Submit>) -> Vec<SubmitResult> {
        submits.pop();
        let refused = Err(QueueError::new(ErrorCode::Conflict, "the key is another task's"));
        submits.into_iter().map(|submit| Ok(self.submit(submit))).chain([refused]).map(SubmitResult::from).collect()
    }

    fn claim(&self) -> Option<Task> {
        let task = self.tasks.lock().unwrap().values().next().cloned();
        task.map(|task| Task { fence: Some(Self::fence()), ..task })
    }

    fn get_many(&self, ids: Vec<TaskId>) -> GotMany {
        let (found, missing): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.find(*id).is_ok());
        GotMany { tasks: found.into_iter().map(|id| self.find(id).unwrap()).collect(), missing }
    }

    fn complete(&self, complete: Complete) -> Completed {
        let submitted = complete.submit.into_iter().map(|submit| self.submit(submit).task_id).collect();
        let next = complete.claim_next.and_then(|_| self.claim());
        let status = TaskStatus::Completed;
        Completed { task_id: complete.task_id, status, repeated: false, submitted, next }
    }

    fn status(&self, detail: bool) -> Status {
        Status {
            peer_id: self.peer,
            version: "0.0.0".to_owned(),
            mode: "bridge".to_owned(),
            p2p_runtime: "tokio".to_owned(),
            uptime_s: 0.5,
            capabilities: Capabilities { task_types: vec!["wordcount".to_owned()], operations: Vec::new() },
            addresses: vec!["/ip4/127.0.0.1/tcp/9710".parse().unwrap()],
            queue: detail
                .then(|| QueueStatus { totals: BTreeMap::from([("queued".to_owned(), 1)]), ..QueueStatus::default() }),
            store: None,
            peers: detail.then(|| vec![self.neighbour()]),
            transport: None,
            bridge: detail.then(BridgeStatus::default),
        }
    }

    fn neighbour(&self) -> Peer {
        Peer {
            peer_id: self.peer,
            connected: true,
            addresses: Vec::new(),
            last_seen: Some(1.5),
            version: None,
            last_dial: None,
        }
    }
}

#[async_trait]
impl TaskQueue for FakeQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        assert_eq!(*caller, Caller::Local);
        self.requests.lock().unwrap().push(request.clone());
        request.check()?;
        if self.is_silent || self.holds && request.wait_s() > 0.0 {
            let _held = Held::new(self);
            self.let_go.notified().await;
        }
        let refusal = match request {
            Request::Wait(_) => &self.wait_refusal,
            Request::Get(_) => &self.read_refusal,
            Request::Cancel(_) | Request::Answer(_) => &self.change_refusal,
            _ => &None,
        };
        match self.refusal.as_ref().or(refusal.as_ref()) {
            Some(error) => Err(error.clone()),
            None => self.answer(request),
        }
    }
}

/// A wait in progress; tells when it is dropped.
struct Held<'a>(&'a FakeQueue);

impl<'a> Held<'a> {
    fn new(queue: &'a FakeQueue) -> Self {
        queue.holding.fetch_add(1, Ordering::SeqCst);
        queue.held.notify_one();
        Self(queue)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.holding.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.notify_one();
    }
}
