//! The HTTP side: an MCP server that answers from a queue.

use std::{sync::Arc, time::Duration};

use mcp_core::McpServer;
use p2p_taskqueue::TaskQueue;
use tokio_util::sync::CancellationToken;

use crate::http::{HttpListener, HttpServer};

/// A running MCP server. Dropping it cuts off its clients.
#[derive(Debug)]
pub(super) struct Front {
    url: String,
    http: HttpServer,
    /// The MCP server holds the other end: when this is cancelled, it answers the calls that wait.
    stopping: CancellationToken,
}

impl Front {
    /// Serves on the tokio runtime that the caller is in.
    pub(super) fn serve(listener: HttpListener, queue: Arc<dyn TaskQueue>) -> Self {
        Self::serve_probing(listener, Arc::clone(&queue), queue)
    }

    /// Serves as [`serve`](Self::serve) does. Probes ask `probed` whether the queue answers.
    pub(super) fn serve_probing(listener: HttpListener, queue: Arc<dyn TaskQueue>, probed: Arc<dyn TaskQueue>) -> Self {
        let (url, stopping) = (listener.url(), CancellationToken::new());
        let mcp = McpServer::new(queue, listener.mcp().with_shutdown(stopping.clone())).with_probed(probed);
        Self { url, http: listener.serve(&mcp), stopping }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Takes no more calls, answers those that wait, and lets the others end for a bounded time. May be awaited on any
    /// tokio runtime.
    pub(super) async fn shutdown(self) {
        self.stopping.cancel();
        self.http.shutdown(DRAIN).await;
    }
}

/// The longest time for requests to end. They end while the workers do, and have less time than those.
const DRAIN: Duration = Duration::from_millis(500);
