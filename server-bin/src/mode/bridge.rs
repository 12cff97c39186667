//! `bridge`: HTTP on tokio, the node on its executor thread, every call across by `run_in_p2p`.

use std::{str::FromStr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future::join_all;
use mcp_core::{McpConfig, McpServer};
use p2p_taskqueue::{
    Json, Multiaddr, PeerId, TaskQueue,
    api::{Durability, ToolOffer},
    carrier::{BridgedQueue, LocalQueue, RouteBook},
    node::{Node, NodeConfig, NodeError, NodeHandle},
    store::{SqliteStore, StoreOptions, TaskStore},
    worker::{CommandHandler, Worker, WorkerConfig},
};
use runtime_bridge::{Backend, ExecutorThread, Runtime, ThreadConfig};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    data_dir::{DataDir, LockedDir},
    failure::Failure,
    http::{HttpListener, HttpServer},
    rpc::RpcServer,
};

/// What a node and its MCP server are started with.
#[derive(Debug)]
pub(crate) struct ServerConfig {
    pub(crate) data_dir: DataDir,
    /// `HOST:PORT`.
    pub(crate) http: String,
    /// Empty: the usual port on loopback, or a free one.
    pub(crate) p2p_listen: Vec<Multiaddr>,
    pub(crate) workers: Vec<WorkerSpec>,
    /// What the workers of this machine have.
    pub(crate) labels: Vec<String>,
    /// The session whose tasks they take beside those of none.
    pub(crate) session: Option<String>,
    /// What is known of a change when it is answered.
    pub(crate) durability: Durability,
}

/// `TYPE=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerSpec {
    task_type: String,
    command: String,
}

impl WorkerSpec {
    /// What peers and agents are told of it. Not the command: it may show more of this machine than its user wants.
    fn offer(&self) -> ToolOffer {
        let description = format!("Does tasks of type {} on this machine. Takes any JSON value.", self.task_type);
        ToolOffer { name: self.task_type.clone(), description, input_schema: Json::default() }
    }
}

impl FromStr for WorkerSpec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let malformed =
            || Failure::argument("--worker", format!("{text:?} is not TYPE=COMMAND, such as 'wordcount=wc -w'"));
        let (task_type, command) = text.split_once('=').ok_or_else(malformed)?;
        if task_type.trim().is_empty() || command.trim().is_empty() {
            return Err(malformed());
        }
        Ok(Self { task_type: task_type.trim().to_owned(), command: command.to_owned() })
    }
}

/// The line that says that everything runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ready {
    event: &'static str,
    pub(crate) http: String,
    pub(crate) peer_id: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    rpc: Vec<String>,
    mode: &'static str,
    p2p_runtime: String,
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
        let backend = Backend::Tokio;
        let thread = ExecutorThread::start(backend, ThreadConfig::default().with_name("taskmesh-p2p"))
            .context("cannot start the executor thread")?;

        let local: Arc<dyn TaskStore> = Arc::<SqliteStore>::clone(&store);
        let local = LocalQueue::new(local, identity.peer_id(), thread.runtime());
        let node = NodeConfig::new(identity, locked.mesh_secret_or_new()?)
            .with_mode(MODE)
            .with_p2p_runtime(backend.to_string());
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
            p2p_runtime: backend.to_string(),
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
    let has = (config.labels, config.session);
    let worker_configs = worker_configs(config.workers, &has, &runtime)?;
    let files = Arc::new(config.data_dir);
    let start = |listen: Vec<Multiaddr>| {
        let (local, routes) = (Arc::clone(&local), Arc::clone(&routes));
        Node::start(node.clone().with_listen(listen), local, routes, files.clone(), Arc::clone(&runtime))
    };
    let started = if config.p2p_listen.is_empty() {
        match start(parse_all(&[USUAL_LISTEN])?).await {
            // A second node on this machine, which is not an error of its user.
            Err(NodeError::AddressInUse { .. }) => start(parse_all(&[FREE_LISTEN])?).await,
            other => other,
        }
    } else {
        start(config.p2p_listen).await
    };
    let node = started.context("--p2p-listen")?;
    node.set_tools(tools);
    let rpc = RpcServer::bind(&socket, node.queue(), &runtime)?;
    let start_worker = |config| Worker::start(config, node.queue(), node.serving_peers(), &runtime);
    let workers = worker_configs.into_iter().map(start_worker).collect();
    Ok(P2pSide { node, rpc, workers })
}

fn worker_configs(
    workers: Vec<WorkerSpec>,
    (labels, session): &(Vec<String>, Option<String>),
    runtime: &Arc<dyn Runtime>,
) -> Result<Vec<WorkerConfig>, Failure> {
    let process = std::process::id();
    let configure = |(index, worker): (usize, WorkerSpec)| {
        let handler = CommandHandler::parse(&worker.command, Arc::clone(runtime))
            .map_err(|error| Failure::argument("--worker", format!("{:?}: {error}", worker.command)))?;
        let id = format!("{}-{process}-{index}", worker.task_type);
        let config = WorkerConfig::new(id, worker.task_type, Arc::new(handler));
        Ok(WorkerConfig { labels: labels.clone(), session: session.clone(), ..config })
    };
    workers.into_iter().enumerate().map(configure).collect()
}

fn parse_all(texts: &[&str]) -> Result<Vec<Multiaddr>, Failure> {
    let parse = |text: &&str| text.parse().with_context(|| format!("{text:?} is no address"));
    Ok(texts.iter().map(parse).collect::<anyhow::Result<_>>()?)
}

const MODE: &str = "bridge";

/// The usual port, on loopback: nothing is open to others unless asked for.
const USUAL_LISTEN: &str = "/ip4/127.0.0.1/tcp/9710";
const FREE_LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// A shutdown has two seconds in all. Workers need the most of them: half a second for a command that does not want to
/// end, and what its report takes. HTTP drains meanwhile.
const WORKERS_STOP: Duration = Duration::from_millis(1_000);
const HTTP_DRAIN: Duration = Duration::from_millis(500);
const NODE_STOP: Duration = Duration::from_millis(400);
const EXECUTOR_STOP: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_type_and_a_command() {
        let worker: WorkerSpec = "wordcount=wc -w --files0-from=-".parse().unwrap();
        assert_eq!(worker.task_type, "wordcount");
        assert_eq!(worker.command, "wc -w --files0-from=-");
    }

    #[test]
    fn a_malformed_worker_is_refused_with_an_example() {
        for text in ["wordcount", "=wc", "wordcount=", ""] {
            let error = text.parse::<WorkerSpec>().unwrap_err().to_string();
            assert!(error.contains("TYPE=COMMAND"), "{error}");
        }
    }
}
