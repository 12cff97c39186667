//! `bridge`: HTTP on tokio, the node on its executor thread, every call across by `run_in_p2p`.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future::join_all;
use mcp_core::{McpConfig, McpServer};
use p2p_taskqueue::{
    Multiaddr, PeerId, TaskQueue,
    carrier::{BridgedQueue, LocalQueue, RouteBook},
    node::{Node, NodeConfig, NodeError, NodeFiles, NodeHandle},
    store::{SqliteStore, StoreOptions, TaskStore},
    worker::Worker,
};
use runtime_bridge::{ExecutorThread, Runtime, ThreadConfig};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{ServerConfig, WorkerSpec};
use crate::{
    data_dir::{LockedDir, NodeFolder},
    failure::Failure,
    http::{HttpListener, HttpServer},
    rpc::RpcServer,
};

/// The line that says that everything runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ready {
    event: &'static str,
    pub(crate) http: String,
    pub(crate) peer_id: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    rpc: Vec<String>,
    mode: &'static str,
    p2p_runtime: &'static str,
}

/// A node with its store, workers, socket and MCP server.
#[derive(Debug)]
pub(crate) struct Server {
    ready: Ready,
    http: HttpServer,
    /// The MCP server holds the other end: cancelled, it answers the calls that wait.
    http_stopping: CancellationToken,
    p2p: P2pSide,
    thread: ExecutorThread,
    store: Arc<SqliteStore>,
    /// Held to the end: nobody else may open the store before.
    _locked: LockedDir,
}

/// What lives on the executor thread.
#[derive(Debug)]
struct P2pSide {
    node: NodeHandle,
    rpc: RpcServer,
    workers: Vec<Worker>,
}

impl Server {
    /// Starts everything, or nothing: what was started is ended when a later part fails.
    pub(crate) async fn start(config: ServerConfig) -> Result<Self, Failure> {
        let locked = config.data_dir.lock()?;
        let listener = HttpListener::bind(&config.http).await?;
        let identity = locked.identity_or_new()?;
        let options = StoreOptions::new(identity.peer_id()).with_durability(config.durability);
        let store = SqliteStore::open(&config.data_dir.store(), options).map_err(anyhow::Error::from)?;
        let store = Arc::new(store);
        let backend = config.runtime;
        let thread = ExecutorThread::start(backend, ThreadConfig::default().with_name("taskmesh-p2p"))
            .context("cannot start the executor thread")?;

        let local: Arc<dyn TaskStore> = Arc::<SqliteStore>::clone(&store);
        let local = LocalQueue::new(local, identity.peer_id(), thread.runtime());
        let node = NodeConfig::new(identity, locked.mesh_secret_or_new()?)
            .with_mode(MODE)
            .with_p2p_runtime(backend.name())
            .with_discovery(config.discovery.clone())
            .with_reach(config.reach.clone())
            .with_allowed_peers(config.admitted.clone())
            .and_then(|node| node.with_denied_peers(config.denied.clone()))
            .map_err(|error| Failure::argument("p2p.allow, p2p.deny", error))?;
        let queues = Queues { local: Arc::new(local), routes: Arc::<SqliteStore>::clone(&store) };
        // Boxed: it holds whatever the start of a node holds.
        let start = Box::pin(start_p2p(config, node, queues, thread.runtime()));
        let p2p = thread.bridge().run_in_p2p(start).await.context("the executor thread failed")??;

        let queue: Arc<dyn TaskQueue> = Arc::new(BridgedQueue::new(thread.bridge(), p2p.node.queue()));
        let ready = Ready {
            event: "ready",
            http: listener.url(),
            peer_id: p2p.node.peer_id(),
            addresses: p2p.node.addresses(),
            rpc: vec![format!("unix:{}", locked.dir().socket().display())],
            mode: MODE,
            p2p_runtime: backend.name(),
        };
        let http_stopping = CancellationToken::new();
        let mcp = McpServer::new(queue, McpConfig::default().with_shutdown(http_stopping.clone()));
        let http = listener.serve(mcp.router());
        Ok(Self { ready, http, http_stopping, p2p, thread, store, _locked: locked })
    }

    pub(crate) const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Ends everything in order within two seconds: what takes calls first, what they need last. A task that a worker
    /// holds goes back to its owner; a request that is still under way is cut off.
    pub(crate) async fn shutdown(self) {
        // The lock goes last, when nobody uses the folder any more.
        let Self { http, http_stopping, p2p, thread, store, _locked, .. } = self;
        http_stopping.cancel();
        let bridge = thread.bridge();
        let P2pSide { node, rpc, workers } = p2p;
        let quiesce = bridge.run_in_p2p(async move {
            drop(rpc);
            join_all(workers.into_iter().map(Worker::shutdown)).await;
        });
        let (quiet, ()) = futures::join!(timeout(WORKERS_STOP, quiesce), http.shutdown(HTTP_DRAIN));
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

/// What the node keeps and knows of tasks.
struct Queues {
    local: Arc<dyn TaskQueue>,
    routes: Arc<dyn RouteBook>,
}

async fn start_p2p(
    config: ServerConfig,
    node: NodeConfig,
    Queues { local, routes }: Queues,
    runtime: Arc<dyn Runtime>,
) -> Result<P2pSide, Failure> {
    let tools = config.workers.iter().map(WorkerSpec::offer).collect();
    let socket = config.data_dir.socket();
    let worker_configs = config.worker_configs(&runtime)?;
    let files = Arc::new(NodeFolder { dir: config.data_dir, announce: config.announce });
    let start = |listen: Vec<Multiaddr>| {
        let (local, routes) = (Arc::clone(&local), Arc::clone(&routes));
        let files: Arc<dyn NodeFiles> = Arc::<NodeFolder>::clone(&files);
        Node::start(node.clone().with_listen(listen), local, routes, files, Arc::clone(&runtime))
    };
    let started = match (start(config.listen.addresses()?).await, config.listen.free_addresses()?) {
        // A second node on this machine, which is not an error of its user.
        (Err(NodeError::AddressInUse { .. }), Some(free)) => start(free).await,
        (started, _) => started,
    };
    let node = started.context("--p2p-listen")?;
    node.set_tools(tools);
    let rpc = RpcServer::bind(&socket, node.queue(), &runtime)?;
    let start_worker = |config| Worker::start(config, node.queue(), node.serving_peers(), &runtime);
    let workers = worker_configs.into_iter().map(start_worker).collect();
    Ok(P2pSide { node, rpc, workers })
}

const MODE: &str = "bridge";

/// A shutdown has two seconds in all. Workers need the most of them: half a second for a command that does not want to
/// end, and what its report takes. HTTP drains meanwhile.
const WORKERS_STOP: Duration = Duration::from_millis(1_000);
const HTTP_DRAIN: Duration = Duration::from_millis(500);
const NODE_STOP: Duration = Duration::from_millis(400);
const EXECUTOR_STOP: Duration = Duration::from_millis(200);
