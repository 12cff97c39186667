//! Tests of nodes on every runtime and over every transport.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use p2p_taskqueue::{
    Caller, Identity, Json, Mesh, Operation, PeerId, RootKey, TaskQueueExt as _, TaskStatus,
    api::{Claim, Complete, Invite, Join, Peers, StatusQuery, Submit, Target, TargetedQueue, Wait},
    mesh::{NoFiles, Node, NodeConfig, NodeHandle},
    store::{LocalQueue, MemoryStore, StoreOptions},
};
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ME: Caller = Caller::Local;

/// The longest time that a test waits for anything. It is long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A node on its own executor thread.
struct Machine {
    thread: ExecutorThread,
    node: NodeHandle,
}

impl Machine {
    fn start(backend: Backend, listen: &str, number: u8) -> TestResult<Self> {
        let thread = ExecutorThread::start(backend, ThreadConfig::default())?;
        let (identity, runtime) = (Identity::generate()?, thread.runtime());
        let store = Arc::new(MemoryStore::new(StoreOptions::new(identity.peer_id()))?);
        let local =
            Arc::new(LocalQueue::new(Arc::<MemoryStore>::clone(&store), identity.peer_id(), Arc::clone(&runtime)));
        let mesh = Mesh::with_root_key(RootKey::from_secret_bytes([number; 32]), &identity, "machine")?;
        let config =
            NodeConfig::new(identity, mesh).with_listen([listen.parse()?]).with_p2p_runtime(backend.to_string());
        let start = async move { Node::start(config, local, store, Arc::new(NoFiles), runtime).await };
        let node = thread.bridge().run_in_p2p_blocking(start)??;
        Ok(Self { thread, node })
    }

    fn peer_id(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Runs work on the node's own thread, with the node's handle.
    fn run<T, F>(&self, work: impl FnOnce(NodeHandle) -> F + Send + 'static) -> TestResult<T>
    where
        T: Send + 'static,
        F: Future<Output = TestResult<T>> + Send + 'static,
    {
        let node = self.node.clone();
        self.thread.bridge().call(async move { work(node).await }).deadline(DEADLINE).blocking()?
    }

    /// Joins the mesh of another machine with its ticket.
    fn join(&self, other: &Self) -> TestResult {
        let ticket = other.run(async |node| Ok(node.queue().invite(&ME, Invite::default()).await?.ticket))?;
        let joined =
            self.run(async move |node| Ok(node.queue().join(&ME, Join { ticket, ..Join::default() }).await?))?;
        assert_eq!((joined.connected, joined.error), (true, None));
        Ok(())
    }
}

/// Asks a peer.
async fn ask<O>(node: &NodeHandle, peer: PeerId, operation: O) -> TestResult<O::Answer>
where
    O: Operation + Send + 'static,
    O::Answer: Send,
{
    Ok(TargetedQueue::new(node.queue(), Target::peer(peer)).ask(&ME, operation).await?)
}

/// Two machines: one submits to the other, which works on the task. Both make requests over the one connection.
fn two(backend: Backend, listen: &str) -> TestResult {
    let (a, b) = (Machine::start(backend, listen, 1)?, Machine::start(backend, listen, 2)?);
    a.join(&b)?;
    let (here, there) = (a.peer_id(), b.peer_id());
    let status = a.run(async move |node| ask(&node, there, StatusQuery::default()).await)?;
    assert_eq!((status.peer_id, status.p2p_runtime), (there, backend.to_string()));
    let task_id = a.run(async move |node| {
        Ok(ask(&node, there, Submit::new("wordcount", Json::from_text("a b c"))).await?.task_id)
    })?;
    // B has not dialled. It answers A over the connection that A made, and A waits meanwhile.
    let node = a.node.clone();
    let waiting = a.thread.bridge().call(async move { node.queue().wait(&ME, Wait::one(task_id, 60.0)).await });
    let waiting = std::thread::spawn(move || waiting.deadline(DEADLINE).blocking());
    b.run(async move |node| {
        let queue = node.queue();
        let task = queue.claim(&ME, Claim::new("w")).await?.task.ok_or("nothing to claim")?;
        let result = Some(Json::parse("3".to_owned())?);
        queue.complete(&ME, Complete::new(task.task_id, task.fence.ok_or("no fence")?, result)).await?;
        // B can ask A over the same stream.
        assert_eq!(ask(&node, here, StatusQuery::default()).await?.peer_id, here);
        Ok(())
    })?;
    let waited = waiting.join().map_err(|_| "the waiter panicked")???;
    let task = waited.task.ok_or("no record")?;
    assert_eq!(
        (task.status, task.result.map(|result| result.to_string())),
        (TaskStatus::Completed, Some("3".to_owned()))
    );
    stop([a, b])
}

/// Five machines of one mesh, each connected to the next and to the last, which let them in. Each claims tasks of the
/// next one, and each sees only those that it is connected to.
fn five(backend: Backend, listen: &str) -> TestResult {
    let machines = (1..=5).map(|secret| Machine::start(backend, listen, secret)).collect::<TestResult<Vec<_>>>()?;
    let (last, others) = machines.split_last().ok_or("no machine")?;
    for machine in others {
        machine.join(last)?;
    }
    for pair in machines.windows(2) {
        let [left, right] = pair else { continue };
        let address = right.node.addresses().pop().ok_or("no address")?;
        left.run(async move |node| Ok(node.connect(&address.into()).await.map(|_| ())?))?;
    }
    for pair in machines.windows(2) {
        let [left, right] = pair else { continue };
        let there = right.peer_id();
        let tasks: Vec<_> = left.run(async move |node| {
            let submits = (0..20).map(|number| ask(&node, there, Submit::new(format!("t{number}"), Json::null())));
            let submitted = futures::future::try_join_all(submits).await?;
            Ok(submitted.into_iter().map(|submitted| submitted.task_id).collect())
        })?;
        let claimed = left.run(async move |node| {
            let mut claimed = Vec::new();
            while let Some(task) = ask(&node, there, Claim::new("w")).await?.task {
                claimed.push(task.task_id);
                ask(&node, there, Complete::new(task.task_id, task.fence.ok_or("no fence")?, None)).await?;
            }
            Ok(claimed)
        })?;
        let sorted = |mut tasks: Vec<_>| {
            tasks.sort_unstable();
            tasks
        };
        assert_eq!(sorted(tasks), sorted(claimed), "each once");
    }
    let middle = machines.get(2).ok_or("no third machine")?;
    let peers = middle.run(async |node| Ok(node.queue().peers(&ME, Peers { connected_only: true }).await?.peers))?;
    let seen: BTreeSet<_> = peers.iter().map(|peer| peer.peer_id).collect();
    let expected = [1, 3, 4].into_iter().filter_map(|at| machines.get(at)).map(Machine::peer_id);
    assert_eq!(seen, expected.collect(), "its neighbours and the last: {peers:?}");
    stop(machines)
}

fn stop(machines: impl IntoIterator<Item = Machine>) -> TestResult {
    for machine in machines {
        machine.run(async |node| {
            node.shutdown().await;
            Ok(())
        })?;
        futures::executor::block_on(machine.thread.shutdown(DEADLINE))?;
    }
    Ok(())
}

macro_rules! on_every_backend {
    ($($name:ident: $backend:expr, $listen:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn two_machines() -> TestResult {
                two($backend, $listen)
            }

            #[test]
            fn five_machines_in_a_line() -> TestResult {
                five($backend, $listen)
            }
        })*
    };
}

on_every_backend! {
    tokio_tcp: Backend::Tokio, TCP;
    tokio_quic: Backend::Tokio, QUIC;
    smol_tcp: Backend::Smol, TCP;
    smol_quic: Backend::Smol, QUIC;
    async_std_tcp: Backend::AsyncStd, TCP;
    async_std_quic: Backend::AsyncStd, QUIC;
}
