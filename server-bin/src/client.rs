//! The connection of client commands: to the local node over its socket, or to a peer over libp2p.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use p2p_taskqueue::{
    Caller, ErrorCode, Mesh, Multiaddr, Operation, QueueError, TaskQueue, TaskQueueExt as _,
    api::{Target, TargetedQueue, whole_peer_id},
    mesh::{DaemonQueue, Node, NodeFiles as _, NodeHandle},
};
use runtime_bridge::{Backend, ExecutorThread, Runtime, ThreadConfig};

use crate::{
    data_dir::{DataDir, LockedDir},
    failure::Failure,
    rpc::UnixConnector,
};

/// The node that a client command asks.
#[derive(Debug)]
pub(crate) struct Client {
    queue: Arc<dyn TaskQueue>,
    runtime: Arc<dyn Runtime>,
    /// The libp2p client that dialled the peer; `None` when the local node is asked.
    _node: Option<NodeHandle>,
}

impl Client {
    /// Returns a client of this queue.
    #[cfg(test)]
    pub(crate) fn over(queue: Arc<dyn TaskQueue>) -> Self {
        let runtime = Arc::new(runtime_bridge::TokioRuntime::new(tokio::runtime::Handle::current()));
        Self { queue, runtime, _node: None }
    }

    /// Returns a client that asks the peer `target` through the node that `self` asks.
    pub(crate) fn through_to(self, target: Target) -> Self {
        let queue = TargetedQueue::new(self.queue, target);
        Self { queue: Arc::new(queue), ..self }
    }

    /// Waits for `length`.
    pub(crate) async fn pause(&self, length: Duration) {
        self.runtime.sleep_until(self.runtime.now() + length).await;
    }

    pub(crate) async fn ask<O>(&self, operation: O) -> Result<O::Answer, QueueError>
    where
        O: Operation + Send + 'static,
        O::Answer: Send,
    {
        self.queue.ask(&Caller::Local, operation).await
    }
}

/// Connects to the local node, or to `peer` if it is given, and runs `work` with this client on an executor thread of
/// its own.
pub(crate) fn with_client<T, W, F>(data_dir: DataDir, peer: Option<String>, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(Client) -> F + Send + 'static,
    F: Future<Output = Result<T, QueueError>> + Send,
{
    on_client_thread(async move |runtime| {
        let client = match peer {
            Some(peer) => dial(&data_dir, &peer, runtime).await?,
            // A command that finds no node says so at once.
            None => connect(&data_dir, runtime, Duration::ZERO).await?,
        };
        Ok(work(client).await?)
    })
}

/// Connects to the local node as [`with_client`] does. A node that is just starting is waited for.
pub(crate) fn with_starting_client<T, W, F>(data_dir: DataDir, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(Client) -> F + Send + 'static,
    F: Future<Output = Result<T, QueueError>> + Send,
{
    on_client_thread(async move |runtime| {
        let client = connect(&data_dir, runtime, STARTING).await?;
        Ok(work(client).await?)
    })
}

/// Changes this machine's part in the mesh: by `offline` when nothing runs on the data folder, otherwise by asking the
/// node, which may be just starting.
pub(crate) fn on_folder_or_node<T, W, F>(
    data_dir: DataDir,
    offline: impl FnOnce(&LockedDir) -> Result<T, Failure>,
    work: W,
) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(Client) -> F + Send + 'static,
    F: Future<Output = Result<T, QueueError>> + Send,
{
    let in_use = match data_dir.lock() {
        Ok(locked) => return offline(&locked),
        Err(error @ Failure::Configuration(_)) => error,
        Err(error) => return Err(error),
    };
    on_client_thread(async move |runtime| {
        let client = connect(&data_dir, runtime, STARTING).await.map_err(|failure| match failure {
            // No node has come up, so another command has the folder, or the folder cannot be locked at all.
            Failure::Answer(error) if error.code == ErrorCode::Unreachable => in_use,
            failure => failure,
        })?;
        Ok(work(client).await?)
    })
}

/// How long a command waits for a node that is just starting.
const STARTING: Duration = Duration::from_secs(5);

/// Runs `work` on an executor thread of its own.
pub(crate) fn on_client_thread<T, F>(work: impl FnOnce(Arc<dyn Runtime>) -> F + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send,
{
    let config = ThreadConfig::default().with_name("taskmesh-client");
    let thread = ExecutorThread::start(Backend::Tokio, config).context("cannot start the executor thread")?;
    let runtime = thread.runtime();
    thread.bridge().run_in_p2p_blocking(async move { work(runtime).await }).context("the command was cut off")?
}

async fn connect(data_dir: &DataDir, runtime: Arc<dyn Runtime>, patience: Duration) -> Result<Client, Failure> {
    let hint = format!(
        "no node runs on the data folder {}: start one with `taskmesh serve`, or name its folder with --data-dir",
        data_dir.path().display()
    );
    let queue = DaemonQueue::new(Arc::new(UnixConnector { path: data_dir.socket(), hint }), Arc::clone(&runtime));
    queue.connect(patience).await?;
    Ok(Client { queue: Arc::new(queue), runtime, _node: None })
}

async fn dial(data_dir: &DataDir, peer: &str, runtime: Arc<dyn Runtime>) -> Result<Client, Failure> {
    let mesh = data_dir.mesh()?;
    let peer = named(mesh.as_ref(), peer);
    let targets = targets(data_dir, &peer)?;
    if let (true, Ok(peer_id)) = (targets.is_empty(), peer.parse())
        && let Ok(Client { queue, .. }) = connect(data_dir, Arc::clone(&runtime), Duration::ZERO).await
    {
        // No address is known here. The local node may have a connection that the peer made, or may know a way to find
        // it.
        let queue = TargetedQueue::new(queue, Target::peer(peer_id));
        return Ok(Client { queue: Arc::new(queue), runtime, _node: None });
    }
    let (Some(identity), Some(mesh)) = (data_dir.identity()?, mesh) else {
        let problem = format!(
            "the data folder {} belongs to no mesh yet: run `taskmesh join TICKET` first",
            data_dir.path().display()
        );
        return Err(Failure::argument("--peer", problem));
    };
    let node =
        Node::start_client(identity, mesh, Arc::clone(&runtime)).await.context("cannot start a libp2p client")?;
    let mut failure = QueueError::new(
        ErrorCode::NotFound,
        format!("no address of {peer} is known here: give one, such as /ip4/192.0.2.7/tcp/9710/p2p/{peer}"),
    );
    for target in targets {
        match node.connect(&target).await {
            Ok(_) => {
                let queue = TargetedQueue::new(node.queue(), target);
                return Ok(Client { queue: Arc::new(queue), runtime, _node: Some(node) });
            }
            Err(error) => failure = error,
        }
    }
    Err(failure.into())
}

/// Returns the id of a peer that is given by its name. Anything else stays as it is.
fn named(mesh: Option<&Mesh>, peer: &str) -> String {
    let found = mesh.and_then(|mesh| mesh.find(peer).ok());
    found.map_or_else(|| peer.to_owned(), |peer| peer.to_string())
}

/// Reads a peer as a person names it: an address, or the id of a peer whose addresses the node has stored.
fn targets(data_dir: &DataDir, peer: &str) -> Result<Vec<Target>, Failure> {
    let at = |address| Target { remote_multiaddr: Some(address), remote_peer_id: None };
    if let Some(peer_id) = whole_peer_id(peer) {
        let known = data_dir.files().load_peers().into_iter().filter(|known| known.peer_id == peer_id);
        let addresses = known.flat_map(|known| known.addresses);
        return Ok(addresses.filter_map(|address| address.with_p2p(peer_id).ok()).map(at).collect());
    }
    let address = peer.parse::<Multiaddr>().map_err(|_| {
        let form = "not the name of a machine of the mesh (`taskmesh members` lists them), nor a peer id, nor an address \
                    such as /ip4/192.0.2.7/tcp/9710/p2p/PEER_ID";
        Failure::argument("--peer", format!("{peer:?} is {form}"))
    })?;
    Ok(vec![at(address)])
}
