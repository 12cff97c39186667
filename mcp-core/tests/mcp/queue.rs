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
        At, BridgeStatus, Cancelled, Capabilities, Check, Claimed, Completed, Durability, Failed, Got, Listed, Peer,
        PeersListed, QueueStatus, Released, Renewed, Status, Submitted, Waited,
    },
};
use tokio::sync::Notify;

/// A queue that notes what it is asked and answers with the tasks that were submitted to it.
#[derive(Debug)]
pub(crate) struct FakeQueue {
    pub(crate) peer: PeerId,
    requests: Mutex<Vec<Request>>,
    tasks: Mutex<BTreeMap<TaskId, Task>>,
    refusal: Option<QueueError>,
    wait_refusal: Option<QueueError>,
    /// Waits and claims that wait never end by themselves.
    holds: bool,
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
            holds: false,
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

    /// Lets waits wait for ever.
    pub(crate) fn holding() -> Self {
        Self { holds: true, ..Self::new() }
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

    pub(crate) fn fence() -> Fence {
        Fence { epoch: 3, counter: 14 }
    }

    fn task(&self, task_id: TaskId, task_type: &str, payload: Json) -> Task {
        Task {
            task_id,
            task_type: task_type.to_owned(),
            model_name: String::new(),
            payload,
            status: TaskStatus::Completed,
            priority: 5,
            attempt: 1,
            max_attempts: 3,
            created_at: 1.5,
            updated_at: 2.5,
            not_before: None,
            deadline: None,
            assigned_worker: Some("w".to_owned()),
            lease_until: None,
            progress: Some(1.0),
            status_message: None,
            result: Some(Json::from_value(&42).unwrap()),
            error: None,
            labels: Vec::new(),
            session: None,
            after: Vec::new(),
            owner: self.peer,
            dead: false,
            fence: None,
        }
    }

    fn find(&self, id: TaskId) -> Result<Task, QueueError> {
        let task = self.tasks.lock().unwrap().get(&id).cloned();
        task.ok_or_else(|| QueueError::new(ErrorCode::NotFound, "no such task"))
    }

    fn answer(&self, request: Request) -> Result<Response, QueueError> {
        Ok(match request {
            Request::At(At { request, .. }) => return self.answer(*request),
            Request::Submit(submit) => {
                let task_id = TaskId::random().unwrap();
                let task = self.task(task_id, &submit.task_type, submit.payload);
                self.tasks.lock().unwrap().insert(task_id, task);
                let (peer_id, durability) = (self.peer, Durability::Synced);
                Response::Submitted(Submitted { task_id, peer_id, duplicate: false, durability })
            }
            Request::Claim(_) => {
                let task = self.tasks.lock().unwrap().values().next().cloned();
                Response::Claimed(Claimed { task: task.map(|task| Task { fence: Some(Self::fence()), ..task }) })
            }
            Request::Renew(_) => {
                Response::Renewed(Renewed { lease_until: 300.5, cancel_requested: false, deadline: None })
            }
            Request::Complete(complete) => Response::Completed(Completed {
                task_id: complete.task_id,
                status: TaskStatus::Completed,
                repeated: false,
            }),
            Request::Fail(_) => Response::Failed(Failed { status: TaskStatus::Queued, attempt: 1 }),
            Request::Release(_) => Response::Released(Released { status: TaskStatus::Queued }),
            Request::Cancel(_) => Response::Cancelled(Cancelled {
                cancelled: true,
                cancel_requested: false,
                status: TaskStatus::Cancelled,
            }),
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
            other => return Err(QueueError::new(ErrorCode::Unsupported, other.name())),
        })
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
            queue: detail.then(QueueStatus::default),
            peers: detail.then(|| vec![self.neighbour()]),
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
        if self.holds && matches!(request, Request::Wait(_) | Request::Claim(_)) {
            let _held = Held::new(self);
            return std::future::pending().await;
        }
        let refusal = if matches!(request, Request::Wait(_)) { &self.wait_refusal } else { &None };
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
