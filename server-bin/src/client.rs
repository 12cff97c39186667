//! The connection of client commands: to the local node over its socket, or to a peer over libp2p.

use std::{collections::BTreeMap, future::Future, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use p2p_taskqueue::{
    Caller, ErrorCode, Identity, Mesh, Multiaddr, Operation, PeerId, QueueError, TaskQueue, TaskQueueExt as _, Ticket,
    api::{Join, Joined, Left, Role, TakeMeOut, Target, TargetedQueue},
    mesh::{DaemonQueue, Node, NodeFiles as _, NodeHandle, RememberedPeer, host_name},
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
fn on_client_thread<T, F>(work: impl FnOnce(Arc<dyn Runtime>) -> F + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send,
{
    let config = ThreadConfig::default().with_name("taskmesh-client");
    let thread = ExecutorThread::start(Backend::Tokio, config).context("cannot start the executor thread")?;
    let runtime = thread.runtime();
    thread.bridge().run_in_p2p_blocking(async move { work(runtime).await }).context("the command was cut off")?
}

/// Becomes a member of the mesh of a ticket while no node runs on the folder.
pub(crate) fn join_offline(
    locked: &LockedDir,
    ticket: Ticket,
    name: Option<String>,
    leave: bool,
) -> Result<Joined, Failure> {
    let identity = locked.identity_or_new()?;
    let (own, peer_id) = (identity.peer_id(), ticket.peer_id());
    if peer_id == own {
        return Err(QueueError::invalid("ticket", "is this machine's own: use it on another machine").into());
    }
    let other_mesh = locked.dir().mesh()?.filter(|mesh| !ticket.leads_to(mesh));
    let others = other_mesh.map_or(0, |mesh| mesh.names().keys().filter(|peer| **peer != own).count());
    if others > 0 && !leave {
        let problem =
            format!("this machine belongs to a mesh with other members ({others}): add --leave to leave that one");
        return Err(QueueError::invalid("leave", problem).into());
    }
    let addresses = ticket.addresses().to_vec();
    let files = locked.dir().files();
    let later = Join { ticket: ticket.to_text(), name: name.clone(), leave, keep_trying: false };
    let entered =
        on_client_thread(async move |runtime| Ok(Node::enter(identity, &ticket, name.as_deref(), runtime).await?));
    let mesh = match entered {
        Err(Failure::Answer(error)) if error.code == ErrorCode::Unreachable => {
            let text = serde_json::to_string(&later).context("cannot write the request")?;
            files.save_pending_join(Some(&text)).context("cannot keep the ticket")?;
            let message = format!("{}; `taskmesh serve` goes on trying when it runs", error.message);
            return Err(error.with_message(message).into());
        }
        entered => entered?,
    };
    let mut peers = files.load_peers();
    peers.retain(|known| known.peer_id != peer_id);
    peers.insert(0, RememberedPeer { peer_id, addresses, proven: Vec::new(), last_seen: None });
    files.save_peers(&peers).context("cannot keep the peer")?;
    files.save_mesh(&mesh).context("cannot keep what is known of the mesh")?;
    if files.load_pending_join().is_some() {
        files.save_pending_join(None).context("cannot remove the ticket of an earlier attempt")?;
    }
    let name = mesh.names().remove(&own).unwrap_or_default();
    let role = mesh.grants_of(&own).context("the ticket did not make this machine a member")?;
    Ok(Joined { peer_id, name, role, connected: false, error: None })
}

/// Takes this machine out of its mesh while no node runs on the folder.
pub(crate) fn leave_offline(locked: &LockedDir, force: bool) -> Result<Left, Failure> {
    let dir = locked.dir();
    let (Some(identity), Some(mesh)) = (dir.identity()?, dir.mesh()?) else {
        let path = dir.path().display();
        let message = format!("the data folder {path} belongs to no mesh yet: there is nothing to leave");
        return Err(QueueError::new(ErrorCode::InvalidArgument, message).into());
    };
    let own = identity.peer_id();
    mesh.check_leaving(own, force)?;
    let name = mesh.names().remove(&own).unwrap_or_else(|| host_name(&identity));
    let alone = Mesh::begin(&identity, &name).context("cannot begin a mesh")?;
    let told = match mesh.grants_of(&own) {
        Some(_) => tell_an_admin(identity, mesh, dir.files().load_peers()),
        // It was taken out already.
        None => None,
    };
    locked.save_mesh(&alone).context("cannot keep that this machine has left the mesh")?;
    dir.files().save_peers(&[]).context("cannot forget the peers of the mesh")?;
    Ok(Left { told })
}

/// Asks the admins that can be reached to take this machine out, until one of them does. Returns that one's name.
fn tell_an_admin(identity: Identity, mesh: Mesh, peers: Vec<RememberedPeer>) -> Option<String> {
    let is_admin = |peer: &PeerId| mesh.grants_of(peer).is_some_and(|grants| grants.role() == Role::Admin);
    let mut admins = mesh.names();
    admins.retain(|peer, _| *peer != identity.peer_id() && is_admin(peer));
    let told = on_client_thread(async move |runtime| {
        let node = Node::start_client(identity, mesh, Arc::clone(&runtime)).await;
        let node = node.context("cannot start a libp2p client")?;
        let over = runtime.sleep_until(runtime.now() + TELLING);
        let told = match select(pin!(ask_to_be_taken_out(&node, &admins, peers)), over).await {
            Either::Left((told, _)) => told,
            Either::Right(_) => None,
        };
        node.shutdown().await;
        Ok(told)
    });
    // A machine leaves whether anybody can be told or not.
    told.unwrap_or_else(|error| {
        tracing::warn!(%error, "no admin could be told");
        None
    })
}

async fn ask_to_be_taken_out(
    node: &NodeHandle,
    admins: &BTreeMap<PeerId, String>,
    peers: Vec<RememberedPeer>,
) -> Option<String> {
    let known = peers.into_iter().filter_map(|known| Some((admins.get(&known.peer_id)?, known)));
    let targets = known.flat_map(|(name, known)| {
        let addresses = known.addresses.into_iter().filter_map(move |address| address.with_p2p(known.peer_id).ok());
        addresses.map(move |address| (name, Target { remote_multiaddr: Some(address), remote_peer_id: None }))
    });
    let mut reached: FuturesUnordered<_> =
        targets.map(async |(name, target)| (name, node.connect(&target).await)).collect();
    let mut refusals = Vec::new();
    while let Some((name, connected)) = reached.next().await {
        let Ok(admin) = connected else { continue };
        // An admin has several addresses.
        if refusals.contains(&name) {
            continue;
        }
        match admin.ask(&Caller::Local, TakeMeOut {}).await {
            // The session may end with the removal before its answer.
            Err(error) if error.code != ErrorCode::Interrupted => {
                tracing::info!(admin = name, %error, "an admin does not take this machine out");
                refusals.push(name);
            }
            _ => return Some(name.clone()),
        }
    }
    None
}

/// How long a machine that leaves tries to tell an admin of it: enough for two dials, one after the other.
const TELLING: Duration = Duration::from_secs(10);

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
    if let Ok(peer_id) = peer.parse::<PeerId>() {
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
