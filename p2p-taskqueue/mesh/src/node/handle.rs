use std::{pin::pin, sync::Arc};

use futures::future::{Either, select};
use libp2p::{Multiaddr, PeerId};
use taskqueue_api::{Check, ErrorCode, QueueError, Target, TaskQueue};
use tokio::sync::{oneshot, watch};

use super::{
    directory::{Command, Directory},
    limits::{CONNECT_TIMEOUT, JOIN_TIMEOUT},
};
use crate::{carrier::RemoteQueue, members::Welcome, node::Patience, wire::Session};

/// A handle to a running node. It is cheap to clone.
///
/// The node ends when [`shutdown`](Self::shutdown) is called or its runtime ends, not when its handles are dropped.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    queue: Arc<dyn TaskQueue>,
    directory: Arc<Directory>,
}

impl NodeHandle {
    pub(super) const fn new(queue: Arc<dyn TaskQueue>, directory: Arc<Directory>) -> Self {
        Self { queue, directory }
    }

    /// Returns the queue of the whole mesh, as seen from this node.
    ///
    /// It answers for the node's own tasks. It passes a request on to a peer when the request names one, or when the
    /// node remembers that the peer keeps the task.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn TaskQueue> {
        Arc::clone(&self.queue)
    }

    /// Returns the node's peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.directory.peer_id
    }

    /// Returns the addresses at which the node can be reached. Each ends in its peer id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.directory.addresses.borrow().clone()
    }

    /// Returns a receiver that shows the same addresses and each change of them. Relays and routers add addresses
    /// later.
    #[must_use]
    pub fn watch_addresses(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.directory.addresses.clone()
    }

    /// Returns a receiver that shows the peers that can be asked over an established connection, and each change of
    /// them.
    #[must_use]
    pub fn serving_peers(&self) -> watch::Receiver<Vec<PeerId>> {
        self.directory.serving.clone()
    }

    /// Connects to the peer that the target names, unless there is an open session with it, and returns the peer's
    /// queue.
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

    /// Dials the peer of a ticket, and waits until it has let this machine in.
    pub(super) async fn welcome(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        welcome: oneshot::Receiver<Welcome>,
    ) -> Result<Welcome, QueueError> {
        let dialled = self.directory.session_with(peer, &addresses, Patience::OneAttempt, JOIN_TIMEOUT);
        match select(welcome, pin!(dialled)).await {
            Either::Left((Ok(welcome), _)) => Ok(welcome),
            Either::Left((Err(_), dialled)) => Err(not_let_in(peer, dialled.await)),
            // The welcome comes before the connection is given up, and with it the dial.
            Either::Right((failed, mut welcome)) => welcome.try_recv().map_err(|_| not_let_in(peer, failed)),
        }
    }

    /// Stops the node: tells every peer, gives requests under way up to a second to end, and then closes every
    /// connection.
    ///
    /// # Cancel safety
    ///
    /// Once the request has reached the node's loop, the node stops even if the future is dropped. The first poll sends
    /// the request, unless too many commands wait for the loop.
    pub async fn shutdown(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.directory.commands.send(Command::Shutdown { reply }).await.is_ok() {
            // An error means that the node's runtime has ended before the node could answer.
            let _ended = stopped.await;
        }
    }
}

fn not_let_in(peer: PeerId, dialled: Result<Session, QueueError>) -> QueueError {
    dialled.err().unwrap_or_else(|| {
        QueueError::new(ErrorCode::Unreachable, format!("{peer} has not answered to the ticket: try again"))
    })
}
