use std::sync::Arc;

use async_trait::async_trait;
use futures::{AsyncRead, AsyncWrite};
use runtime_bridge::{JobHandle, Runtime, RuntimeExt};

use super::timeout::timeout_of;
use crate::{
    Caller, ErrorCode, QueueError, Request, Response, TaskQueue,
    wire::{Session, SessionEnd, open},
};

/// The node of another process, over an open connection, for example its Unix socket. When the last clone is dropped, the
/// connection is closed.
#[derive(Debug, Clone)]
pub struct DaemonQueue {
    session: Session,
    /// Drives the session.
    _driver: Arc<JobHandle<SessionEnd>>,
}

impl DaemonQueue {
    /// Introduces itself over an open connection to [`serve_local`](crate::serve_local).
    ///
    /// # Errors
    ///
    /// `unreachable` when the other end does not answer, `unsupported` when it is of an incompatible version.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect<S>(io: S, runtime: Arc<dyn Runtime>) -> Result<Self, QueueError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let opened = open(io, None, Arc::clone(&runtime)).await;
        let (session, driver) = opened.map_err(|error| error.to_queue_error("the node of this machine"))?;
        Ok(Self { session, _driver: Arc::new(runtime.spawn(driver)) })
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.is_open()
    }
}

#[async_trait]
impl TaskQueue for DaemonQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        // Over there every call counts as local: a peer's must not come in that way.
        if !caller.is_local() {
            return Err(QueueError::new(
                ErrorCode::Forbidden,
                "only clients of this machine may use its node's socket",
            ));
        }
        self.session.call(&request, timeout_of(&request)).await
    }
}
