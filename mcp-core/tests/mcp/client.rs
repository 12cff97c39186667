use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header, request::Builder},
};
use mcp_core::{McpConfig, McpServer};
use p2p_taskqueue::Json;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::queue::TestQueue;

/// A client of one server, in this process.
pub(crate) struct Client {
    pub(crate) router: Router,
    /// The router for connections beyond the bound.
    pub(crate) full: Router,
    pub(crate) queue: Arc<TestQueue>,
}

pub(crate) async fn answered_by(router: &Router, request: Request<Body>) -> Reply {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Reply { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// Returns the value of the future. The test fails when it does not come in time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes before the deadline")
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Client {
    pub(crate) fn new(queue: TestQueue) -> Self {
        Self::with_config(queue, McpConfig::default())
    }

    pub(crate) fn with_config(queue: TestQueue, config: McpConfig) -> Self {
        Self::over(&Arc::new(queue), config)
    }

    /// Makes a client of another server over the same queue.
    pub(crate) fn over(queue: &Arc<TestQueue>, config: McpConfig) -> Self {
        let queue = Arc::clone(queue);
        let server = McpServer::new(queue.clone(), config);
        Self { router: server.router(), full: server.full_router(), queue }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        answered_by(&self.router, request).await
    }

    /// Sends a message as a client of 2025-11-25.
    pub(crate) async fn legacy(&self, message: &Value) -> Reply {
        self.send(legacy().body(Body::from(message.to_string())).unwrap()).await
    }

    /// Calls a tool and returns its result.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let reply = self.legacy(&call(tool, arguments)).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply.result()
    }

    /// Calls a tool whose answer must be `ok:true`, and returns the answer.
    pub(crate) async fn done(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], false, "{tool}: {result}");
        assert_eq!(result["structuredContent"]["ok"], true, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool whose answer must be `ok:false`, and returns the error.
    pub(crate) async fn refused(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        assert_eq!(result["structuredContent"]["ok"], false, "{tool}: {result}");
        result["structuredContent"]["error"].clone()
    }

    /// Drives a request until its call waits in the queue.
    pub(crate) async fn until_held(&self, pending: &mut (impl Future<Output = Reply> + Unpin)) {
        tokio::select! {
            reply = pending => panic!("answered already: {reply:?}"),
            () = self.queue.held.notified() => {}
        }
    }

    /// Returns the answer, while a worker takes one task and completes it with this result.
    pub(crate) async fn worked<T>(&self, answer: impl Future<Output = T>, result: Value) -> T {
        let work = async { self.queue.claim().await.complete(Json::from_value(&result).unwrap()).await };
        tokio::join!(answer, work).0
    }

    pub(crate) async fn tools(&self) -> Vec<Value> {
        let reply = self.legacy(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
        reply.result()["tools"].as_array().unwrap().clone()
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn result(&self) -> Value {
        let message = self.json();
        message.get("result").unwrap_or_else(|| panic!("no result: {message}")).clone()
    }
}

pub(crate) fn post() -> Builder {
    Request::post("/mcp")
        .header(header::HOST, "127.0.0.1:8765")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
}

/// Makes a request of a client of 2026-07-28. It has all that the server must know of the client.
pub(crate) fn modern(method: &str, name: Option<&str>, mut params: Value, capabilities: &Value) -> Request<Body> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    });
    match params.get_mut("_meta").and_then(Value::as_object_mut) {
        Some(own) => own.extend(meta.as_object().unwrap().clone()),
        None => params["_meta"] = meta,
    }
    let message = json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": params });
    let request = post().header("mcp-protocol-version", MODERN).header("mcp-method", method);
    let request = name.into_iter().fold(request, |request, name| request.header("mcp-name", name));
    request.body(Body::from(message.to_string())).unwrap()
}

pub(crate) fn legacy() -> Builder {
    post().header("mcp-protocol-version", "2025-11-25")
}

#[expect(clippy::needless_pass_by_value, reason = "every call site makes the value in place")]
pub(crate) fn call(tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// Adds more arguments.
#[expect(clippy::needless_pass_by_value, reason = "every call site makes the value in place")]
pub(crate) fn and(mut arguments: Value, more: Value) -> Value {
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    arguments
}

/// Makes a tool call of a client of 2025-11-25. In its arguments this text stands in place of the word `PAYLOAD`.
pub(crate) fn call_with(tool: &str, arguments: Value, payload: &str) -> Request<Body> {
    legacy().body(Body::from(call(tool, arguments).to_string().replace("\"PAYLOAD\"", payload))).unwrap()
}

/// How long a test waits for anything, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const MODERN: &str = "2026-07-28";

/// Makes a request of a client of 2026-07-28 that declares no capabilities.
pub(crate) fn modern_plain(method: &str, name: Option<&str>, params: Value) -> Request<Body> {
    modern(method, name, params, &json!({}))
}
