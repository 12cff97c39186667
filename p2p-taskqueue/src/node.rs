use std::{path::PathBuf, sync::Arc};

use taskqueue_api::{Invite, Join, Joined, Multiaddr, PeerId, QueueError, RouteBook};
use taskqueue_mesh::{
    ConnectionLimits, DiscoveryConfig, Identity, Mesh, MeshError, NoFiles, Node as MeshNode, NodeConfig, NodeError,
    NodeFiles, NodeHandle, ReachConfig, host_name,
};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions, TaskStore};

use crate::{
    CloseError, DataFolder, DataFolderError, LockedFolder, OpenError, Queue,
    engine::{Engine, off_thread},
};

/// A machine of a mesh, with its own queue and access to the queues of its peers.
///
/// Dropping it with the last clone of its [`queue`](Self::queue) takes the emergency path of [`Queue`]. The peers then
/// see broken connections.
///
/// # Examples
///
/// ```no_run
/// # use p2p_taskqueue::Node;
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder().data_dir("data").listen("/ip4/0.0.0.0/tcp/9710".parse()?).start().await?;
/// println!("on another machine: taskmesh join {}", node.invite().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Node {
    queue: Queue,
    handle: NodeHandle,
}

/// The reason why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartNodeError {
    /// The queue of the node could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The node cannot listen, or its network cannot be set up.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The mesh of the node could not be begun.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The queue's thread ended before the node had started.
    #[error("the queue's thread ended before the node had started")]
    Thread(#[source] QueueError),
}

impl Node {
    /// Returns a builder for a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Returns the queue of the mesh, as seen from this node.
    ///
    /// It has the node's own tasks and those that were submitted through the node, and with
    /// [`on`](crate::Submission::on) it submits to any peer. A worker on it takes tasks of this node and of every
    /// connected peer.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Returns the peer id of the node.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.handle.peer_id()
    }

    /// Returns the addresses at which the node can be reached. Each ends with its peer id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.handle.addresses()
    }

    /// Returns the peers that are connected and answer requests.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.handle.serving_peers().borrow().clone()
    }

    /// Returns the handle of the node, for everything that this type does not offer. Its futures must be polled on the
    /// queue's thread.
    #[must_use]
    pub const fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Returns a ticket by which one other machine joins the mesh as a member, within an hour. For other tickets ask the
    /// queue for an [`Invite`].
    ///
    /// # Errors
    ///
    /// `forbidden` when this node is no admin of its mesh, `shutting_down` when the node was shut down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A ticket that nobody gets is lost.
    pub async fn invite(&self) -> Result<String, QueueError> {
        Ok(self.queue.ask(Invite::default()).await?.ticket)
    }

    /// Joins the mesh of a ticket. When this returns, the node is a member of it.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the text is not a ticket, when this node made it, or when this node belongs to a mesh
    /// with other members; `unreachable` when the machine that made it cannot be reached; `unauthorized` when that
    /// machine refuses it, with the reason; `storage_error` when the change could not be stored.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node may have joined.
    pub async fn join(&self, ticket: impl Into<String>) -> Result<Joined, QueueError> {
        self.queue.ask(Join { ticket: ticket.into(), ..Join::default() }).await
    }

    /// Ends the node in order. Stop its workers first.
    ///
    /// The node tells every peer, gives requests under way up to a second to end, and closes its connections. Then it
    /// closes its queue, as [`Queue::close`] does.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when something blocks the queue's thread.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node stops. Its queue may stay open when the future is dropped before it completes.
    pub async fn shutdown(self) -> Result<(), CloseError> {
        let Self { queue, handle } = self;
        // The call is refused when the queue was closed, and the node has ended with it.
        drop(queue.run(async move { handle.shutdown().await }).await);
        queue.close().await
    }
}

/// The settings of a [`Node`] that is to be started.
///
/// Without a [`data_dir`](Self::data_dir) it is a new node of a new mesh. Its tasks are in memory and are lost when the
/// process ends.
#[derive(Debug, Default)]
#[must_use = "a node runs when it is started"]
pub struct NodeBuilder {
    data_dir: Option<PathBuf>,
    identity: Option<Identity>,
    mesh: Option<Mesh>,
    listen: Vec<Multiaddr>,
    discovery: DiscoveryConfig,
    reach: ReachConfig,
    limits: ConnectionLimits,
}

impl NodeBuilder {
    /// Keeps everything in this folder, as `taskmesh serve --data-dir` does.
    ///
    /// These are the tasks (`queue.sqlite3`), the node's identity (`identity.key`), what it knows of its mesh
    /// (`mesh.json`, and `root.key` if it has the root key) and its peers (`peers.json`, `workers.json`). The folder is locked while the node runs.
    #[cfg(feature = "sqlite")]
    pub fn data_dir(self, folder: impl Into<PathBuf>) -> Self {
        Self { data_dir: Some(folder.into()), ..self }
    }

    /// Uses this identity instead of the one in the data folder.
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Uses this part in a mesh instead of the one in the data folder. It is that of this node's identity.
    pub fn mesh(self, mesh: Mesh) -> Self {
        Self { mesh: Some(mesh), ..self }
    }

    /// Adds an address to listen on, for example `/ip4/127.0.0.1/tcp/9710`. With port 0 the system chooses a free port.
    /// A node needs an address or a relay.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Sets how the node finds peers.
    pub fn discovery(self, discovery: DiscoveryConfig) -> Self {
        Self { discovery, ..self }
    }

    /// Sets how the node can be reached.
    pub fn reach(self, reach: ReachConfig) -> Self {
        Self { reach, ..self }
    }

    /// Sets the limits on connections.
    pub fn limits(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// Starts the node. It listens when the future completes.
    ///
    /// # Errors
    ///
    /// [`StartNodeError`]: the data folder is in use or damaged, the store cannot be opened, or an address cannot be
    /// listened on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the node.
    pub async fn start(self) -> Result<Node, StartNodeError> {
        let parts = off_thread(move || self.open()).await.map_err(OpenError::Helper)??;
        let NodeParts { config, local, routes, files, engine } = parts;
        let runtime = engine.thread().runtime();
        // The future is boxed because it is large.
        let start = Box::pin(MeshNode::start(config, local, routes, files, runtime));
        let started = engine.thread().bridge().run(start).await;
        let handle = started.map_err(|error| StartNodeError::Thread(crate::bridged::refusal(&error)))??;
        let queue = Queue::new(handle.queue(), handle.serving_peers(), engine);
        Ok(Node { queue, handle })
    }

    /// Opens what the node keeps. Blocks.
    fn open(self) -> Result<NodeParts, StartNodeError> {
        let folder = self.data_dir.map(|path| DataFolder::make(path)?.lock()).transpose()?;
        let identity = match (self.identity, &folder) {
            (Some(identity), _) => identity,
            (None, Some(folder)) => folder.identity_or_new()?,
            (None, None) => Identity::generate().map_err(NodeError::Random)?,
        };
        let mesh = match (self.mesh, &folder) {
            (Some(mesh), _) => mesh,
            (None, Some(folder)) => folder.mesh_or_new(&identity)?,
            (None, None) => Mesh::begin(&identity, &host_name(&identity))?,
        };
        let peer_id = identity.peer_id();
        let (store, routes) = store(folder.as_ref(), StoreOptions::new(peer_id))?;
        let files: Arc<dyn NodeFiles> = match &folder {
            Some(folder) => Arc::new(folder.folder().clone()),
            None => Arc::new(NoFiles),
        };
        let engine = Engine::start().map_err(OpenError::from)?.with_store(Arc::clone(&store)).with_folder(folder);
        let local = Arc::new(LocalQueue::new(store, peer_id, engine.thread().runtime()));
        let config = NodeConfig::new(identity, mesh)
            .with_listen(self.listen)
            .with_mode("library")
            .with_discovery(self.discovery)
            .with_reach(self.reach)
            .with_limits(self.limits);
        Ok(NodeParts { config, local, routes, files, engine })
    }
}

/// What a node is started with.
struct NodeParts {
    config: NodeConfig,
    local: Arc<LocalQueue>,
    routes: Arc<dyn RouteBook>,
    files: Arc<dyn NodeFiles>,
    engine: Engine,
}

/// One store in two roles: it keeps tasks, and it remembers which peer keeps which task.
type Store = (Arc<dyn TaskStore>, Arc<dyn RouteBook>);

/// Opens the store of the folder, or makes one in memory when there is no folder.
fn store(folder: Option<&LockedFolder>, options: StoreOptions) -> Result<Store, OpenError> {
    #[cfg(feature = "sqlite")]
    if let Some(folder) = folder {
        let store = Arc::new(taskqueue_store::SqliteStore::open(&folder.folder().store(), options)?);
        return Ok((Arc::<taskqueue_store::SqliteStore>::clone(&store), store));
    }
    #[cfg(not(feature = "sqlite"))]
    let _only_keys = folder;
    let store = Arc::new(MemoryStore::new(options)?);
    Ok((Arc::<MemoryStore>::clone(&store), store))
}
