use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use taskqueue_api::{
    At, CallTool, Caller, Capabilities, Check, ErrorCode, GetMany, Heard, Heartbeat, OpenTo, PeerId, PeersListed,
    QueueError, Request, Response, Route, RouteBook, Status, StatusQuery, Submit, Target, TaskId, TaskQueue,
    TaskQueueExt as _, ToolCalled, ToolsListed, Wait, check_size,
};

use super::{Joiner, RemoteQueue, submitted, waits, workers::Reasons};
use crate::{
    discovery,
    heartbeat::Heartbeats,
    node::{Directory, Moment, Patience, limits::CONNECT_TIMEOUT},
};

/// The queue of the whole mesh, as one node sees it.
///
/// It answers for the node's own tasks. It passes a request on to a peer when the request names one, or when this node
/// remembers that the peer keeps the task. Clients of the machine may ask for both; peers only for this node's own tasks.
#[derive(Debug)]
pub(crate) struct MeshQueue {
    pub(super) directory: Arc<Directory>,
    local: Arc<dyn TaskQueue>,
    routes: Arc<dyn RouteBook>,
    heartbeats: Mutex<Heartbeats>,
    pub(super) reasons: Reasons,
}

impl MeshQueue {
    pub(crate) fn new(directory: Arc<Directory>, local: Arc<dyn TaskQueue>, routes: Arc<dyn RouteBook>) -> Self {
        let heartbeats = Heartbeats::new(directory.peer_id.to_string(), directory.runtime.now());
        Self { directory, local, routes, heartbeats: Mutex::new(heartbeats), reasons: Reasons::default() }
    }

    /// Asks another peer, or this node when that is the one named.
    async fn at(&self, caller: &Caller, at: At) -> Result<Response, QueueError> {
        let At { target, request } = at;
        if target.peer_id().is_none_or(|peer| peer == self.directory.peer_id) {
            return Box::pin(self.here(caller, *request)).await;
        }
        let remote = self.remote(&target)?;
        let (mut request, owner) = (*request, remote.peer_id());
        let drawn = submitted::draw_ids(&mut request);
        let asked_for = submitted::count(&request);
        if !drawn.is_empty() {
            // Nothing is noted while the peer cannot be reached.
            remote.connect(Patience::OneAttempt, CONNECT_TIMEOUT).await?;
        }
        // The request and the notes each wait for a disk, so they run at the same time.
        let notes = self.remember_all(drawn.clone(), owner);
        let (response, noted) = futures::future::join(remote.call_checked(request), notes).await;
        let response = response?;
        noted?;
        // Tasks of an earlier submit that this one repeats, and tasks of a completion.
        let others = submitted::ids(&response, asked_for).into_iter().filter(|task| !drawn.contains(task)).collect();
        self.remember_all(others, owner).await?;
        Ok(response)
    }

    /// Notes who keeps the tasks, several at a time, so that a store syncs for many of them at once.
    async fn remember_all(&self, tasks: Vec<TaskId>, owner: PeerId) -> Result<(), QueueError> {
        let notes = tasks.into_iter().map(|task| self.remember(task, owner));
        stream::iter(notes).buffer_unordered(NOTES_AT_ONCE).try_collect().await
    }

    /// Notes who keeps the task, before the submit is acknowledged. That is the peer that was asked, even if its answer names
    /// another one.
    async fn remember(&self, task_id: TaskId, peer_id: PeerId) -> Result<(), QueueError> {
        self.routes.remember(task_id, peer_id).await.map_err(|error| {
            let message =
                format!("task {task_id} is queued at {peer_id}, but this node could not note that: {}", error.message);
            error.with_message(message).with_unknown_outcome()
        })
    }

    fn joiner(&self) -> Joiner {
        Joiner { directory: Arc::clone(&self.directory) }
    }

    fn remote(&self, target: &Target) -> Result<RemoteQueue, QueueError> {
        RemoteQueue::new(Arc::clone(&self.directory), target)
    }

    /// Answers as this node, and says why tasks wait.
    async fn here(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.note_claim(caller, &request);
        let unclaimed = self.unclaimed(&request);
        let mut response = self.answer(caller, request).await?;
        self.explain(&mut response, unclaimed);
        Ok(response)
    }

    /// Answers as this node. Futures of rare operations are boxed, because every request would be as large as the largest.
    async fn answer(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        match request {
            // A call is passed on once.
            Request::At(_) => Err(QueueError::invalid("target", "a call is passed on once")),
            Request::StatusQuery(query) if query.detail => {
                Ok(Response::Status(Box::pin(self.detailed_status(caller, query)).await?))
            }
            Request::StatusQuery(_) => Ok(Response::Status(self.status())),
            Request::Peers(query) => {
                let peers = self.directory.peers(query.connected_only).await?;
                Ok(Response::PeersListed(PeersListed { self_peer_id: self.directory.peer_id, peers }))
            }
            Request::Discover(query) => {
                Ok(Response::Discovered(Box::pin(discovery::discover(&self.directory, query)).await?))
            }
            Request::ListTools(_) => {
                Ok(Response::ToolsListed(ToolsListed { tools: self.directory.workers.own_tools() }))
            }
            Request::Workers(query) => {
                let answer = Response::WorkersListed(Box::pin(self.list_workers(query)).await?);
                check_size(&answer)?;
                Ok(answer)
            }
            Request::TellWorkers(told) => Ok(Response::WorkersTold(self.tell_workers(caller, told)?)),
            Request::CallTool(call) => Ok(Response::ToolCalled(Box::pin(self.call_tool(caller, call)).await?)),
            Request::Invite(invite) => Ok(Response::Invitation(self.invite(invite)?)),
            Request::Join(join) => Ok(Response::Joined(Box::pin(self.joiner().join(join)).await?)),
            Request::Leave(leave) => Ok(Response::Left(Box::pin(self.joiner().leave(leave)).await?)),
            Request::Members(_) => Ok(Response::MembersListed(Box::pin(self.list_members()).await?)),
            Request::ChangeMember(change) => Ok(Response::MemberChanged(Box::pin(self.change_member(change)).await?)),
            Request::RemoveMember(remove) => Ok(Response::MemberRemoved(Box::pin(self.remove_member(remove)).await?)),
            Request::TellMembers(told) => Ok(Response::MembersTold(self.tell_members(told)?)),
            Request::TakeMeOut(ask) => Ok(Response::TakenOut(self.take_me_out(caller, ask)?)),
            Request::Heartbeat(heartbeat) => Ok(Response::Heard(self.hear(&heartbeat)?)),
            Request::Wait(wait) => Box::pin(self.wait(caller, wait)).await,
            Request::GetMany(get) => Box::pin(self.get_many(caller, get)).await,
            request => match request.route() {
                Route::Task(task) => self.own_or_routed(caller, task, request).await,
                Route::Here => {
                    let answer = self.local.call(caller, request).await?;
                    check_size(&answer)?;
                    Ok(answer)
                }
                Route::Tasks(_) => Err(unmerged(&request)),
            },
        }
    }

    /// Asks the local queue. If the task is not there, asks the peer that this node remembers as its owner.
    async fn own_or_routed(&self, caller: &Caller, task: TaskId, request: Request) -> Result<Response, QueueError> {
        match self.local.call(caller, request.clone()).await {
            Err(absent) if absent.code == ErrorCode::NotFound && caller.is_local() => match self.owner(task).await? {
                Some(owner) => Box::pin(owner.call_owner(request)).await,
                None => Err(absent),
            },
            answer => answer,
        }
    }

    /// The peer that keeps a task which was submitted through this node.
    async fn owner(&self, task: TaskId) -> Result<Option<RemoteQueue>, QueueError> {
        let owner = self.routes.owner_of(task).await?.filter(|owner| *owner != self.directory.peer_id);
        owner.map(|owner| self.remote(&Target::peer(owner))).transpose()
    }

    async fn wait(&self, caller: &Caller, wait: Wait) -> Result<Response, QueueError> {
        let answer = match (wait.task_id, caller) {
            (Some(task), _) => self.own_or_routed(caller, task, Request::Wait(wait)).await,
            (None, Caller::Peer(_)) => self.local.call(caller, Request::Wait(wait)).await,
            (None, Caller::Local) => self.wait_for_many(wait).await,
        }?;
        check_size(&answer)?;
        Ok(answer)
    }

    /// Waits for tasks that may have several owners.
    async fn wait_for_many(&self, wait: Wait) -> Result<Response, QueueError> {
        let absent = match self.local.call(&Caller::Local, Request::Wait(wait.clone())).await {
            Err(absent) if absent.code == ErrorCode::NotFound => absent,
            answer => return answer,
        };
        let groups = self.by_owner(&wait.task_ids).await?;
        if groups.are_all_local() {
            return Err(absent);
        }
        let timeout_s = wait.timeout_s;
        let part = |task_ids| Request::Wait(Wait { task_id: None, task_ids, timeout_s });
        waits::merge_waited(&wait.task_ids, self.ask_owners(groups, part).await?).map(Response::Waited)
    }

    /// Reads records of tasks that may have several owners.
    async fn get_many(&self, caller: &Caller, get: GetMany) -> Result<Response, QueueError> {
        let task_ids = get.task_ids.clone();
        let mut answer = self.local.call(caller, Request::GetMany(get)).await?;
        if let (Caller::Local, Response::GotMany(got)) = (caller, &answer)
            && !got.missing.is_empty()
        {
            let elsewhere = self.by_owner(&got.missing).await?.without_local();
            let mut answers = self.ask_owners(elsewhere, |task_ids| Request::GetMany(GetMany { task_ids })).await?;
            answers.push(answer);
            answer = Response::GotMany(waits::merge_got(&task_ids, answers)?);
        }
        check_size(&answer)?;
        Ok(answer)
    }

    /// Who keeps these tasks, as far as this node knows.
    async fn by_owner(&self, tasks: &[TaskId]) -> Result<waits::Groups, QueueError> {
        let mut groups = waits::Groups::default();
        for task in tasks {
            groups.add(*task, self.routes.owner_of(*task).await?.filter(|owner| *owner != self.directory.peer_id));
        }
        Ok(groups)
    }

    /// Asks each owner for its part, all at once.
    async fn ask_owners(
        &self,
        groups: waits::Groups,
        part: impl Fn(Vec<TaskId>) -> Request,
    ) -> Result<Vec<Response>, QueueError> {
        let asked = groups.split().map(|(owner, tasks)| (owner, part(tasks))).map(|(owner, request)| async move {
            match owner {
                None => self.local.call(&Caller::Local, request).await,
                Some(owner) => self.remote(&Target::peer(owner))?.call_owner(request).await,
            }
        });
        futures::future::try_join_all(asked).await
    }

    fn hear(&self, heartbeat: &Heartbeat) -> Result<Heard, QueueError> {
        let now = Moment::now(&*self.directory.runtime);
        // Nothing that can panic runs under the lock.
        self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).hear(heartbeat, now)
    }

    async fn detailed_status(&self, caller: &Caller, query: StatusQuery) -> Result<Status, QueueError> {
        let (queue, store) = match self.local.call(caller, Request::StatusQuery(query)).await {
            Ok(Response::Status(status)) => (status.queue, status.store),
            Err(error) if error.code != ErrorCode::Unsupported => return Err(error),
            _ => (None, None),
        };
        let transport = Some(self.directory.transport_status().await?);
        let peers = Some(self.directory.peers(false).await?);
        Ok(Status { queue, store, peers, transport, ..self.status() })
    }

    fn status(&self) -> Status {
        let directory = &self.directory;
        let task_types = directory.workers.own_tools().into_iter().map(|tool| tool.name).collect();
        let operations = Request::NAMES.iter().map(|name| (*name).into()).collect();
        Status {
            peer_id: directory.peer_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: directory.mode.clone(),
            p2p_runtime: directory.p2p_runtime.clone(),
            uptime_s: directory.runtime.now().saturating_duration_since(directory.started).as_secs_f64(),
            capabilities: Capabilities { task_types, operations },
            addresses: directory.addresses.borrow().clone(),
            queue: None,
            store: None,
            peers: None,
            transport: None,
            bridge: None,
        }
    }

    /// Submits a durable task for one of this node's own workers, and waits for it.
    async fn call_tool(&self, caller: &Caller, call: CallTool) -> Result<ToolCalled, QueueError> {
        let CallTool { submitter, tool_name, args, timeout_s } = call;
        let names: Vec<_> = self.directory.workers.own_tools().into_iter().map(|tool| tool.name).collect();
        if !names.contains(&tool_name) {
            let offered = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let message = format!("this node offers no tool {tool_name:?}; it offers: {offered}");
            return Err(QueueError::new(ErrorCode::NotFound, message));
        }
        let pin_to = Some(self.directory.peer_id);
        let submit = Submit { submitter, pin_to, ..Submit::new(tool_name, args) };
        let task_id = self.local.submit(caller, submit).await?.task_id;
        let waited = self.local.wait(caller, Wait::one(task_id, timeout_s)).await?;
        let Some(task) = waited.task else {
            return Err(QueueError::new(
                ErrorCode::Internal,
                format!("task {task_id} was waited for without a record"),
            ));
        };
        Ok(ToolCalled { result: task.result.clone().unwrap_or_default(), task })
    }
}

#[async_trait]
impl TaskQueue for MeshQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        request.check()?;
        if request.facts().open_to == OpenTo::ThisMachine && !caller.is_local() {
            let message = format!("{} is only for clients of this machine, not for peers", request.name());
            return Err(QueueError::new(ErrorCode::Forbidden, message));
        }
        match request {
            Request::At(at) => Box::pin(self.at(caller, at)).await,
            request => self.here(caller, request).await,
        }
    }
}

/// The error of an operation on tasks of several owners whose answers nobody puts together.
fn unmerged(request: &Request) -> QueueError {
    let message = format!("{}: the answers of several owners are not put together", request.name());
    QueueError::new(ErrorCode::Internal, message)
}

/// How many notes of owners are written at once: one group commit takes them all, and other work still finds room.
const NOTES_AT_ONCE: usize = 64;
