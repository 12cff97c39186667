//! Tests of nodes that cannot be dialled, and of peers that a relay does not serve.

use std::sync::Arc;

use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Swarm, multiaddr::Protocol, swarm::SwarmEvent};
use taskqueue_api::{
    At, Claim, ErrorCode, Get, Invite, Join, Json, List, Operation, QueueError, Submit, Target, TaskQueueExt,
};

use super::{
    NoFiles, Node, NodeConfig, NodeHandle, ReachConfig,
    tests::{LOCAL, admin, transport, until_transport},
};
use crate::{
    Identity,
    testing::{TestQueue, mesh, runtime, soon},
};

/// The parts of a node that stay when it is started again.
struct Machine {
    config: NodeConfig,
    queue: Arc<TestQueue>,
}

impl Machine {
    fn new(change: impl FnOnce(NodeConfig) -> NodeConfig) -> Self {
        Self::of_mesh(1, change)
    }

    fn of_mesh(number: u8, change: impl FnOnce(NodeConfig) -> NodeConfig) -> Self {
        let identity = Identity::generate().unwrap();
        let queue = TestQueue::new(identity.peer_id());
        Self { config: change(NodeConfig::new(identity.clone(), mesh(number, &identity))), queue }
    }

    async fn start(&self) -> NodeHandle {
        let (queue, routes) = (Arc::clone(&self.queue), Arc::clone(&self.queue.store));
        let started = Node::start(self.config.clone(), queue, routes, Arc::new(NoFiles), runtime());
        Box::pin(soon(started)).await.unwrap()
    }

    /// Starts the node again, on the port of this address.
    async fn start_again(&mut self, address: Multiaddr) -> NodeHandle {
        self.config = self.config.clone().with_listen([super::address::without_peer(address)]);
        self.start().await
    }
}

fn listening(config: NodeConfig) -> NodeConfig {
    config.with_listen(["/ip4/127.0.0.1/tcp/0".parse().unwrap()])
}

fn relaying(config: NodeConfig) -> NodeConfig {
    listening(config).with_reach(ReachConfig::default().with_relay_server(true))
}

/// Returns a change by which a node listens only through the relay.
fn behind(relay: &NodeHandle) -> impl FnOnce(NodeConfig) -> NodeConfig {
    let reach = ReachConfig::default().with_relays([address_of(relay)]).unwrap();
    move |config| config.with_reach(reach)
}

fn address_of(node: &NodeHandle) -> Multiaddr {
    node.addresses().remove(0)
}

fn to(address: Multiaddr) -> Target {
    Target { remote_multiaddr: Some(address), remote_peer_id: None }
}

async fn at<O: Operation>(node: &NodeHandle, target: &Target, operation: O) -> Result<O::Answer, QueueError> {
    let request = At::request(target.clone(), operation.into_request());
    let response = soon(node.queue().call(LOCAL, request)).await?;
    Ok(O::answer(response).unwrap())
}

async fn until_serving(node: &NodeHandle, peer: PeerId, serves: bool) {
    soon(node.serving_peers().wait_for(|peers| peers.contains(&peer) == serves)).await.unwrap();
}

/// Waits until the node is reached through a relay. Returns its address there.
async fn circuit_of(node: &NodeHandle) -> Multiaddr {
    let circuit = |addresses: &Vec<Multiaddr>| addresses.iter().find(|address| is_circuit(address)).cloned();
    let mut addresses = node.watch_addresses();
    let found = soon(addresses.wait_for(|addresses| circuit(addresses).is_some())).await.unwrap();
    circuit(&found).unwrap()
}

fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Asks for a reservation and for nothing else. Returns where the swarm then listens, or why it does not.
async fn reserve_unproven(relay: &Multiaddr) -> Result<Multiaddr, String> {
    let identity = Identity::generate().unwrap();
    let (connections, client) = super::transport::build(&identity, &Default::default()).unwrap();
    let config = libp2p::swarm::Config::with_tokio_executor();
    let mut swarm = Swarm::new(connections, client, identity.peer_id(), config);
    swarm.listen_on(relay.clone().with(Protocol::P2pCircuit)).unwrap();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
            SwarmEvent::ListenerClosed { reason, .. } => return Err(format!("{reason:?}")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_worker_that_listens_nowhere_is_reached_through_a_relay() {
    let relay = Machine::new(relaying).start().await;
    let worker = Machine::new(behind(&relay)).start().await;
    let circuit = circuit_of(&worker).await;
    assert!(worker.addresses().iter().all(is_circuit), "{:?}", worker.addresses());
    let asker = Machine::new(listening).start().await;
    let submitted = at(&asker, &to(circuit.clone()), Submit::new("echo", Json::null())).await.unwrap();
    assert_eq!(submitted.peer_id, worker.peer_id());
    let by_name = Target::peer(worker.peer_id());
    assert_eq!(at(&asker, &by_name, Claim::new("w")).await.unwrap().task.unwrap().task_id, submitted.task_id);
    // A command-line client comes in the same way.
    let identity = Identity::generate().unwrap();
    let client = Node::start_client(identity.clone(), mesh(1, &identity), runtime());
    let client = Box::pin(soon(client)).await.unwrap();
    at(&client, &to(circuit), Get { task_id: submitted.task_id }).await.unwrap();
    // The worker asks back over the same circuit.
    let back = at(&worker, &Target::peer(asker.peer_id()), List::default()).await.unwrap();
    assert_eq!(back.tasks, []);
}

#[tokio::test]
async fn a_ticket_of_a_worker_behind_a_relay_joins() {
    let relay = Machine::new(relaying).start().await;
    let worker = Machine::new(behind(&relay)).start().await;
    circuit_of(&worker).await;
    let ticket = worker.queue().invite(LOCAL, Invite::default()).await.unwrap().ticket;
    let other = Machine::of_mesh(2, listening).start().await;
    let joined = soon(other.queue().join(LOCAL, Join { ticket, ..Join::default() })).await.unwrap();
    assert_eq!((joined.peer_id, joined.connected, joined.error), (worker.peer_id(), true, None));
}

#[tokio::test]
async fn a_worker_that_dials_out_is_asked_over_its_own_connection() {
    let owner = Machine::new(listening).start().await;
    // The owner is no relay. So the worker has no address, and the owner learns none of it.
    let worker_machine = Machine::new(behind(&owner));
    let worker = worker_machine.start().await;
    until_serving(&owner, worker.peer_id(), true).await;
    assert!(worker.addresses().is_empty(), "the owner is no relay");
    let submitted = at(&owner, &Target::peer(worker.peer_id()), Submit::new("echo", Json::null())).await.unwrap();
    assert_eq!(submitted.peer_id, worker.peer_id());
    at(&owner, &Target::peer(worker.peer_id()), Get { task_id: submitted.task_id }).await.unwrap();
    assert_eq!(worker_machine.queue.calls.borrow().1, Some(admin(owner.peer_id())));
}

#[tokio::test]
async fn a_relay_that_restarts_is_asked_for_a_reservation_again() {
    let mut relay_machine = Machine::new(relaying);
    let relay = relay_machine.start().await;
    let worker = Machine::new(behind(&relay)).start().await;
    let circuit = circuit_of(&worker).await;
    let address = address_of(&relay);
    relay.shutdown().await;
    soon(worker.watch_addresses().wait_for(|addresses| !addresses.iter().any(is_circuit))).await.unwrap();
    let _relay = relay_machine.start_again(address).await;
    assert_eq!(circuit_of(&worker).await, circuit);
    let asker = Machine::new(listening).start().await;
    at(&asker, &to(circuit), List::default()).await.unwrap();
}

#[tokio::test]
async fn a_stranger_gets_no_reservation() {
    let relay = Machine::new(relaying).start().await;
    let reach = ReachConfig::default().with_relays([address_of(&relay)]).unwrap();
    let stranger = Machine::of_mesh(2, |config| listening(config).with_reach(reach)).start().await;
    let refused = at(&stranger, &to(address_of(&relay)), List::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthorized);
    let outcome = soon(reserve_unproven(&address_of(&relay))).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(!stranger.addresses().iter().any(is_circuit));
    until_transport(&relay, |status| status.connections == 0).await;
}

#[tokio::test]
async fn a_connection_through_a_relay_becomes_a_direct_one() {
    let relay = Machine::new(relaying).start().await;
    let punching = |config: NodeConfig| {
        let reach = ReachConfig::default().with_hole_punching(true).with_relays([address_of(&relay)]).unwrap();
        listening(config).with_reach(reach)
    };
    let (worker, asker) = (Machine::new(punching).start().await, Machine::new(punching).start().await);
    let (circuit, _) = (circuit_of(&worker).await, circuit_of(&asker).await);
    at(&asker, &to(circuit), List::default()).await.unwrap();
    // One session is with the relay, and two are with the worker.
    until_transport(&asker, |status| status.sessions == 3).await;
    relay.shutdown().await;
    until_transport(&asker, |status| status.sessions == 1).await;
    at(&asker, &Target::peer(worker.peer_id()), List::default()).await.unwrap();
    at(&worker, &Target::peer(asker.peer_id()), List::default()).await.unwrap();
}

#[tokio::test]
async fn an_address_at_which_a_peer_could_dial_back_is_confirmed() {
    let probing = |config| listening(config).with_reach(ReachConfig::default().with_autonat(true));
    let (node, peer) = (Machine::new(probing).start().await, Machine::new(probing).start().await);
    at(&node, &to(address_of(&peer)), List::default()).await.unwrap();
    // The first session is the one that was asked for; the peer makes the second one when it dials back.
    until_transport(&node, |status| status.sessions >= 2).await;
    assert_eq!(node.addresses().len(), 1, "what is confirmed is where it listens: {:?}", node.addresses());
}

#[tokio::test]
async fn a_relay_is_asked_for_one_reservation_however_many_addresses_it_has() {
    let two = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"].map(|address| address.parse().unwrap());
    let relay = Machine::new(|config| relaying(config).with_listen(two)).start().await;
    let reach = ReachConfig::default().with_relays(relay.addresses()).unwrap();
    let worker = Machine::new(|config| config.with_reach(reach)).start().await;
    let mut addresses = worker.watch_addresses();
    let circuits = soon(addresses.wait_for(|addresses| addresses.len() == 2)).await.unwrap().clone();
    let asker = Machine::new(listening).start().await;
    for circuit in circuits {
        assert!(is_circuit(&circuit));
        at(&asker, &to(circuit), List::default()).await.unwrap();
    }
    assert_eq!(transport(&worker).await.sessions, 2, "with the relay, and with the one that asked");
}
