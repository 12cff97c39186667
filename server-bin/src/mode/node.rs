//! The p2p side: store, node, RPC and workers, on an executor thread.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future::join_all;
use p2p_taskqueue::{
    Multiaddr, TaskQueue,
    api::RouteBook,
    mesh::{Node, NodeConfig, NodeError, NodeFiles, NodeHandle},
    store::{LocalQueue, SqliteStore, StoreOptions, TaskStore},
    worker::Worker,
};
use runtime_bridge::{Bridge, ExecutorThread, Runtime, ThreadConfig};
use tokio::time::timeout;

use super::{NodeSettings, Ready};
use crate::{
    data_dir::{LockedDir, NodeFolder},
    failure::Failure,
    rpc::{RpcServer, Token},
};

/// A node with its store, RPC and workers, and the thread that they run on.
#[derive(Debug)]
pub(super) struct NodeSide {
    mode: &'static str,
    p2p_runtime: &'static str,
    p2p: P2pSide,
    token_file: Option<PathBuf>,
    thread: ExecutorThread,
    store: Arc<SqliteStore>,
    /// Held to the end, so that no other process opens the store before.
    _locked: LockedDir,
}

/// The parts that live on the executor thread.
#[derive(Debug)]
struct P2pSide {
    node: NodeHandle,
    rpc: RpcServer,
    workers: Vec<Worker>,
}

impl NodeSide {
    /// Starts everything, or nothing: when a later part fails, the parts before it are ended.
    pub(super) async fn start(settings: NodeSettings, locked: LockedDir, mode: &'static str) -> Result<Self, Failure> {
        let identity = locked.identity_or_new()?;
        let options = StoreOptions::new(identity.peer_id()).with_durability(settings.durability);
        let store = SqliteStore::open(&settings.data_dir.store(), options).map_err(anyhow::Error::from)?;
        let store = Arc::new(store);
        let backend = settings.runtime;
        let thread = ExecutorThread::start(backend, ThreadConfig::default().with_name("taskmesh-p2p"))
            .context("cannot start the executor thread")?;

        let local: Arc<dyn TaskStore> = Arc::<SqliteStore>::clone(&store);
        let local = LocalQueue::new(local, identity.peer_id(), thread.runtime());
        let mesh = locked.mesh_or_new(&identity)?;
        let node = NodeConfig::new(identity, mesh)
            .with_mode(mode)
            .with_p2p_runtime(backend.name())
            .with_discovery(settings.discovery.clone())
            .with_reach(settings.reach.clone())
            .with_allowed_peers(settings.admitted.clone())
            .and_then(|node| node.with_denied_peers(settings.denied.clone()))
            .map_err(|error| Failure::argument("p2p.allow, p2p.deny", error))?;
        let queues = Queues { local: Arc::new(local), routes: Arc::<SqliteStore>::clone(&store) };
        let needs_token = settings.rpc.iter().any(|address| address.is_http());
        let token = if needs_token { Some(locked.rpc_token_or_new()?) } else { None };
        let token_file = token.is_some().then(|| locked.dir().rpc_token());
        // Boxed, because the future is large: it holds everything that the start of a node holds.
        let start = Box::pin(P2pSide::start(settings, node, queues, token, thread.runtime()));
        let p2p = thread.bridge().run_in_p2p(start).await.context("the executor thread failed")??;
        Ok(Self { mode, p2p_runtime: backend.name(), p2p, token_file, thread, store, _locked: locked })
    }

    /// Returns the bridge to the executor thread.
    pub(super) fn bridge(&self) -> Bridge {
        self.thread.bridge()
    }

    /// Returns the node's queue, for use on the executor thread.
    pub(super) fn queue(&self) -> Arc<dyn TaskQueue> {
        self.p2p.node.queue()
    }

    /// Returns the content of the ready line, with the address of the MCP server if there is one.
    pub(super) fn ready(&self, http: Option<&str>) -> Ready {
        Ready {
            event: Ready::EVENT,
            http: http.map(str::to_owned),
            peer_id: self.p2p.node.peer_id(),
            addresses: self.p2p.node.addresses(),
            rpc: self.p2p.rpc.addresses(),
            rpc_token_file: self.token_file.clone(),
            mode: self.mode,
            p2p_runtime: self.p2p_runtime.to_owned(),
        }
    }

    /// Ends everything in order. `front` ends the MCP server, if there is one, while the workers end.
    pub(super) async fn shutdown(self, front: impl Future<Output = ()>) {
        // The lock is dropped last, when no part of this process uses the folder any more.
        let Self { p2p: P2pSide { node, rpc, workers }, thread, store, _locked, .. } = self;
        let bridge = thread.bridge();
        let quiesce = bridge.run_in_p2p(async move {
            let workers = join_all(workers.into_iter().map(Worker::shutdown));
            futures::join!(rpc.shutdown(RPC_DRAIN), workers);
        });
        let (quiet, ()) = futures::join!(timeout(WORKERS_STOP, quiesce), front);
        let parted = timeout(NODE_STOP, bridge.run_in_p2p(async move { node.shutdown().await })).await;
        if quiet.is_err() || parted.is_err() {
            tracing::info!("not everything ended in time and is cut off");
        }
        match thread.shutdown(EXECUTOR_STOP).await {
            Ok(report) => tracing::debug!(cut_off = report.cut_off, "the executor thread has ended"),
            Err(error) => tracing::warn!(%error, "the executor thread did not end in order"),
        }
        store.close();
    }
}

/// The queue of the node's own tasks, and its record of which tasks are at which peers.
struct Queues {
    local: Arc<dyn TaskQueue>,
    routes: Arc<dyn RouteBook>,
}

impl P2pSide {
    async fn start(
        settings: NodeSettings,
        node: NodeConfig,
        Queues { local, routes }: Queues,
        token: Option<Token>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, Failure> {
        let worker_configs = settings.worker_configs(&runtime)?;
        let files = Arc::new(NodeFolder { dir: settings.data_dir, announce: settings.announce });
        let start = |listen: Vec<Multiaddr>| {
            let (local, routes) = (Arc::clone(&local), Arc::clone(&routes));
            let files: Arc<dyn NodeFiles> = Arc::<NodeFolder>::clone(&files);
            Node::start(node.clone().with_listen(listen), local, routes, files, Arc::clone(&runtime))
        };
        let started = match (start(settings.listen.addresses()?).await, settings.listen.free_addresses()?) {
            // Another node of this machine has the usual port. That is no mistake of the user.
            (Err(NodeError::AddressInUse { .. }), Some(free)) => start(free).await,
            (started, _) => started,
        };
        let node = started.context("--p2p-listen")?;
        let rpc = RpcServer::bind(&settings.rpc, token.as_ref(), &node.queue(), &runtime).await?;
        let start_worker = |config| Worker::start(config, node.queue(), node.serving_peers(), &runtime);
        let workers: Vec<_> = worker_configs.into_iter().map(start_worker).collect();
        // Whoever reads that the node is ready finds its tools.
        join_all(workers.iter().map(Worker::is_told)).await;
        Ok(Self { node, rpc, workers })
    }
}

/// The longest time for the workers to end. A shutdown has two seconds in all, and workers need most of them: half a
/// second for a command that does not end when it is told to, and the time for its report. HTTP and the RPC drain
/// meanwhile.
const WORKERS_STOP: Duration = Duration::from_millis(1_000);
const RPC_DRAIN: Duration = Duration::from_millis(500);
const NODE_STOP: Duration = Duration::from_millis(400);
const EXECUTOR_STOP: Duration = Duration::from_millis(200);
