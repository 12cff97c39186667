//! Tests of what a node does not let in: peers excluded by a list, too many peers, and connections that do not speak
//! its protocols.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use libp2p::{Multiaddr, PeerId, Swarm, multiaddr::Protocol, swarm::SwarmEvent};
use runtime_bridge::Runtime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use taskqueue_api::{At, ErrorCode, List, QueueError, Target, TransportStatus, testing::skipped};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    ConnectionLimits, NoFiles, Node, NodeConfig, NodeHandle,
    arrivals::Arrivals,
    tests::{LOCAL, transport, until_transport},
};
use crate::{
    Identity,
    testing::{ManualRuntime, TestQueue, mesh, runtime, soon},
};

/// The first bytes of a peer that offers no encryption.
const PLAINTEXT: &[u8] = b"\x13/multistream/1.0.0\n\x11/plaintext/2.0.0\n";

/// The bytes that a peer sends before it encrypts.
const NOISE: &[u8] = b"\x13/multistream/1.0.0\n\x07/noise\n";

fn config() -> NodeConfig {
    let identity = Identity::generate().unwrap();
    let config = NodeConfig::new(identity.clone(), mesh(1, &identity));
    config.with_listen(["/ip4/127.0.0.1/tcp/0".parse().unwrap()])
}

async fn start(config: NodeConfig) -> NodeHandle {
    start_on(config, runtime()).await
}

async fn start_on(config: NodeConfig, runtime: Arc<dyn Runtime>) -> NodeHandle {
    let queue = TestQueue::new(config.identity.peer_id());
    let routes = Arc::clone(&queue.store);
    let started = Node::start(config, queue, routes, Arc::new(NoFiles), runtime);
    Box::pin(soon(started)).await.unwrap()
}

fn address_of(node: &NodeHandle) -> Multiaddr {
    node.addresses().remove(0)
}

async fn ask(node: &NodeHandle, peer: &NodeHandle) -> Result<(), QueueError> {
    let target = Target { remote_multiaddr: Some(address_of(peer)), remote_peer_id: None };
    let request = At::request(target, taskqueue_api::Request::List(List::default()));
    soon(node.queue().call(LOCAL, request)).await.map(drop)
}

fn refused(status: &TransportStatus, reason: &str) -> u64 {
    status.refused.get(reason).copied().unwrap_or(0)
}

async fn tcp(node: &NodeHandle) -> TcpStream {
    let port = address_of(node).iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    soon(TcpStream::connect(("127.0.0.1", port.unwrap()))).await.unwrap()
}

fn only(peer: PeerId) -> BTreeSet<PeerId> {
    [peer].into()
}

#[tokio::test]
async fn a_denied_peer_is_refused_both_ways() {
    let peer = start(config()).await;
    let node = start(config().with_denied_peers(only(peer.peer_id())).unwrap()).await;
    assert_eq!(ask(&peer, &node).await.unwrap_err().code, ErrorCode::Unreachable);
    assert_eq!(refused(&transport(&node).await, "denied"), 1);
    let error = ask(&node, &peer).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("denied peers"), "{error}");
    assert!(node.serving_peers().borrow().is_empty() && peer.serving_peers().borrow().is_empty());
}

#[tokio::test]
async fn with_a_list_of_allowed_peers_only_those_come_in() {
    let (friend, other) = (start(config()).await, start(config()).await);
    let node = start(config().with_allowed_peers(Some(only(friend.peer_id()))).unwrap()).await;
    ask(&friend, &node).await.unwrap();
    assert_eq!(ask(&other, &node).await.unwrap_err().code, ErrorCode::Unreachable);
    assert_eq!(refused(&transport(&node).await, "not_allowed"), 1);
    let error = ask(&node, &other).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("allowed peers"), "{error}");
}

#[tokio::test]
async fn the_bounds_of_connections_are_settings() {
    let limits = ConnectionLimits { connections: 1, ..ConnectionLimits::default() };
    let (first, second) = (start(config()).await, start(config()).await);
    let node = start(config().with_limits(limits)).await;
    ask(&first, &node).await.unwrap();
    assert_eq!(ask(&second, &node).await.unwrap_err().code, ErrorCode::Unreachable);
    let status = transport(&node).await;
    assert_eq!((status.connections, refused(&status, "connections_max")), (1, 1));
}

#[tokio::test]
async fn a_peer_that_never_proves_itself_is_closed() {
    let clock = ManualRuntime::new();
    let node = start_on(config(), Arc::clone(&clock) as Arc<dyn Runtime>).await;
    let identity = Identity::generate().unwrap();
    let (connections, client) = super::transport::build(&identity, &Arrivals::default()).unwrap();
    // It keeps the connection open until the node closes it.
    let patient = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::MAX);
    let mut stranger = Swarm::new(connections, client, identity.peer_id(), patient);
    stranger.dial(address_of(&node)).unwrap();
    soon(async { while !matches!(stranger.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {} })
        .await;
    until_transport(&node, |status| status.unproven == 1).await;
    clock.advance(Duration::from_secs(10));
    soon(async { while !matches!(stranger.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {} }).await;
    let status = transport(&node).await;
    assert_eq!((status.unproven, refused(&status, "silent")), (0, 1));
}

#[tokio::test]
async fn a_peer_that_offers_no_encryption_is_refused() {
    let node = start(config()).await;
    let mut peer = tcp(&node).await;
    peer.write_all(PLAINTEXT).await.unwrap();
    let mut answer = Vec::new();
    let is_refused = |answer: &[u8]| answer.ends_with(b"\x03na\n");
    while !is_refused(&answer) {
        assert_ne!(soon(peer.read_buf(&mut answer)).await.unwrap(), 0, "{answer:?}");
    }
    assert!(!answer.windows(9).any(|part| part == b"plaintext"), "it is not agreed upon");
    drop(peer);
    until_transport(&node, |status| refused(status, "no_encryption") == 1 && status.pending == 0).await;
    assert_eq!(transport(&node).await.connections, 0);
}

/// Sends `said_at_once`, then `then` again and again, one byte at a time, until the other end closes. Returns how long
/// that took.
async fn dribble(mut peer: TcpStream, said_at_once: &[u8], then: &[u8]) -> Duration {
    let started = Instant::now();
    peer.write_all(said_at_once).await.unwrap();
    let (mut from, mut to) = peer.split();
    let saying = async {
        for byte in then.iter().cycle() {
            if to.write_all(&[*byte]).await.is_err() {
                break;
            }
            // The wait makes the peer slow, which is what the test needs.
            runtime().sleep_until(Instant::now() + Duration::from_millis(200)).await;
        }
        if then.is_empty() {
            std::future::pending::<()>().await;
        }
    };
    let closing = async {
        let mut heard = Vec::new();
        while from.read_buf(&mut heard).await.is_ok_and(|len| len > 0) {}
    };
    tokio::select! { () = saying => {}, () = closing => {} }
    started.elapsed()
}

#[tokio::test]
async fn a_peer_that_does_not_finish_the_encryption_is_closed_in_time() {
    let node = start(config()).await;
    let half_a_message = [NOISE, b"\x27\x10"].concat();
    let slow = [
        dribble(tcp(&node).await, NOISE, &[]),
        dribble(tcp(&node).await, b"", NOISE),
        // The header of a Noise message of ten thousand bytes, and then one byte at a time.
        dribble(tcp(&node).await, &half_a_message, b"x"),
    ];
    for took in soon(join_all(slow)).await {
        assert!(took.as_secs_f64() >= 4.0, "{took:?}");
    }
    until_transport(&node, |status| refused(status, "encryption_deadline") == 3 && status.pending == 0).await;
}

#[tokio::test]
async fn two_thousand_idle_connections_leave_room_for_a_member() {
    const CONNECTIONS: usize = 2_000;
    // Both ends of each connection are in this process, in which other tests run too.
    const FILES: u64 = 3 * CONNECTIONS as u64;
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(FILES).min(FILES);
    if allowed < FILES {
        skipped(&format!("{FILES} open files are needed, {allowed} are allowed"));
        return;
    }
    if limit.current.is_some_and(|current| current < FILES) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), ..limit }).unwrap();
    }
    let (node, member, late) = (start(config()).await, start(config()).await, start(config()).await);
    ask(&member, &node).await.unwrap();
    let mut idle = Vec::new();
    for number in 0..CONNECTIONS {
        idle.push(tcp(&node).await);
        if number % 100 == 0 {
            ask(&member, &node).await.unwrap();
            let status = transport(&node).await;
            assert!(status.pending <= 64 && status.connections == 1, "{status:?}");
        }
    }
    let settled = |status: &TransportStatus| {
        ["pending_max", "made_room", "encryption_deadline"].iter().map(|reason| refused(status, reason)).sum::<u64>()
    };
    until_transport(&node, |status| settled(status) == CONNECTIONS as u64 && status.pending == 0).await;
    ask(&member, &node).await.unwrap();
    ask(&late, &node).await.unwrap();
    is_quiet(&node).await;
}

/// Opens as many silent connections as may be set up at once, and one connection more.
#[tokio::test]
async fn silent_connections_of_this_machine_keep_nobody_out() {
    let (node, member, late) = (start(config()).await, start(config()).await, start(config()).await);
    ask(&member, &node).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..super::limits::PENDING_MAX {
        silent.push(tcp(&node).await);
    }
    until_transport(&node, |status| status.pending >= super::limits::PENDING_MAX as u64).await;
    ask(&late, &node).await.unwrap();
    ask(&member, &node).await.unwrap();
    is_closed(&mut silent[0]).await;
    drop(silent);
    is_quiet(&node).await;
}

/// Waits until the node has closed its end.
async fn is_closed(peer: &mut TcpStream) {
    let mut heard = Vec::new();
    while soon(peer.read_buf(&mut heard)).await.is_ok_and(|len| len > 0) {}
}

/// Waits until no connection is being set up and none is unproven.
async fn is_quiet(node: &NodeHandle) {
    until_transport(node, |status| (status.pending, status.unproven) == (0, 0)).await;
}

#[tokio::test]
async fn the_longest_silent_connection_makes_room_before_one_that_has_spoken() {
    let limits = ConnectionLimits { pending: 4, ..ConnectionLimits::default() };
    let (node, late) = (start(config().with_limits(limits)).await, start(config()).await);
    let mut speaker = tcp(&node).await;
    speaker.write_all(NOISE).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(NOISE) {
        assert_ne!(soon(speaker.read_buf(&mut heard)).await.unwrap(), 0);
    }
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(tcp(&node).await);
    }
    until_transport(&node, |status| status.pending == 4).await;
    ask(&late, &node).await.unwrap();
    is_closed(&mut silent[0]).await;
    assert_eq!(refused(&transport(&node).await, "made_room"), 1);
    let still_open = speaker.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(still_open.kind(), std::io::ErrorKind::WouldBlock);
    drop((speaker, silent));
    is_quiet(&node).await;
}

/// Starts a peer that sets up an encrypted connection and never proves itself. The task ends when the connection is
/// closed.
async fn stranger(node: &NodeHandle) -> tokio::task::JoinHandle<()> {
    let identity = Identity::generate().unwrap();
    let (connections, client) = super::transport::build(&identity, &Arrivals::default()).unwrap();
    let patient = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::MAX);
    let mut stranger = Swarm::new(connections, client, identity.peer_id(), patient);
    stranger.dial(address_of(node)).unwrap();
    soon(async { while !matches!(stranger.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {} })
        .await;
    tokio::runtime::Handle::current().spawn(async move {
        while !matches!(stranger.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
    })
}

#[tokio::test]
async fn strangers_that_never_prove_themselves_keep_nobody_out() {
    let limits = ConnectionLimits { unproven: 4, ..ConnectionLimits::default() };
    let (node, member) = (start(config().with_limits(limits)).await, start(config()).await);
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(stranger(&node).await);
    }
    until_transport(&node, |status| status.unproven == 4).await;
    ask(&member, &node).await.unwrap();
    soon(strangers.remove(0)).await.unwrap();
    assert_eq!(refused(&transport(&node).await, "made_room"), 1);
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
    until_transport(&node, |status| (status.unproven, status.sessions) == (0, 1)).await;
    is_quiet(&node).await;
}
