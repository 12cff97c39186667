use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use runtime_bridge::Runtime;
use taskqueue_api::{Caller, Check as _, ErrorCode, QueueError, Request, Response, TaskQueue};

use super::{
    Connector,
    connector::InMemory,
    reconnect::{CONNECT_TIMEOUT, Link},
    repeat::{self, RESTART_GRACE},
};

/// The node of another process of this machine, over whatever connection a [`Connector`] makes: its Unix socket, loopback
/// HTTP, or a pipe within the process.
///
/// It connects when it is first asked, and again after the connection has broken. A request whose answer was lost is asked
/// once more if asking twice has the same effect as asking once; a submit carries its task's id for that. Otherwise the error
/// is `interrupted`, with an unknown outcome. While the node is away, a request fails with `unreachable` at once. Waits, and
/// changes whose answer was lost, first wait some seconds for the node to come back. Dropping the last clone closes the
/// connection.
#[derive(Debug, Clone)]
pub struct DaemonQueue {
    link: Arc<Link>,
}

impl DaemonQueue {
    /// A queue behind the connections of `connector`. No connection is made yet. The session runs on `runtime`.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>, runtime: Arc<dyn Runtime>) -> Self {
        Self { link: Arc::new(Link::new(connector, runtime)) }
    }

    /// A queue of this process, asked as another process would ask it: every call goes through frames, versions and bounds.
    #[must_use]
    pub fn in_memory(queue: Arc<dyn TaskQueue>, runtime: Arc<dyn Runtime>) -> Self {
        Self::new(Arc::new(InMemory { queue, runtime: Arc::clone(&runtime) }), runtime)
    }

    /// Connects now. While no node answers, it tries again for as long as `patience`.
    ///
    /// # Errors
    ///
    /// `unreachable` when the other end does not answer, `unsupported` when it is of an incompatible version, and the errors of
    /// the connector.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn connect(&self, patience: Duration) -> Result<(), QueueError> {
        self.link.first_lane().session(patience, patience.saturating_add(CONNECT_TIMEOUT)).await.map(|_| ())
    }

    /// Whether a connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }
}

#[async_trait]
impl TaskQueue for DaemonQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        // The node takes every call over this connection as local, so a peer's call must not be passed on.
        if !caller.is_local() {
            return Err(QueueError::new(ErrorCode::Forbidden, "only clients of this machine may ask its node"));
        }
        // A number that JSON cannot write would arrive as none at all.
        request.check()?;
        let (runtime, lane) = (self.link.runtime(), self.link.lane(&request));
        match request {
            Request::Wait(wait) => {
                let again = |left| lane.session(RESTART_GRACE, left);
                repeat::wait(wait, lane.session(Duration::ZERO, CONNECT_TIMEOUT), again, runtime).await
            }
            request => repeat::ask(&lane, request, runtime).await,
        }
    }
}
