//! The mode `native`: HTTP and the node run on the same executor thread, and tools call the node directly on it.

use std::sync::Arc;

use anyhow::Context as _;
use p2p_taskqueue::{BridgedQueue, InlineQueue, TaskQueue};
use runtime_bridge::Bridge;

use super::{Server, ServerConfig, front::Front, node::NodeSide};
use crate::{failure::Failure, http::HttpListener};

const MODE: &str = "native";

impl Server {
    /// Starts everything, or nothing: when a later part fails, the parts before it are ended.
    pub(crate) async fn native(config: ServerConfig) -> Result<Self, Failure> {
        let locked = config.node.data_dir.lock()?;
        let listener = HttpListener::bind(&config.http).await?;
        let node = NodeSide::start(config.node, locked, MODE).await?;
        let (bridge, queue) = (node.bridge(), node.queue());
        let front = serve_there(&bridge.clone(), listener, async move { joined(bridge, queue).await }).await?;
        Ok(Self::new(node.ready(Some(front.url())), Some(front), Some(node)))
    }
}

/// Serves on the executor thread, from the queue that the future `queue` returns there.
async fn serve_there<F>(bridge: &Bridge, listener: HttpListener, queue: F) -> Result<Front, Failure>
where
    F: Future<Output = Arc<dyn TaskQueue>> + Send + 'static,
{
    let front = async move {
        let listener = listener.moved_here().context("cannot serve HTTP on the executor thread")?;
        Ok(Front::serve(listener, queue.await))
    };
    bridge.run_in_p2p(front).await.context("the executor thread failed")?
}

/// Returns the queue for handlers that rmcp spawns on tokio from the executor thread. With async-std the executor
/// thread does not drive tokio: the handlers then run on another thread, and their calls have to cross the bridge.
async fn joined(bridge: Bridge, queue: Arc<dyn TaskQueue>) -> Arc<dyn TaskQueue> {
    let here = bridge.clone();
    #[expect(clippy::disallowed_methods, reason = "the question is where rmcp's own spawning leads to")]
    let is_inline = tokio::spawn(async move { here.is_p2p_context() }).await.unwrap_or(false);
    if is_inline { Arc::new(InlineQueue::new(bridge, queue)) } else { Arc::new(BridgedQueue::new(bridge, queue)) }
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
