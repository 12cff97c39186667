use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use taskqueue_api::{ErrorCode, QueueError};
use taskqueue_mesh::{Connection, Connector};
use tokio::net::UnixStream;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

/// Connects to the Unix socket of this machine's node. It needs a tokio context, which the executor thread has.
#[derive(Debug)]
pub(crate) struct UnixConnector {
    path: PathBuf,
}

impl UnixConnector {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

#[async_trait]
impl Connector for UnixConnector {
    async fn connect(&self) -> Result<Connection, QueueError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let message = format!("{self} is another user's: run this program as the user of the node");
                QueueError::new(ErrorCode::Unauthorized, message)
            }
            // Most likely the path is too long for a socket.
            io::ErrorKind::InvalidInput => QueueError::invalid("socket", format_args!("{self}: {error}")),
            _ => QueueError::new(ErrorCode::Unreachable, format!("cannot connect to {self}: {error}")),
        })?;
        Ok(Box::new(stream.compat()))
    }
}

impl fmt::Display for UnixConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node at unix:{}", self.path.display())
    }
}
