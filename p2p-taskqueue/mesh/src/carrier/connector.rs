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

/// A way to a node of this machine, for example its Unix socket. What it displays as is what errors call the node.
#[async_trait]
pub trait Connector: fmt::Debug + fmt::Display + Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// `unreachable` when nobody is there right now, so that it is worth trying again; another code when it is not, such
    /// as `unauthorized`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    async fn connect(&self) -> Result<Connection, QueueError>;
}

/// A queue of this very process, which is served over a pipe as another process would serve it.
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

/// What a Unix socket takes without being read; most messages fit.
const PIPE_BYTES: usize = 64 * 1024;
