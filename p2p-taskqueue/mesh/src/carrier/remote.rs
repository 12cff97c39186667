use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use libp2p::{Multiaddr, PeerId};
use taskqueue_api::{Caller, Check as _, ErrorCode, QueueError, Request, Response, Target, TaskQueue, Wait};

use super::{
    repeat::{self, RESTART_GRACE, Sessions},
    timeout::seconds,
};
use crate::{
    node::{Directory, Patience, limits::CONNECT_TIMEOUT},
    wire::Session,
};

/// A peer, asked over the open session with it. If there is none, the peer is dialled.
///
/// A request whose answer was lost with the connection is asked once more on a new one, if asking twice has the same effect
/// as asking once; a submit carries its task's id for that. Otherwise the error is `interrupted`, with an unknown outcome.
#[derive(Debug, Clone)]
pub struct RemoteQueue {
    directory: Arc<Directory>,
    peer: PeerId,
    /// The address that the caller has given, besides those that the node knows.
    addresses: Vec<Multiaddr>,
}

impl RemoteQueue {
    pub(crate) fn new(directory: Arc<Directory>, target: &Target) -> Result<Self, QueueError> {
        let peer = target.peer_id().ok_or_else(|| QueueError::invalid("target", "names no peer"))?;
        if peer == directory.peer_id {
            return Err(QueueError::invalid("target", "is this node itself"));
        }
        Ok(Self { directory, peer, addresses: target.remote_multiaddr.iter().cloned().collect() })
    }

    /// Which peer it is.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// A session with the peer, within the timeout.
    pub(crate) async fn connect(&self, patience: Patience, timeout: Duration) -> Result<Session, QueueError> {
        self.directory.reach(self.peer, &self.addresses, patience, timeout).await
    }

    async fn ask(&self, request: Request) -> Result<Response, QueueError> {
        repeat::ask(self, request, &*self.directory.runtime).await
    }

    /// Waits, also for an owner that restarts. `grace` is how long the first connection may be tried for.
    async fn wait(&self, wait: Wait, grace: Duration) -> Result<Response, QueueError> {
        let first = self.first_session(CONNECT_TIMEOUT, grace.min(seconds(wait.timeout_s)));
        let again = |left| self.connect(Patience::UntilDropped, left);
        repeat::wait(wait, first, again, &*self.directory.runtime).await
    }

    /// A session with a peer that may be restarting: one attempt within the timeout, and for the grace as many as it takes.
    async fn first_session(&self, timeout: Duration, grace: Duration) -> Result<Session, QueueError> {
        match self.connect(Patience::OneAttempt, timeout).await {
            Err(error) if error.code == ErrorCode::Unreachable && !grace.is_zero() => {
                // The error of the first attempt says more than the time-out of the second one.
                self.connect(Patience::UntilDropped, grace).await.map_err(|_| error)
            }
            connected => connected,
        }
    }

    /// As [`call`](TaskQueue::call), for a request that this node has checked already.
    pub(crate) async fn call_checked(&self, request: Request) -> Result<Response, QueueError> {
        match request {
            Request::Wait(wait) => Box::pin(self.wait(wait, Duration::ZERO)).await,
            request => self.ask(request).await,
        }
    }

    /// As [`call_checked`](Self::call_checked), when this node itself remembered that the peer keeps the task.
    pub(crate) async fn call_owner(&self, request: Request) -> Result<Response, QueueError> {
        match request {
            Request::Wait(wait) => self.wait(wait, RESTART_GRACE).await,
            request => self.ask(request).await,
        }
    }
}

impl Sessions for RemoteQueue {
    async fn session(&self, waits: bool, within: Duration) -> Result<Session, QueueError> {
        if let Some(session) = self.directory.standing(self.peer) {
            return Ok(session);
        }
        let grace = if waits { RESTART_GRACE.min(within) } else { Duration::ZERO };
        // Boxed: it is large, and every request would hold it.
        Box::pin(self.first_session(CONNECT_TIMEOUT.min(within), grace)).await
    }
}

#[async_trait]
impl TaskQueue for RemoteQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        if !caller.is_local() {
            return Err(QueueError::new(ErrorCode::Forbidden, "a peer's call is not passed on to another peer"));
        }
        // A number that JSON cannot write would arrive as none at all.
        request.check()?;
        self.call_checked(request).await
    }
}
