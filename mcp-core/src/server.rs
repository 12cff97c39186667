use std::{fmt, sync::Arc};

use axum::{Router, http::StatusCode, middleware, response::Response, routing};
use rmcp::{
    ServerHandler,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use taskqueue_api::TaskQueue;

use crate::{
    McpConfig,
    call::Calls,
    error::Refusal,
    handler::Handler,
    http::{Door, Gate, Mirrors, Probes, Scrapes, admit, healthz, metrics, no_connection, readyz},
};

/// The MCP server over a queue.
#[derive(Clone)]
pub struct McpServer {
    gate: Arc<Gate>,
    calls: Arc<Calls>,
    /// The carrier by which `/readyz` asks whether the queue answers.
    probed: Arc<dyn TaskQueue>,
    handler: Handler,
}

impl McpServer {
    /// Makes the server over a queue. Nothing runs yet.
    #[must_use]
    pub fn new(queue: Arc<dyn TaskQueue>, config: McpConfig) -> Self {
        let calls = Arc::new(Calls::new(Arc::clone(&queue), &config));
        let handler = Handler::new(Arc::clone(&calls), &config);
        Self { gate: Arc::new(Gate::new(config)), calls, probed: queue, handler }
    }

    /// Sets another carrier by which `/readyz` asks whether the queue answers. Tool calls do not use this carrier, so
    /// they cannot fill it up.
    #[must_use]
    pub fn with_probed(self, queue: Arc<dyn TaskQueue>) -> Self {
        Self { probed: queue, ..self }
    }

    /// Returns the service. The program that binds the listener serves it.
    ///
    /// | path | |
    /// |---|---|
    /// | `POST /mcp` | MCP over Streamable HTTP, behind the checks of host, origin, token and user and all bounds |
    /// | `GET /healthz` | 200 while the process answers; no checks, says nothing more |
    /// | `GET /readyz` | 200 when the queue answers, 503 when it does not or the server is stopping; no checks |
    /// | `GET /metrics` | what Prometheus reads, behind the same checks |
    ///
    /// With [`McpConfig::with_own_user_only`] the program also tells which user each connection comes from.
    ///
    /// The service must be polled within a tokio runtime with time enabled. Three settings are left to the program that
    /// binds the listener, because they belong to the connection: `TCP_NODELAY`, without which an answer may be held
    /// back for 40 ms; the time limit for the head of a request (hyper's `header_read_timeout`, which needs hyper's
    /// timer set); and the number of connections.
    pub fn router(&self) -> Router {
        router(self.handler.clone(), &self.gate, &self.calls, Arc::clone(&self.probed))
    }

    /// Returns the service for a few connections beyond the allowed number. It answers `/healthz` and `/readyz`, and
    /// refuses everything else with 503 and `overloaded`. So a full server can be told from one that does not answer.
    pub fn full_router(&self) -> Router {
        probes_router(&self.gate, Arc::clone(&self.probed)).fallback(no_connection)
    }
}

/// Makes a router that serves an rmcp handler behind the checks and bounds, and the health and metrics paths beside it.
pub(crate) fn router<H: ServerHandler + Clone>(
    handler: H,
    gate: &Arc<Gate>,
    calls: &Arc<Calls>,
    probed: Arc<dyn TaskQueue>,
) -> Router {
    let probes = probes_router(gate, probed);
    let scrapes = Arc::new(Scrapes::new(Arc::clone(gate), Arc::clone(calls)));
    let door = Door { gate: Arc::clone(gate), mirrors: Mirrors::of(handler.clone()) };
    let gate = middleware::from_fn_with_state(door, admit);
    Router::new()
        .route_service("/mcp", mcp(handler))
        .route_layer(gate)
        .route("/metrics", routing::get(metrics).with_state(scrapes))
        .merge(probes)
        .fallback(unknown_path)
        .method_not_allowed_fallback(other_method)
}

fn probes_router(gate: &Arc<Gate>, probed: Arc<dyn TaskQueue>) -> Router {
    let probes = Arc::new(Probes::new(Arc::clone(gate), probed));
    Router::new().route("/healthz", routing::get(healthz)).route("/readyz", routing::get(readyz).with_state(probes))
}

async fn unknown_path() -> Response {
    Refusal::of_status(StatusCode::NOT_FOUND, "there is nothing at this path: MCP is at /mcp").into_response()
}

async fn other_method() -> Response {
    Refusal::of_status(StatusCode::METHOD_NOT_ALLOWED, "this path takes no such method").into_response()
}

fn mcp<H: ServerHandler + Clone>(handler: H) -> StreamableHttpService<H, NeverSessionManager> {
    // The gate has checked host, origin and size, and answers in JSON, so rmcp's own checks are off. rmcp does not get
    // the shutdown token either: it would answer the calls in flight with an error instead of letting them end.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(usize::MAX)
        .with_legacy_session_mode(false)
        .with_json_response(true);
    StreamableHttpService::new(move || Ok(handler.clone()), Arc::default(), config)
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer").field("gate", &self.gate).finish_non_exhaustive()
    }
}
