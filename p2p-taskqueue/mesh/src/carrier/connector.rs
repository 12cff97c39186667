use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::{AsyncRead, AsyncWrite};
use runtime_bridge::{Runtime, RuntimeExt};
use taskqueue_api::{QueueError, TaskQueue};

use crate::wire::{pipe, serve_local};

/// An open connection to [`serve_local`](crate::serve_local).
pub type Connection = Box<dyn Duplex>;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A way to a node of this machine, for example its Unix socket. Errors call the node by what this displays as.
#[async_trait]
pub trait Connector: fmt::Debug + fmt::Display + Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// `unreachable` when no node answers right now: it is worth trying again. Another code, such as `unauthorized`, when
    /// trying again does not help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    async fn connect(&self) -> Result<Connection, QueueError>;
}

/// A queue of this process. It is served over a pipe, as another process would serve it over a socket.
#[derive(Debug)]
pub(super) struct InMemory {
    pub(super) queue: Arc<dyn TaskQueue>,
    pub(super) runtime: Arc<dyn Runtime>,
}

#[async_trait]
impl Connector for InMemory {
    async fn connect(&self) -> Result<Connection, QueueError> {
        let (near, far) = pipe(PIPE_BYTES);
        // It ends with the other end of the pipe.
        self.runtime.spawn(serve_local(far, Arc::clone(&self.queue), Arc::clone(&self.runtime))).detach();
        Ok(Box::new(near))
    }
}

impl fmt::Display for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node in this process")
    }
}

/// As many bytes as a Unix socket buffers. Most messages fit.
const PIPE_BYTES: usize = 64 * 1024;
