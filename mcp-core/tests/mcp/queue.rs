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
    api::{AnsweredBy, At, Check, Discovered, Get, List, PeersListed, Submit, TaskRecord, ToolsListed},
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
        Self::before(Arc::new(Alone { local, peer: owner }), owner)
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
        let mut response = self.queue.call(caller, request).await?;
        if let Some(alter) = self.shows {
            match &mut response {
                Response::Got(got) => alter(&mut got.task),
                Response::Waited(waited) => waited.task.iter_mut().for_each(alter),
                _ => {}
            }
        }
        Ok(response)
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
