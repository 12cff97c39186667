//! Nodes that find each other by rendezvous and in the hash table, over loopback.

use std::{collections::HashMap, sync::Arc};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, kad,
    rendezvous::{client, server},
    swarm::{Config, NetworkBehaviour, SwarmEvent},
};
use runtime_bridge::RuntimeExt;
use taskqueue_api::{
    At, Caller, Discover, Discovered, ErrorCode, Invite, Join, List, Method, QueueError, StatusQuery, Target,
    TaskQueueExt,
};

use super::{NoFiles, Node, NodeConfig, NodeHandle, address, transport};
use crate::{
    Identity,
    discovery::{DiscoveryConfig, Namespace, kademlia, rendezvous},
    testing::{TestQueue, first_secret, mesh, runtime, soon},
};

const LOCAL: &Caller = &Caller::Local;

fn anywhere() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

async fn start(number: u8, discovery: DiscoveryConfig) -> NodeHandle {
    let identity = Identity::generate().unwrap();
    let queue = TestQueue::new(identity.peer_id());
    let config =
        NodeConfig::new(identity.clone(), mesh(number, &identity)).with_listen([anywhere()]).with_discovery(discovery);
    let (routes, files) = (Arc::clone(&queue.store), Arc::new(NoFiles));
    soon(Node::start(config, queue, routes, files, runtime())).await.unwrap()
}

/// Returns a configuration with this method switched on.
fn by(method: Method) -> DiscoveryConfig {
    DiscoveryConfig::default().with_method(method, true)
}

fn meeting_at(points: &[Multiaddr]) -> DiscoveryConfig {
    by(Method::Rendezvous).with_rendezvous_points(points.iter().cloned()).unwrap()
}

fn table_by(bootstrap: &NodeHandle) -> DiscoveryConfig {
    by(Method::Kademlia).with_bootstrap(bootstrap.addresses()).unwrap()
}

async fn discover(node: &NodeHandle, peer_id: Option<PeerId>, method: Method) -> Discovered {
    let query = Discover { peer_id, methods: vec![method], ..Discover::default() };
    soon(node.queue().discover(LOCAL, query)).await.unwrap()
}

/// Asks again and again until the peer is found. Nothing tells this node when the peer has published its addresses.
async fn until_found(node: &NodeHandle, peer: PeerId, method: Method) -> Discovered {
    let found = async {
        loop {
            let found = discover(node, None, method).await;
            if found.peers.iter().any(|found| found.peer_id == peer) {
                return found;
            }
        }
    };
    soon(found).await
}

async fn list(node: &NodeHandle, peer: PeerId) -> Result<(), QueueError> {
    let request = At::request(Target::peer(peer), taskqueue_api::Request::List(List::default()));
    soon(node.queue().call(LOCAL, request)).await.map(drop)
}

async fn until_serving(node: &NodeHandle, peer: PeerId) {
    soon(node.serving_peers().wait_for(|peers| peers.contains(&peer))).await.unwrap();
}

/// Starts a swarm that is not a node.
async fn plain<B: NetworkBehaviour>(identity: &Identity, behaviour: B, address: Multiaddr) -> Swarm<B> {
    let executor = runtime();
    let config = Config::with_executor(move |job| executor.spawn(job).detach());
    let mut swarm =
        Swarm::new(transport::build(identity, &Default::default()).unwrap().0, behaviour, identity.peer_id(), config);
    swarm.listen_on(address).unwrap();
    while swarm.listeners().next().is_none() {
        let _ = soon(swarm.select_next_some()).await;
    }
    swarm
}

fn address_of<B: NetworkBehaviour>(swarm: &Swarm<B>) -> Multiaddr {
    address::with_peer(swarm.listeners().next().unwrap().clone(), *swarm.local_peer_id())
}

/// Runs a rendezvous server until these peers have registered. Returns how many connections each has made.
async fn until_registered(point: &mut Swarm<server::Behaviour>, peers: &[PeerId]) -> HashMap<PeerId, usize> {
    let (mut waiting, mut connections) = (peers.to_vec(), HashMap::new());
    let registered = async {
        while !waiting.is_empty() {
            match point.select_next_some().await {
                SwarmEvent::Behaviour(server::Event::PeerRegistered { peer, .. }) => {
                    waiting.retain(|waiting| *waiting != peer);
                }
                SwarmEvent::ConnectionEstablished { peer_id, .. } => *connections.entry(peer_id).or_default() += 1,
                _ => {}
            }
        }
    };
    soon(registered).await;
    connections
}

#[tokio::test]
async fn a_peer_is_found_at_a_rendezvous_point() {
    let point = start(1, DiscoveryConfig::default().with_rendezvous_server(true)).await;
    let (a, c) = (start(1, meeting_at(&point.addresses())).await, start(1, meeting_at(&point.addresses())).await);
    let found = until_found(&a, c.peer_id(), Method::Rendezvous).await;
    let attempt = found.attempts.iter().find(|attempt| attempt.peer_id == Some(c.peer_id())).unwrap();
    assert_eq!((attempt.method, attempt.ok, attempt.code), (Method::Rendezvous, true, None), "{attempt:?}");
    assert!(attempt.multiaddr.is_some() && attempt.elapsed_s >= 0.0, "{attempt:?}");
}

#[tokio::test]
async fn a_call_to_a_peer_finds_it_at_a_rendezvous_point() {
    let identity = Identity::generate().unwrap();
    let mut point = plain(&identity, rendezvous::server(), anywhere()).await;
    let points = [address_of(&point)];
    let (a, c) = (start(1, meeting_at(&points)).await, start(1, meeting_at(&points)).await);
    until_registered(&mut point, &[a.peer_id(), c.peer_id()]).await;
    let _running = runtime().spawn(async move { while point.next().await.is_some() {} });
    list(&a, c.peer_id()).await.unwrap();
}

#[tokio::test]
async fn a_peer_is_found_in_the_table() {
    let b = start(1, by(Method::Kademlia)).await;
    let (a, c) = (start(1, table_by(&b)).await, start(1, table_by(&b)).await);
    until_serving(&a, b.peer_id()).await;
    let found = until_found(&a, c.peer_id(), Method::Kademlia).await;
    let attempt = found.attempts.iter().find(|attempt| attempt.peer_id == Some(c.peer_id())).unwrap();
    assert_eq!((attempt.method, attempt.ok, attempt.code), (Method::Kademlia, true, None), "{attempt:?}");

    // The one that comes last asks for a peer that it has never heard of.
    let d = start(1, table_by(&b)).await;
    until_serving(&d, b.peer_id()).await;
    list(&d, c.peer_id()).await.unwrap();
}

/// Runs a rendezvous server until the future is ready. Returns the peers whose connections began or ended meanwhile.
async fn served<T>(point: &mut Swarm<server::Behaviour>, future: impl Future<Output = T>) -> (T, Vec<PeerId>) {
    let (mut future, mut changed) = (std::pin::pin!(future), Vec::new());
    loop {
        tokio::select! {
            event = point.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. }
                | SwarmEvent::ConnectionClosed { peer_id, .. } => changed.push(peer_id),
                _ => {}
            },
            value = &mut future => return (value, changed),
        }
    }
}

#[tokio::test]
async fn a_mesh_sees_nothing_of_another_at_the_same_point() {
    let identity = Identity::generate().unwrap();
    let mut point = plain(&identity, rendezvous::server(), anywhere()).await;
    let points = [address_of(&point)];
    let (a, c) = (start(1, meeting_at(&points)).await, start(2, meeting_at(&points)).await);
    let connections = until_registered(&mut point, &[a.peer_id(), c.peer_id()]).await;
    // A point that is not a node is dialled once, and stays connected.
    assert_eq!(connections, HashMap::from([(a.peer_id(), 1), (c.peer_id(), 1)]));
    let (found, changed) = served(&mut point, discover(&a, None, Method::Rendezvous)).await;
    let [attempt] = &*found.attempts else { panic!("{found:?}") };
    assert_eq!((found.peers.len(), attempt.code), (0, Some(ErrorCode::NotFound)), "{attempt:?}");
    assert_eq!(changed, []);

    let d = start(1, meeting_at(&points)).await;
    let (_, changed) = served(&mut point, until_found(&a, d.peer_id(), Method::Rendezvous)).await;
    assert_eq!(changed, [d.peer_id()]);
    let listed = a.queue().peers(LOCAL, taskqueue_api::Peers::default()).await.unwrap();
    assert!(listed.peers.iter().all(|peer| peer.peer_id != c.peer_id()));
}

#[tokio::test]
async fn a_point_that_comes_back_has_every_node_registered_again() {
    let identity = Identity::generate().unwrap();
    let mut point = plain(&identity, rendezvous::server(), anywhere()).await;
    let address = address_of(&point);
    let a = start(1, meeting_at(std::slice::from_ref(&address))).await;
    until_registered(&mut point, &[a.peer_id()]).await;
    drop(point);
    let mut point = plain(&identity, rendezvous::server(), address::without_peer(address)).await;
    until_registered(&mut point, &[a.peer_id()]).await;
}

#[tokio::test]
async fn a_node_that_joins_another_mesh_is_found_there() {
    let point = start(2, DiscoveryConfig::default().with_rendezvous_server(true)).await;
    let (a, c) = (start(1, meeting_at(&point.addresses())).await, start(2, meeting_at(&point.addresses())).await);
    let ticket = point.queue().invite(LOCAL, Invite::default()).await.unwrap().ticket;
    soon(a.queue().join(LOCAL, Join { ticket, ..Join::default() })).await.unwrap();
    until_found(&c, a.peer_id(), Method::Rendezvous).await;
}

#[tokio::test]
async fn a_node_that_joins_another_mesh_leaves_the_name_of_the_old_one() {
    let identity = Identity::generate().unwrap();
    let mut point = plain(&identity, rendezvous::server(), anywhere()).await;
    let (a, c) = (start(1, meeting_at(&[address_of(&point)])).await, start(2, DiscoveryConfig::default()).await);
    until_registered(&mut point, &[a.peer_id()]).await;
    let ticket = c.queue().invite(LOCAL, Invite::default()).await.unwrap().ticket;
    let queue = a.queue();
    let joining = runtime().spawn(async move { queue.join(LOCAL, Join { ticket, ..Join::default() }).await });
    let [old, new] = [1, 2].map(|number| Namespace::of(&first_secret(number)).at_points().unwrap());
    let (mut has_left, mut is_there) = (false, false);
    let told = async {
        while !has_left || !is_there {
            match point.select_next_some().await {
                SwarmEvent::Behaviour(server::Event::PeerUnregistered { namespace, .. }) => {
                    has_left |= namespace == old;
                }
                SwarmEvent::Behaviour(server::Event::PeerRegistered { registration, .. }) => {
                    is_there |= registration.namespace == new;
                }
                _ => {}
            }
        }
    };
    soon(told).await;
    soon(joining).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_search_right_after_the_start_waits_for_whom_it_can_ask() {
    let point = start(1, by(Method::Kademlia).with_rendezvous_server(true)).await;
    for config in [meeting_at(&point.addresses()), table_by(&point)] {
        let method = if config.is_on(Method::Kademlia) { Method::Kademlia } else { Method::Rendezvous };
        let found = discover(&start(1, config).await, Some(PeerId::random()), method).await;
        let [attempt] = &*found.attempts else { panic!("{found:?}") };
        assert!(attempt.error.as_ref().unwrap().contains("knows of no such peer"), "{attempt:?}");
    }
}

#[tokio::test]
async fn a_way_that_is_off_or_has_nobody_to_ask_says_so() {
    let a = start(1, DiscoveryConfig::default()).await;
    for method in [Method::Rendezvous, Method::Kademlia] {
        let found = discover(&a, None, method).await;
        let [attempt] = &*found.attempts else { panic!("{found:?}") };
        assert_eq!(attempt.code, Some(ErrorCode::Unsupported));
        assert!(attempt.error.as_ref().unwrap().contains("switched off"), "{attempt:?}");
    }
    let gone = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", PeerId::random()).parse().unwrap();
    for (config, method, says) in [
        (by(Method::Rendezvous), Method::Rendezvous, "no rendezvous point is configured"),
        (meeting_at(&[gone]), Method::Rendezvous, "/tcp/1/"),
        (by(Method::Kademlia), Method::Kademlia, "bootstrap"),
    ] {
        let found = discover(&start(1, config).await, None, method).await;
        let [attempt] = &*found.attempts else { panic!("{found:?}") };
        assert_eq!((attempt.method, attempt.code), (method, Some(ErrorCode::NotFound)));
        assert!(attempt.error.as_ref().unwrap().contains(says), "{attempt:?}");
    }
}

#[tokio::test]
async fn a_search_for_a_peer_that_is_nowhere_ends_with_one_attempt_for_each_way() {
    let point = start(1, by(Method::Kademlia).with_rendezvous_server(true)).await;
    let config = meeting_at(&point.addresses()).with_method(Method::Kademlia, true);
    let a = start(1, config).await;
    until_serving(&a, point.peer_id()).await;
    let methods = vec![Method::Rendezvous, Method::Kademlia];
    let query = Discover { peer_id: Some(PeerId::random()), methods: methods.clone(), ..Discover::default() };
    let found = soon(a.queue().discover(LOCAL, query)).await.unwrap();
    let mut tried: Vec<Method> = found.attempts.iter().map(|attempt| attempt.method).collect();
    tried.sort_unstable();
    assert_eq!(tried, methods);
    for attempt in &found.attempts {
        assert_eq!(attempt.code, Some(ErrorCode::NotFound));
        assert!(attempt.started_s + attempt.elapsed_s < 10.0, "{attempt:?}");
    }
}

/// The behaviour of a stranger that asks a node by the protocols of both methods.
#[derive(NetworkBehaviour)]
struct Stranger {
    rendezvous: client::Behaviour,
    kademlia: kademlia::Kademlia,
}

/// Returns whether the node answers a stranger by rendezvous, and whether it does by Kademlia.
async fn answers(node: &NodeHandle) -> (bool, bool) {
    let identity = Identity::generate().unwrap();
    let table = kademlia::kademlia(identity.peer_id());
    let behaviour = Stranger { rendezvous: rendezvous::client(&identity), kademlia: table };
    let mut swarm = plain(&identity, behaviour, anywhere()).await;
    swarm.dial(node.addresses().remove(0)).unwrap();
    let (mut by_point, mut by_table, mut is_closed) = (None, None, false);
    let asked = async {
        // The stranger waits until the node closes the connection, because its own timeouts end at about the same time.
        while by_point.is_none() || by_table.is_none() || !is_closed {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    swarm.behaviour_mut().rendezvous.discover(None, None, None, peer_id);
                    swarm.behaviour_mut().kademlia.add_address(&peer_id, node.addresses().remove(0));
                    swarm.behaviour_mut().kademlia.get_closest_peers(PeerId::random());
                }
                SwarmEvent::Behaviour(StrangerEvent::Rendezvous(event)) => {
                    by_point = Some(matches!(event, client::Event::Discovered { .. }));
                }
                SwarmEvent::Behaviour(StrangerEvent::Kademlia(kad::Event::OutboundQueryProgressed {
                    stats,
                    result: kad::QueryResult::GetClosestPeers(_),
                    ..
                })) => by_table = Some(stats.num_successes() > 0),
                SwarmEvent::ConnectionClosed { .. } => is_closed = true,
                _ => {}
            }
        }
    };
    soon(asked).await;
    (by_point.unwrap(), by_table.unwrap())
}

#[tokio::test]
async fn a_node_serves_only_the_ways_that_are_on_and_no_stranger() {
    // The tests above show that a node answers members where the methods are on.
    let off = start(1, DiscoveryConfig::default()).await;
    let on = start(1, by(Method::Kademlia).with_rendezvous_server(true)).await;
    let (from_off, from_on) = tokio::join!(answers(&off), answers(&on));
    assert_eq!((from_off, from_on), ((false, false), (false, false)));
    let query = StatusQuery { detail: true, ..StatusQuery::default() };
    let status = on.queue().status(LOCAL, query).await.unwrap();
    assert_eq!(status.transport.unwrap().refused["silent"], 1);
}
