use std::{path::PathBuf, sync::Arc};

use taskqueue_api::{Invite, Join, Joined, Multiaddr, PeerId, QueueError, RouteBook};
use taskqueue_mesh::{
    ConnectionLimits, DiscoveryConfig, Identity, MeshSecret, NoFiles, Node as MeshNode, NodeConfig, NodeError,
    NodeFiles, NodeHandle, ReachConfig,
};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions, TaskStore};

use crate::{
    CloseError, DataFolder, DataFolderError, LockedFolder, OpenError, Queue,
    engine::{Engine, off_thread},
};

/// A machine of a mesh: a queue of its own, and the way to those of its peers. Dropping it with the last clone of its
/// [`queue`](Self::queue) is the emergency path of [`Queue`]; peers see broken connections.
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

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartNodeError {
    /// Its queue could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its data folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// It cannot listen, or be set up for its network.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The queue's thread ended before the node had started.
    #[error("the queue's thread ended before the node had started")]
    Thread(#[source] QueueError),
}

impl Node {
    /// Sets a node up.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The queue of the mesh, as seen from this node: its own tasks, those that were submitted through it, and with
    /// [`on`](crate::Submission::on) those of any peer. A worker on it serves this node and every connected peer.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Who the node is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.handle.peer_id()
    }

    /// Where the node can be reached, each address ending in its peer id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.handle.addresses()
    }

    /// The peers that are connected and can be asked.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.handle.serving_peers().borrow().clone()
    }

    /// The handle of the node itself, for what is not here. Its futures belong on the queue's thread.
    #[must_use]
    pub const fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// A ticket with which another machine joins the mesh. It holds the mesh secret: whoever has it may join.
    ///
    /// # Errors
    ///
    /// `shutting_down` when the node was shut down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn invite(&self) -> Result<String, QueueError> {
        Ok(self.queue.ask(Invite {}).await?.ticket)
    }

    /// Joins the mesh of a ticket and connects to the node that made it. The answer says whether a connection stands; when
    /// it does not, the node goes on trying.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when it is no ticket or this node's own, `storage_error` when the mesh secret could not be kept.
    ///
    /// # Cancel safety
    ///
    /// The node may have joined.
    pub async fn join(&self, ticket: impl Into<String>) -> Result<Joined, QueueError> {
        self.queue.ask(Join { ticket: ticket.into() }).await
    }

    /// Ends the node in order: it tells every peer, lets what is under way end for up to a second, closes the connections,
    /// and then its queue, as [`Queue::close`] does. Stop workers before.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when something blocks the queue's thread.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node stops; its queue may stay open when the future is not polled to its end.
    pub async fn shutdown(self) -> Result<(), CloseError> {
        let Self { queue, handle } = self;
        // Refused when the queue was closed, and the node with it.
        drop(queue.run(async move { handle.shutdown().await }).await);
        queue.close().await
    }
}

/// How a [`Node`] is set up. Without a [`data_dir`](Self::data_dir) it is a new node of a new mesh, its tasks are in memory,
/// and it is gone with its process.
#[derive(Debug, Default)]
#[must_use = "a node runs when it is started"]
pub struct NodeBuilder {
    data_dir: Option<PathBuf>,
    identity: Option<Identity>,
    secret: Option<MeshSecret>,
    listen: Vec<Multiaddr>,
    discovery: DiscoveryConfig,
    reach: ReachConfig,
    limits: ConnectionLimits,
}

impl NodeBuilder {
    /// Keeps everything in this folder, as `taskmesh serve --data-dir` does: the tasks (`queue.sqlite3`), who the node is
    /// (`identity.key`), which mesh it belongs to (`mesh.key`), and its peers (`peers.json`). The folder is this node's
    /// alone while it runs.
    #[cfg(feature = "sqlite")]
    pub fn data_dir(self, folder: impl Into<PathBuf>) -> Self {
        Self { data_dir: Some(folder.into()), ..self }
    }

    /// Is this node, whatever the data folder says.
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Belongs to the mesh of this secret, whatever the data folder says.
    pub fn mesh_secret(self, secret: MeshSecret) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// Listens on this address, too, for example `/ip4/127.0.0.1/tcp/9710`; port 0 takes a free one. A node needs an address
    /// or a relay.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Finds peers in these ways.
    pub fn discovery(self, discovery: DiscoveryConfig) -> Self {
        Self { discovery, ..self }
    }

    /// Is reached in these ways.
    pub fn reach(self, reach: ReachConfig) -> Self {
        Self { reach, ..self }
    }

    /// Takes no more connections than these.
    pub fn limits(self, limits: ConnectionLimits) -> Self {
        Self { limits, ..self }
    }

    /// Starts the node. It listens when this is answered.
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
        // Boxed: it holds whatever the start of a node holds.
        let start = Box::pin(MeshNode::start(config, local, routes, files, runtime));
        let started = engine.thread().bridge().run(start).await;
        let handle = started.map_err(|error| StartNodeError::Thread(crate::bridged::refusal(&error)))??;
        let queue = Queue::new(handle.queue(), handle.serving_peers(), engine);
        Ok(Node { queue, handle })
    }
    /// Opens what the node keeps; blocks.
    fn open(self) -> Result<NodeParts, StartNodeError> {
        let folder = self.data_dir.map(|path| DataFolder::make(path)?.lock()).transpose()?;
        let identity = match (self.identity, &folder) {
            (Some(identity), _) => identity,
            (None, Some(folder)) => folder.identity_or_new()?,
            (None, None) => Identity::generate().map_err(NodeError::Random)?,
        };
        let secret = match (self.secret, &folder) {
            (Some(secret), _) => secret,
            (None, Some(folder)) => folder.mesh_secret_or_new()?,
            (None, None) => MeshSecret::generate().map_err(NodeError::Random)?,
        };
        let peer_id = identity.peer_id();
        let (store, routes) = store(folder.as_ref(), StoreOptions::new(peer_id))?;
        let files: Arc<dyn NodeFiles> = match &folder {
            Some(folder) => Arc::new(folder.folder().clone()),
            None => Arc::new(NoFiles),
        };
        let engine = Engine::start().map_err(OpenError::from)?.with_store(Arc::clone(&store)).with_folder(folder);
        let local = Arc::new(LocalQueue::new(store, peer_id, engine.thread().runtime()));
        let config = NodeConfig::new(identity, secret)
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

/// One store in two roles: it also remembers which peer keeps which task.
type Store = (Arc<dyn TaskStore>, Arc<dyn RouteBook>);

/// The store of the folder; one in memory without a folder.
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
