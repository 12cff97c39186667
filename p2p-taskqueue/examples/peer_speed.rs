//! How fast is a peer? Prints how long a status and a get of a peer take on a standing connection, and how many of them pass
//! with 64 in flight. Each node has a thread of its own.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement: it stops at the first failure"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use p2p_taskqueue::{
    Caller, Identity, Json, MeshSecret, Node, NodeConfig, NodeHandle, Request, TaskQueueExt,
    api::{At, Get, StatusQuery, Submit, Target},
    carrier::LocalQueue,
    node::NoFiles,
    store::{SqliteStore, StoreOptions},
};
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};

const ROUNDS: usize = 20_000;
const IN_FLIGHT: usize = 64;
const ME: Caller = Caller::Local;

struct Machine {
    thread: ExecutorThread,
    node: NodeHandle,
    _folder: tempfile::TempDir,
}

async fn start() -> Machine {
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (identity, runtime) = (Identity::generate().unwrap(), thread.runtime());
    let options = StoreOptions::new(identity.peer_id());
    let store = Arc::new(SqliteStore::open(&folder.path().join("queue.sqlite3"), options).unwrap());
    let local = Arc::new(LocalQueue::new(Arc::<SqliteStore>::clone(&store), identity.peer_id(), Arc::clone(&runtime)));
    let config = NodeConfig::new(identity, MeshSecret::from_bytes([7; 32]))
        .with_listen(["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    let starting = async move { Node::start(config, local, store, Arc::new(NoFiles), runtime).await.unwrap() };
    let node = thread.bridge().run_in_p2p(starting).await.unwrap();
    Machine { thread, node, _folder: folder }
}

/// The times of this many requests, one after the other, asked on the node's own thread.
async fn one_by_one(machine: &Machine, request: Request) -> Vec<Duration> {
    let queue = machine.node.queue();
    let asking = async move {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            queue.call(&ME, request.clone()).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort_unstable();
        times
    };
    machine.thread.bridge().run_in_p2p(asking).await.unwrap()
}

async fn at_once(machine: &Machine, request: Request) -> f64 {
    let queue = machine.node.queue();
    let asking = async move {
        let start = Instant::now();
        join_all((0..IN_FLIGHT).map(|_| async {
            for _ in 0..ROUNDS / IN_FLIGHT {
                queue.call(&ME, request.clone()).await.unwrap();
            }
        }))
        .await;
        (ROUNDS / IN_FLIGHT * IN_FLIGHT) as f64 / start.elapsed().as_secs_f64()
    };
    machine.thread.bridge().run_in_p2p(asking).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (a, b) = (start().await, start().await);
    let target = Target { remote_multiaddr: b.node.addresses().first().cloned(), remote_peer_id: None };
    let submit = Submit::new("echo", Json::from_text(&"x".repeat(254)));
    let task_id = b.node.queue().submit(&ME, submit).await.unwrap().task_id;
    let requests = [("status", Request::StatusQuery(StatusQuery::default())), ("get", Request::Get(Get { task_id }))];
    for (name, request) in requests {
        let request = At::request(target.clone(), request);
        let times = one_by_one(&a, request.clone()).await;
        let (p50, p99) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
        println!("{name} of a peer: p50 {p50:?}, p99 {p99:?}");
        println!("{name} of a peer, {IN_FLIGHT} in flight: {:.0}/s", at_once(&a, request).await);
    }
}
