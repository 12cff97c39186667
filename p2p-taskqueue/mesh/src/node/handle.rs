use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use taskqueue_api::{Check, QueueError, Target, TaskQueue, ToolOffer};
use tokio::sync::{oneshot, watch};

use super::{
    directory::{Command, Directory},
    limits::CONNECT_TIMEOUT,
};
use crate::{carrier::RemoteQueue, node::Patience};

/// A running node. Cheap to clone; the node ends when [`shutdown`](Self::shutdown) is called or its runtime ends, not when
/// its handles are dropped.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    queue: Arc<dyn TaskQueue>,
    directory: Arc<Directory>,
}

impl NodeHandle {
    pub(super) const fn new(queue: Arc<dyn TaskQueue>, directory: Arc<Directory>) -> Self {
        Self { queue, directory }
    }

    /// The queue of the whole mesh, as seen from this node: its own tasks, and by a target or by what it remembers those
    /// of its peers.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn TaskQueue> {
        Arc::clone(&self.queue)
    }

    /// Who the node is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.directory.peer_id
    }

    /// Where the node can be reached, each address ending in its peer id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.directory.addresses.borrow().clone()
    }

    /// The same, and every change of it: relays and routers add addresses later.
    #[must_use]
    pub fn watch_addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.directory.addresses.clone()
    }

    /// The peers that can be asked over a standing connection, and every change of them.
    #[must_use]
    pub fn serving_peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.directory.serving.clone()
    }

    /// Connects to the peer that the target names, unless a connection stands, and gives its queue.
    ///
    /// # Errors
    ///
    /// `unreachable` when it cannot be dialled, `unauthorized` when it belongs to another mesh, `not_found` when it is
    /// not known and the target has no address, `invalid_argument` when the target names no peer or contradicts itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; the dial goes on.
    pub async fn connect(&self, target: &Target) -> Result<RemoteQueue, QueueError> {
        target.check()?;
        let queue = RemoteQueue::new(Arc::clone(&self.directory), target)?;
        queue.connect(Patience::OneAttempt, CONNECT_TIMEOUT).await?;
        Ok(queue)
    }

    /// What this node's own workers can be given to do: `list_tools` answers it, and `status` names the task types.
    pub fn set_tools(&self, tools: Vec<ToolOffer>) {
        self.directory.set_tools(tools);
    }

    /// Stops: tells every peer, lets what is under way end for up to a second, then closes every connection.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node stops whether or not the future is polled again.
    pub async fn shutdown(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.directory.commands.send(Command::Shutdown { reply }).await.is_ok() {
            // An error means that its runtime has ended before it could answer.
            let _ended = stopped.await;
        }
    }
}
