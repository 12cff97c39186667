//! The real queue in memory, behind a door that notes every request, and that can refuse requests or leave them
//! unanswered.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
pub(crate) use p2p_taskqueue::store::ManualClock;
use p2p_taskqueue::{
    Caller, ErrorCode, Json, PeerId, QueueError, Request, Response, TaskId, TaskQueue, TaskQueueExt as _,
    api::{
        AnsweredBy, At, CallTool, Check, Discovered, Get, List, MachineInfo, Members, MembersListed, PeersListed,
        Submit, TaskRecord, TaskStatus, ToolCalled, ToolOffer, ToolsListed, WaitingFor, WorkerInfo, WorkersListed,
    },
    store::{LocalQueue, MemoryStore, StoreOptions, TaskStore, engine::Wall},
};
use runtime_bridge::TokioRuntime;
use taskqueue_api::testing::exchanges::{Cast, exchanges};
use tokio::{runtime::Handle, sync::Notify};

use crate::{steady::Steady, work::Lease};

/// Selects requests.
type Which = fn(&Request) -> bool;

/// The queue of a server: a real one, with notes of every request.
#[derive(Debug)]
pub(crate) struct TestQueue {
    pub(crate) peer: PeerId,
    /// The queue itself. Requests that are made here are not noted.
    pub(crate) queue: Arc<dyn TaskQueue>,
    requests: Mutex<Vec<Request>>,
    refuses: Option<(Which, QueueError)>,
    /// Alters the records that are shown, as a node of another version may have them.
    shows: Option<fn(&mut TaskRecord)>,
    silent: Option<Which>,
    /// The workers of the mesh, or the error of a node that does not know them. `None` leaves it to the queue behind the
    /// door.
    pub(crate) workers: Mutex<Option<Result<Vec<WorkerInfo>, QueueError>>>,
    /// The members of the mesh, where they are not those of the queue.
    members: Option<Vec<MachineInfo>>,
    /// Why tasks that are queued wait.
    waiting_for: Option<WaitingFor>,
    /// Notified when a call that may wait begins; `dropped` is notified when it is over.
    pub(crate) held: Notify,
    pub(crate) dropped: Notify,
    pub(crate) holding: AtomicUsize,
}

impl TestQueue {
    /// Makes a queue whose clock stands at [`BEGAN_S`], so that nothing in it ends by itself.
    pub(crate) fn new() -> Self {
        Self::at(&clock(BEGAN_S))
    }

    /// Makes a queue on this clock.
    pub(crate) fn at(clock: &Arc<ManualClock>) -> Self {
        let owner = PeerId::random();
        let options = StoreOptions::new(owner).with_clock(Arc::<ManualClock>::clone(clock));
        Self::over(Arc::new(Steady::new(MemoryStore::new(options).unwrap())), owner)
    }

    /// Makes a queue over this store.
    pub(crate) fn over(store: Arc<dyn TaskStore>, owner: PeerId) -> Self {
        let runtime = Arc::new(TokioRuntime::new(Handle::current()));
        let local = LocalQueue::new(store, owner, runtime);
        Self::before(Arc::new(Alone { local, peer: owner }), owner).with_workers(Vec::new())
    }

    /// Puts the door before this queue.
    pub(crate) fn before(queue: Arc<dyn TaskQueue>, peer: PeerId) -> Self {
        Self {
            peer,
            queue,
            requests: Mutex::default(),
            refuses: None,
            shows: None,
            silent: None,
            workers: Mutex::default(),
            members: None,
            waiting_for: None,
            held: Notify::new(),
            dropped: Notify::new(),
            holding: AtomicUsize::new(0),
        }
    }

    /// Makes a queue that refuses everything.
    pub(crate) fn refusing(error: QueueError) -> Self {
        Self::new().refusing_if(|_| true, error)
    }

    /// Refuses these requests.
    pub(crate) fn refusing_if(self, which: Which, error: QueueError) -> Self {
        Self { refuses: Some((which, error)), ..self }
    }

    /// Shows altered records, as a peer of another version may have them.
    pub(crate) fn showing(self, alter: fn(&mut TaskRecord)) -> Self {
        Self { shows: Some(alter), ..self }
    }

    /// Answers that the mesh has these workers. Nobody else is asked for them.
    pub(crate) fn with_workers(self, workers: Vec<WorkerInfo>) -> Self {
        Self { workers: Mutex::new(Some(Ok(workers))), ..self }
    }

    /// Answers that the mesh has these members.
    pub(crate) fn with_members<'a>(self, members: impl IntoIterator<Item = (&'a str, PeerId)>) -> Self {
        let member = |(name, peer_id): (&str, PeerId)| MachineInfo {
            name: name.to_owned(),
            peer_id,
            role: "member".parse().unwrap(),
            added_by: "root key".to_owned(),
            connected: true,
            addresses: Vec::new(),
            last_seen: None,
            version: None,
        };
        Self { members: Some(members.into_iter().map(member).collect()), ..self }
    }

    /// Answers for every queued task that it waits for this.
    pub(crate) fn waiting_for(self, waiting_for: WaitingFor) -> Self {
        Self { waiting_for: Some(waiting_for), ..self }
    }

    /// Makes a queue that never answers.
    pub(crate) fn silent() -> Self {
        Self::new().silent_if(|_| true)
    }

    /// Never answers these requests.
    pub(crate) fn silent_if(self, which: Which) -> Self {
        Self { silent: Some(which), ..self }
    }

    /// Returns the last request.
    pub(crate) fn last(&self) -> Request {
        self.requests.lock().unwrap().last().cloned().expect("nothing was asked")
    }

    /// Returns the request that followed so many others.
    pub(crate) fn first_after(&self, count: usize) -> Request {
        self.requests.lock().unwrap()[count].clone()
    }

    pub(crate) fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Returns how many of these requests were made.
    pub(crate) fn asked_of(&self, which: Which) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| which(request)).count()
    }

    pub(crate) async fn submit(&self, submit: Submit) -> TaskId {
        self.queue.submit(&Caller::Local, submit).await.unwrap().task_id
    }

    /// Submits a task that waits for a worker.
    pub(crate) async fn put(&self, payload: Json) -> TaskId {
        self.submit(Submit::new("wordcount", payload)).await
    }

    /// Claims the next task, and waits until there is one.
    pub(crate) async fn claim(&self) -> Lease {
        Lease::claim(&self.queue, Vec::new()).await
    }

    /// Submits a task and claims it.
    pub(crate) async fn start(&self) -> Lease {
        let id = self.put(Json::null()).await;
        let lease = self.claim().await;
        assert_eq!(lease.task_id, id, "another task waited");
        lease
    }

    pub(crate) async fn record(&self, task_id: TaskId) -> TaskRecord {
        self.queue.get(&Caller::Local, Get { task_id }).await.unwrap().task
    }

    /// Returns the only task.
    pub(crate) async fn only(&self) -> TaskId {
        let tasks = self.queue.list(&Caller::Local, List::default()).await.unwrap().tasks;
        assert_eq!(tasks.len(), 1);
        tasks[0].task_id
    }
}

#[async_trait]
impl TaskQueue for TestQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        assert_eq!(*caller, Caller::Local);
        self.requests.lock().unwrap().push(request.clone());
        let _held = (request.wait_s() > 0.0).then(|| Held::new(self));
        if self.silent.is_some_and(|which| which(&request)) {
            pending::<()>().await;
        }
        if let Some((_, error)) = self.refuses.as_ref().filter(|(which, _)| which(&request)) {
            return Err(error.clone());
        }
        let workers = self.workers.lock().unwrap().clone();
        let mut response = match (innermost(&request), &self.members) {
            (Request::Workers(_), _) if workers.is_some() => {
                let workers = workers.transpose()?.unwrap_or_default();
                Response::WorkersListed(WorkersListed { self_peer_id: self.peer, workers })
            }
            (Request::Members(Members {}), Some(members)) => {
                let (mesh, members) = ("5a".repeat(32), members.clone());
                Response::MembersListed(MembersListed { mesh, self_peer_id: self.peer, members })
            }
            _ => self.queue.call(caller, request).await?,
        };
        self.alter(&mut response);
        Ok(response)
    }
}

impl TestQueue {
    fn alter(&self, response: &mut Response) {
        let alter = |task: &mut TaskRecord| {
            self.shows.iter().for_each(|alter| alter(task));
            if task.status == TaskStatus::Queued && self.waiting_for.is_some() {
                task.waiting_for.clone_from(&self.waiting_for);
            }
        };
        match response {
            Response::Got(got) => alter(&mut got.task),
            Response::Waited(waited) => waited.task.iter_mut().chain(waited.tasks.iter_mut().flatten()).for_each(alter),
            Response::ToolCalled(called) => alter(&mut called.task),
            Response::Submitted(submitted) => submitted.waiting_for.clone_from(&self.waiting_for),
            _ => {}
        }
    }
}

/// Returns the request itself, or the one that is passed on.
fn innermost(request: &Request) -> &Request {
    match request {
        Request::At(At { request, .. }) => innermost(request),
        request => request,
    }
}

/// Makes a worker that takes these types, on this machine.
pub(crate) fn worker(peer_id: PeerId, takes: Vec<ToolOffer>) -> WorkerInfo {
    WorkerInfo {
        machine: "gpu-box".to_owned(),
        peer_id,
        worker_id: "w".to_owned(),
        connected: true,
        last_seen: None,
        takes,
        labels: vec!["gpu".to_owned()],
        session: None,
        slots: Some(2),
        busy: Some(1),
        since: BEGAN_S,
    }
}

/// A call that may wait. It notifies when it is dropped.
struct Held<'a>(&'a TestQueue);

impl<'a> Held<'a> {
    fn new(queue: &'a TestQueue) -> Self {
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

/// A queue without a mesh. It answers for every peer that is named.
#[derive(Debug)]
struct Alone {
    local: LocalQueue,
    peer: PeerId,
}

#[async_trait]
impl TaskQueue for Alone {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        request.check()?;
        Ok(match request {
            Request::At(At { request, .. }) => self.call(caller, *request).await?,
            Request::Peers(_) => Response::PeersListed(PeersListed { self_peer_id: self.peer, peers: Vec::new() }),
            Request::Discover(_) => Response::Discovered(Discovered { peers: Vec::new(), attempts: Vec::new() }),
            Request::CallTool(CallTool { tool_name, args, .. }) => {
                let submit = Submit::new(tool_name, args);
                let task_id = self.local.submit(caller, submit).await?.task_id;
                let task = self.local.get(caller, Get { task_id }).await?.task;
                Response::ToolCalled(ToolCalled { result: Json::null(), task })
            }
            Request::ListTools(_) => Response::ToolsListed(ToolsListed { tools: Vec::new() }),
            request if request.facts().answered_by == AnsweredBy::Node => self.example(&request)?,
            request => self.local.call(caller, request).await?,
        })
    }
}

impl Alone {
    /// Answers about the mesh as the examples of the operations do.
    fn example(&self, request: &Request) -> Result<Response, QueueError> {
        let cast = Cast { dialler: self.peer, listener: self.peer, ticket: "a ticket".to_owned() };
        let example = exchanges(&cast).into_iter().find(|(known, _)| known.name() == request.name());
        let is_of_members =
            request.name().starts_with("members") || ["invite", "join", "leave"].contains(&request.name());
        example
            .filter(|_| is_of_members)
            .map(|(_, response)| response)
            .ok_or_else(|| QueueError::new(ErrorCode::Unsupported, request.name()))
    }
}

/// Makes clocks that stand at this time, in Unix seconds.
pub(crate) fn clock(at_s: f64) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Wall::from_secs(at_s)))
}

/// The time at which the queues of the tests begin, in Unix seconds.
pub(crate) const BEGAN_S: f64 = 1.5;
