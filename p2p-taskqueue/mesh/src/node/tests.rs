use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use runtime_bridge::RuntimeExt;
use taskqueue_api::{
    At, Caller, Cancel, Claim, Complete, ErrorCode, Get, Grants, Invite, Join, Json, List, Members, Peers, QueueError,
    Request, Response, Role, StatusQuery, Submit, Target, TaskId, TaskQueueExt, TaskStatus, TellWorkers, ToolOffer,
    TransportStatus, Wait, WorkerOffer,
};

use super::{NoFiles, Node, NodeConfig, NodeError, NodeFiles, NodeHandle, RememberedPeer};
use crate::{
    Identity, Mesh, Ticket,
    testing::{TestQueue, mesh, runtime, soon, until},
};

pub(super) const LOCAL: &Caller = &Caller::Local;

/// The parts of a node that stay when it is started again.
pub(super) struct Machine {
    identity: Identity,
    mesh: Mesh,
    queue: Arc<TestQueue>,
    files: Arc<dyn NodeFiles>,
}

impl Machine {
    pub(super) fn new(number: u8) -> Self {
        let identity = Identity::generate().unwrap();
        let queue = TestQueue::new(identity.peer_id());
        let mesh = mesh(number, &identity);
        Self { identity, mesh, queue, files: Arc::new(NoFiles) }
    }

    pub(super) async fn start(&self) -> NodeHandle {
        self.start_at("/ip4/127.0.0.1/tcp/0".parse().unwrap()).await.unwrap()
    }

    pub(super) async fn start_at(&self, address: Multiaddr) -> Result<NodeHandle, NodeError> {
        let config = NodeConfig::new(self.identity.clone(), self.mesh.clone()).with_listen([address]);
        let (queue, routes) = (Arc::clone(&self.queue), Arc::clone(&self.queue.store));
        soon(Node::start(config, queue, routes, Arc::clone(&self.files), runtime())).await
    }
}

/// Returns the caller that a machine of the tests is for another one.
pub(super) fn admin(peer: PeerId) -> Caller {
    Caller::peer(peer, Grants::of(Role::Admin))
}

/// Returns what a worker with one slot tells of itself. Its instance is its name.
pub(super) fn offer(worker_id: &str, takes: Vec<ToolOffer>) -> WorkerOffer {
    WorkerOffer {
        instance: worker_id.to_owned(),
        worker_id: worker_id.to_owned(),
        takes,
        labels: Vec::new(),
        session: None,
        slots: 1,
        busy: 0,
        since: 1.0,
    }
}

/// Returns the message of such a worker.
pub(super) fn worker(worker_id: &str, takes: Vec<ToolOffer>) -> TellWorkers {
    TellWorkers { workers: vec![offer(worker_id, takes)], ..TellWorkers::default() }
}

pub(super) fn address_of(node: &NodeHandle) -> Target {
    Target { remote_multiaddr: node.addresses().first().cloned(), remote_peer_id: None }
}

pub(super) async fn at<O>(node: &NodeHandle, target: &Target, operation: O) -> Result<O::Answer, QueueError>
where
    O: taskqueue_api::Operation,
{
    let request = At::request(target.clone(), operation.into_request());
    let response = soon(node.queue().call(LOCAL, request)).await?;
    Ok(O::answer(response).unwrap())
}

pub(super) fn code<T: std::fmt::Debug>(result: Result<T, QueueError>) -> ErrorCode {
    result.unwrap_err().code
}

/// Returns the node's own account of its connections.
pub(super) async fn transport(node: &NodeHandle) -> TransportStatus {
    let query = StatusQuery { detail: true, ..StatusQuery::default() };
    soon(node.queue().status(LOCAL, query)).await.unwrap().transport.unwrap()
}

/// Waits until the node's own account of its connections satisfies `is_so`.
pub(super) async fn until_transport(node: &NodeHandle, is_so: impl Fn(&TransportStatus) -> bool) {
    until(async || is_so(&transport(node).await)).await;
}

/// Waits until `node` can or cannot ask `peer`.
pub(super) async fn until_serving(node: &NodeHandle, peer: PeerId, serves: bool) {
    let mut serving = node.serving_peers();
    soon(serving.wait_for(|peers| peers.contains(&peer) == serves)).await.unwrap();
}

#[tokio::test]
async fn a_peer_is_asked_by_address_and_then_by_name() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let submitted = at(&node_a, &address_of(&node_b), Submit::new("echo", Json::null())).await.unwrap();
    assert_eq!(submitted.peer_id, b.identity.peer_id());
    assert_eq!(b.queue.calls.borrow().1, Some(admin(a.identity.peer_id())));

    let by_name = Target::peer(b.identity.peer_id());
    let got = at(&node_a, &by_name, Get { task_id: submitted.task_id }).await.unwrap();
    assert_eq!(got.task.owner, b.identity.peer_id());

    // The stream is symmetric: the one that was dialled asks over it.
    let back = Target::peer(a.identity.peer_id());
    assert_eq!(at(&node_b, &back, List::default()).await.unwrap().tasks, []);
    node_a.shutdown().await;
    node_b.shutdown().await;
}

#[tokio::test]
async fn a_peer_of_another_mesh_is_told_from_one_that_is_not_there() {
    let (a, b) = (Machine::new(1), Machine::new(2));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let error = at(&node_a, &address_of(&node_b), Submit::new("echo", Json::null())).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthorized);
    assert!(error.message.contains("another mesh") && error.message.contains("taskmesh invite"), "{error}");
    assert_eq!(b.queue.calls.borrow().0, 0);
    assert!(node_a.serving_peers().borrow().is_empty() && node_b.serving_peers().borrow().is_empty());

    let gone = address_of(&node_b);
    node_b.shutdown().await;
    let error = at(&node_a, &gone, Submit::new("echo", Json::null())).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::Unreachable, taskqueue_api::Outcome::NotApplied));
    assert!(error.message.to_lowercase().contains("refused"), "{error}");

    let unknown = Target::peer(PeerId::random());
    let error = at(&node_a, &unknown, List::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.message.contains("join its mesh"), "{error}");
}

#[tokio::test]
async fn a_ticket_joins_two_machines_at_once() {
    let (a, b) = (Machine::new(1), Machine::new(2));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let invitation = node_a.queue().invite(LOCAL, Invite::default()).await.unwrap();
    assert_eq!(invitation.addresses, node_a.addresses());
    assert_eq!(invitation.ticket.parse::<Ticket>().unwrap().peer_id(), node_a.peer_id());

    let joined =
        soon(node_b.queue().join(LOCAL, Join { ticket: invitation.ticket.clone(), ..Join::default() })).await.unwrap();
    assert_eq!((joined.peer_id, joined.connected, joined.error), (node_a.peer_id(), true, None));
    until_serving(&node_a, node_b.peer_id(), true).await;
    let listed = node_b.queue().peers(LOCAL, Peers { connected_only: true }).await.unwrap();
    assert_eq!(listed.peers.iter().map(|peer| peer.peer_id).collect::<Vec<_>>(), [node_a.peer_id()]);

    let queue = node_a.queue();
    let refused =
        |ticket: String| async { soon(queue.join(LOCAL, Join { ticket, ..Join::default() })).await.unwrap_err() };
    assert!(refused(invitation.ticket.clone()).await.message.contains("own"));
    assert!(refused(invitation.ticket[..60].to_owned()).await.message.contains("damaged"));
    assert!(refused("hello".to_owned()).await.message.contains("not a ticket"));
}

#[tokio::test]
async fn a_join_that_changes_the_mesh_closes_what_stood_in_the_old_one() {
    let (a, b, c) = (Machine::new(1), Machine::new(1), Machine::new(3));
    let (node_a, node_b, node_c) = (a.start().await, b.start().await, c.start().await);
    at(&node_a, &address_of(&node_b), List::default()).await.unwrap();
    until_serving(&node_b, node_a.peer_id(), true).await;
    let ticket = node_c.queue().invite(LOCAL, Invite::default()).await.unwrap().ticket;
    let queue = node_a.queue();
    let join = |leave| queue.join(LOCAL, Join { ticket: ticket.clone(), leave, ..Join::default() });
    let error = soon(join(false)).await.unwrap_err();
    assert!(error.message.contains("other members (1)") && error.message.contains("--leave"), "{error}");
    assert!(soon(join(true)).await.unwrap().connected);
    until_serving(&node_b, node_a.peer_id(), false).await;
    let refused = at(&node_a, &address_of(&node_b), List::default()).await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn a_peer_may_not_relay_invite_or_join() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let session = {
        let remote = soon(node_a.connect(&address_of(&node_b))).await.unwrap();
        soon(remote.connect(super::Patience::OneAttempt, taskqueue_api::testing::DEADLINE)).await.unwrap()
    };
    let elsewhere = Request::Peers(Peers::default());
    for request in [
        At::request(Target::peer(node_a.peer_id()), elsewhere),
        Request::Invite(Invite::default()),
        Request::Join(Join { ticket: "taskmesh2".to_owned(), ..Join::default() }),
    ] {
        let answer = soon(session.call(&request, taskqueue_api::testing::DEADLINE)).await;
        assert_eq!(code(answer), ErrorCode::Forbidden, "{request:?}");
    }
    assert_eq!(b.queue.calls.borrow().0, 0);
}

#[tokio::test]
async fn a_peer_that_restarts_on_another_port_is_found_when_it_dials() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    // The one that is started again knows the other from its last run.
    let (node_a, node_b) = (a.start().await, b.start().await);
    let known = RememberedPeer {
        peer_id: node_a.peer_id(),
        addresses: node_a.addresses(),
        proven: Vec::new(),
        last_seen: None,
    };
    let b = Machine { files: Arc::new(Remembered { peers: vec![known], is_full: false }), ..b };
    at(&node_a, &address_of(&node_b), List::default()).await.unwrap();
    until_serving(&node_a, node_b.peer_id(), true).await;
    node_b.shutdown().await;
    until_serving(&node_a, node_b.peer_id(), false).await;

    let node_b = b.start().await;
    until_serving(&node_a, node_b.peer_id(), true).await;
    at(&node_a, &Target::peer(node_b.peer_id()), List::default()).await.unwrap();
    let listed = node_a.queue().peers(LOCAL, Peers::default()).await.unwrap();
    assert!(node_b.addresses()[0].to_string().starts_with(&listed.peers[0].addresses[0].to_string()));
}

#[tokio::test]
async fn a_peer_that_restarts_on_its_port_is_dialled_again() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    at(&node_a, &address_of(&node_b), List::default()).await.unwrap();
    let address = super::address::without_peer(node_b.addresses().remove(0));
    node_b.shutdown().await;
    until_serving(&node_a, node_b.peer_id(), false).await;
    let _node_b = b.start_at(address).await.unwrap();
    until_serving(&node_a, b.identity.peer_id(), true).await;
}

/// Files that hold these peers.
#[derive(Debug)]
struct Remembered {
    peers: Vec<RememberedPeer>,
    /// Whether what is known of a mesh cannot be saved.
    is_full: bool,
}

impl NodeFiles for Remembered {
    fn load_peers(&self) -> Vec<RememberedPeer> {
        self.peers.clone()
    }

    fn save_peers(&self, _: &[RememberedPeer]) -> std::io::Result<()> {
        Ok(())
    }

    fn save_mesh(&self, _: &Mesh) -> std::io::Result<()> {
        if self.is_full { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_mesh_that_cannot_be_kept_is_not_joined() {
    let (a, b) = (
        Machine::new(1),
        Machine { files: Arc::new(Remembered { peers: Vec::new(), is_full: true }), ..Machine::new(2) },
    );
    let (node_a, node_b) = (a.start().await, b.start().await);
    let ticket = node_a.queue().invite(LOCAL, Invite::default()).await.unwrap().ticket;
    assert_eq!(
        code(soon(node_b.queue().join(LOCAL, Join { ticket, ..Join::default() })).await),
        ErrorCode::StorageError
    );
    let listed = node_b.queue().members(LOCAL, Members {}).await.unwrap();
    assert_eq!(listed.members.iter().map(|member| member.peer_id).collect::<Vec<_>>(), [node_b.peer_id()]);
}

#[tokio::test]
async fn a_join_of_a_machine_that_is_off_changes_nothing_and_says_so() {
    let (a, b) = (Machine::new(1), Machine::new(2));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let ticket = node_a.queue().invite(LOCAL, Invite::default()).await.unwrap().ticket;
    node_a.shutdown().await;
    let error = soon(node_b.queue().join(LOCAL, Join { ticket, ..Join::default() })).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
    let listed = node_b.queue().members(LOCAL, Members {}).await.unwrap();
    assert_eq!(listed.members.iter().map(|member| member.peer_id).collect::<Vec<_>>(), [node_b.peer_id()]);
}

#[tokio::test]
async fn a_submitted_task_is_found_at_its_owner_without_a_target() {
    let (a, b, c) = (Machine::new(1), Machine::new(1), Machine::new(1));
    let (node_a, node_b, node_c) = (a.start().await, b.start().await, c.start().await);
    let there = at(&node_a, &address_of(&node_b), Submit::new("echo", Json::null())).await.unwrap().task_id;
    let elsewhere = at(&node_a, &address_of(&node_c), Submit::new("echo", Json::null())).await.unwrap().task_id;
    let here = node_a.queue().submit(LOCAL, Submit::new("echo", Json::null())).await.unwrap().task_id;

    let queue = node_a.queue();
    assert_eq!(soon(queue.get(LOCAL, Get { task_id: there })).await.unwrap().task.owner, node_b.peer_id());
    let ids = vec![elsewhere, here, there];
    let wait = Wait { task_id: None, task_ids: ids.clone(), timeout_s: 0.05 };
    let waited = soon(queue.wait(LOCAL, wait)).await.unwrap();
    let found: Vec<TaskId> = waited.tasks.unwrap().iter().map(|task| task.task_id).collect();
    assert_eq!((found, waited.done), (ids, false));
    soon(queue.cancel(LOCAL, Cancel { task_id: there, reason: String::new() })).await.unwrap();
    assert_eq!(
        soon(queue.wait(LOCAL, Wait::one(there, 5.0))).await.unwrap().task.unwrap().status,
        TaskStatus::Cancelled
    );
    let nowhere = TaskId::from_bytes([1; 16]);
    assert_eq!(code(soon(queue.get(LOCAL, Get { task_id: nowhere })).await), ErrorCode::NotFound);
    // A peer is answered only for this node's own tasks.
    let asked = at(&node_b, &Target::peer(node_a.peer_id()), Get { task_id: elsewhere }).await;
    assert_eq!(code(asked), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_wait_outlives_its_owners_restart() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let address = super::address::without_peer(node_b.addresses().remove(0));
    let task_id = at(&node_a, &address_of(&node_b), Submit::new("echo", Json::null())).await.unwrap().task_id;
    let queue = node_a.queue();
    let waiting = runtime().spawn(async move { queue.wait(LOCAL, Wait::one(task_id, 60.0)).await });
    // The submit and the wait have arrived.
    b.queue.until_calls(2).await;
    node_b.shutdown().await;
    let _node_b = b.start_at(address).await.unwrap();
    let fence = b.queue.claim(LOCAL, Claim::new("w")).await.unwrap().task.unwrap().fence.unwrap();
    b.queue.complete(LOCAL, Complete::new(task_id, fence, None)).await.unwrap();
    let waited = soon(waiting).await.unwrap().unwrap();
    assert!(waited.done);
}

#[tokio::test]
async fn a_wait_for_a_peer_that_cannot_be_dialled_says_so() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let gone = address_of(&node_b);
    node_b.shutdown().await;
    let refused = at(&node_a, &gone, Wait::one(TaskId::from_bytes([1; 16]), 60.0)).await;
    assert_eq!(code(refused), ErrorCode::Unreachable);
}

#[tokio::test]
async fn a_client_with_the_identity_of_a_node_does_not_stand_in_for_it() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let client = Node::start_client(a.identity.clone(), a.mesh.clone(), runtime()).await.unwrap();
    let target = address_of(&node_b);
    let submitted = at(&client, &target, Submit::new("echo", Json::null())).await.unwrap();
    assert_eq!(submitted.peer_id, node_b.peer_id());
    assert_eq!(b.queue.calls.borrow().1, Some(admin(a.identity.peer_id())));
    assert!(node_b.serving_peers().borrow().is_empty(), "nobody can be asked yet");
    let back = at(&node_b, &Target::peer(node_a.peer_id()), List::default()).await;
    assert_eq!(code(back), ErrorCode::NotFound);

    // The node itself connects while its client is still connected.
    let task_id = submitted.task_id;
    at(&node_a, &target, Get { task_id }).await.unwrap();
    until_serving(&node_b, node_a.peer_id(), true).await;
    at(&node_b, &Target::peer(node_a.peer_id()), List::default()).await.unwrap();
    client.shutdown().await;
    at(&node_b, &Target::peer(node_a.peer_id()), List::default()).await.unwrap();
    assert_eq!(a.queue.calls.borrow().0, 2);
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_both_connect() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let (to_a, to_b) = (address_of(&node_a), address_of(&node_b));
    let (there, back) = tokio::join!(node_a.connect(&to_b), node_b.connect(&to_a));
    assert_eq!((there.unwrap().peer_id(), back.unwrap().peer_id()), (node_b.peer_id(), node_a.peer_id()));
    at(&node_a, &to_b, List::default()).await.unwrap();
    at(&node_b, &to_a, List::default()).await.unwrap();
}

#[tokio::test]
async fn a_long_poll_does_not_hold_up_others_and_ends_with_the_node() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let target = address_of(&node_b);
    let claim = Claim { wait_s: 60.0, ..Claim::new("w") };
    let remote = soon(node_a.connect(&target)).await.unwrap();
    let polling = runtime().spawn({
        let remote = remote.clone();
        async move { remote.claim(LOCAL, claim).await }
    });
    b.queue.until_calls(1).await;
    at(&node_a, &target, List::default()).await.unwrap();
    assert!(!polling.is_finished());
    node_b.shutdown().await;
    assert_eq!(code(soon(polling).await.unwrap()), ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn status_says_what_the_node_is_and_with_detail_how_it_stands() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let offer = ToolOffer { name: "wordcount".to_owned(), description: String::new(), input_schema: Json::default() };
    node_b.queue().tell_workers(LOCAL, worker("w", vec![offer])).await.unwrap();
    b.queue.put(1).await;
    let query = StatusQuery { detail: true, ..StatusQuery::default() };
    let status = at(&node_a, &address_of(&node_b), query).await.unwrap();
    assert_eq!((status.peer_id, status.addresses), (node_b.peer_id(), node_b.addresses()));
    assert_eq!((&*status.mode, &*status.p2p_runtime), ("bridge", "tokio"));
    assert_eq!(status.capabilities.task_types, ["wordcount"]);
    assert_eq!(status.queue.unwrap().totals["queued"], 1);
    assert_eq!(status.peers.unwrap().len(), 1);
    let brief = node_a.queue().status(LOCAL, StatusQuery::default()).await.unwrap();
    assert!(brief.queue.is_none() && brief.peers.is_none());
}

#[tokio::test]
async fn what_a_user_can_get_wrong_at_the_start_is_named() {
    let machine = Machine::new(1);
    let node = machine.start().await;
    let taken = super::address::without_peer(node.addresses().remove(0));
    let error = Machine::new(1).start_at(taken.clone()).await.unwrap_err();
    assert!(matches!(&error, NodeError::AddressInUse { address } if *address == taken), "{error}");
    let web: Multiaddr = "/ip4/127.0.0.1/tcp/0/ws".parse().unwrap();
    assert!(matches!(machine.start_at(web).await, Err(NodeError::UnsupportedAddress { .. })));
    let config = NodeConfig::new(machine.identity.clone(), machine.mesh.clone());
    let (queue, routes) = (Arc::clone(&machine.queue), Arc::clone(&machine.queue.store));
    let nowhere = Node::start(config, queue, routes, Arc::new(NoFiles), runtime()).await;
    assert!(matches!(nowhere, Err(NodeError::NoListenAddress)));
}

#[tokio::test]
async fn a_stopped_node_answers_for_itself_and_refuses_the_rest() {
    let (a, b) = (Machine::new(1), Machine::new(1));
    let (node_a, node_b) = (a.start().await, b.start().await);
    let target = address_of(&node_b);
    at(&node_a, &target, List::default()).await.unwrap();
    soon(node_a.shutdown()).await;
    assert_eq!(code(at(&node_a, &target, List::default()).await), ErrorCode::ShuttingDown);
    assert!(matches!(node_a.queue().call(LOCAL, Request::List(List::default())).await, Ok(Response::Listed(_))));
    soon(node_a.shutdown()).await;
}
