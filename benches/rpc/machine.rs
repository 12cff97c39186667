use std::sync::Arc;

use p2p_taskqueue::{
    Identity, Mesh, Multiaddr, RootKey, TaskQueueExt as _,
    api::{RouteBook, StatusQuery, Target},
    mesh::{NoFiles, Node, NodeConfig, NodeHandle},
    store::{LocalQueue, SqliteStore, StoreOptions, TaskStore},
};
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
use tempfile::TempDir;

use super::{Error, ME, Queue};

/// The transport between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Quic,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Quic];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }

    pub(crate) fn listen_address(self) -> Result<Multiaddr, Error> {
        let text = match self {
            Self::Tcp => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        Ok(text.parse()?)
    }
}

/// Runs a future on a thread and waits for its value.
pub(crate) fn run<F>(thread: &ExecutorThread, future: F) -> Result<F::Output, Error>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    Ok(thread.bridge().run_in_p2p_blocking(future)?)
}

/// A node on a thread of its own, over a store in a file of its own.
pub(crate) struct Machine {
    pub(crate) thread: ExecutorThread,
    pub(crate) node: NodeHandle,
    _folder: TempDir,
}

impl Machine {
    fn start(backend: Backend, transport: Transport) -> Result<Self, Error> {
        let thread = ExecutorThread::start(backend, ThreadConfig::default())?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (identity, runtime) = (Identity::generate()?, thread.runtime());
        let options = StoreOptions::new(identity.peer_id());
        let store = Arc::new(SqliteStore::open(&folder.path().join("queue.sqlite3"), options)?);
        let tasks: Arc<dyn TaskStore> = Arc::<SqliteStore>::clone(&store);
        let routes: Arc<dyn RouteBook> = store;
        let local = Arc::new(LocalQueue::new(tasks, identity.peer_id(), Arc::clone(&runtime)));
        let mesh = Mesh::with_root_key(RootKey::from_secret_bytes([7; 32]), &identity, "machine")?;
        let config =
            NodeConfig::new(identity, mesh).with_listen([transport.listen_address()?]).with_p2p_runtime(backend.name());
        let node = run(&thread, Node::start(config, local, routes, Arc::new(NoFiles), runtime))??;
        Ok(Self { thread, node, _folder: folder })
    }
}

/// Two nodes of a mesh with a connection between them.
pub(crate) struct Pair {
    pub(crate) here: Machine,
    pub(crate) there: Machine,
    /// The queue of `there`, asked from `here`.
    pub(crate) remote: Queue,
    pub(crate) target: Target,
}

impl Pair {
    pub(crate) fn start(backend: Backend, transport: Transport) -> Result<Self, Error> {
        let (here, there) = (Machine::start(backend, transport)?, Machine::start(backend, transport)?);
        let address = there.node.addresses().first().cloned().ok_or("a node without an address")?;
        let target = Target { remote_multiaddr: Some(address), remote_peer_id: None };
        let (node, to) = (here.node.clone(), target.clone());
        let remote = run(&here.thread, async move { node.connect(&to).await })??;
        let remote: Queue = Arc::new(remote);
        let asked = Arc::clone(&remote);
        let status = run(&here.thread, async move { asked.status(&ME, StatusQuery::default()).await })??;
        if status.peer_id != there.node.peer_id() {
            return Err("another peer answered".into());
        }
        Ok(Self { here, there, remote, target })
    }

    /// Returns the queue of `there`, asked in its own process on its own thread.
    pub(crate) fn in_process(&self) -> Queue {
        self.there.node.queue()
    }
}
