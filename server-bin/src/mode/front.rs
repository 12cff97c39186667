//! The HTTP side: an MCP server over a queue.

use std::{sync::Arc, time::Duration};

use mcp_core::McpServer;
use p2p_taskqueue::TaskQueue;
use tokio_util::sync::CancellationToken;

use crate::http::{HttpListener, HttpServer};

/// An MCP server that runs. Dropping it cuts its clients off.
#[derive(Debug)]
pub(super) struct Front {
    url: String,
    http: HttpServer,
    /// The MCP server holds the other end: cancelled, it answers the calls that wait.
    stopping: CancellationToken,
}

impl Front {
    /// Serves on the tokio runtime that the caller is in.
    pub(super) fn serve(listener: HttpListener, queue: Arc<dyn TaskQueue>) -> Self {
        Self::serve_probing(listener, Arc::clone(&queue), queue)
    }

    /// The same, with a way of its own by which probes ask whether the queue answers.
    pub(super) fn serve_probing(listener: HttpListener, queue: Arc<dyn TaskQueue>, probed: Arc<dyn TaskQueue>) -> Self {
        let (url, stopping) = (listener.url(), CancellationToken::new());
        let mcp = McpServer::new(queue, listener.mcp().with_shutdown(stopping.clone())).with_probed(probed);
        Self { url, http: listener.serve(&mcp), stopping }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Takes no more calls, answers those that wait, and lets the others end. May be awaited on any tokio runtime.
    pub(super) async fn shutdown(self) {
        self.stopping.cancel();
        self.http.shutdown(DRAIN).await;
    }
}

/// Runs beside the end of the workers, and is over before it.
const DRAIN: Duration = Duration::from_millis(500);
