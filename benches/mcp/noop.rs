//! The cost of rmcp alone: a tool that does nothing, served as `taskmesh` serves its own tools, but without its checks.

use std::{future, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Builder};

use super::Error;

/// The argument that makes a process of this benchmark that server.
pub(crate) const FLAG: &str = "--noop-server";

/// The same as in the program.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
struct Noop(Tool);

impl ServerHandler for Noop {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        (name == "noop").then(|| self.0.clone())
    }

    fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<CallToolResponse, ErrorData>> + Send {
        let result = CallToolResult::success(vec![ContentBlock::text("ok")]);
        future::ready(Ok(CallToolResponse::Complete(result)))
    }
}

/// Serves until the process is killed.
#[expect(clippy::print_stdout, reason = "the line that says that it is ready")]
pub(crate) fn serve() -> Result<(), Error> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", json!({ "http": format!("http://{}/mcp", listener.local_addr()?) }));
        let schema = json!({ "type": "object" }).as_object().cloned().unwrap_or_default();
        let noop = Noop(Tool::new("noop", "Does nothing.", Arc::new(schema)));
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_legacy_session_mode(false)
            .with_json_response(true);
        let service: StreamableHttpService<Noop, NeverSessionManager> =
            StreamableHttpService::new(move || Ok(noop.clone()), Arc::default(), config);
        let router = Router::new().route_service("/mcp", service);
        let runtime = tokio::runtime::Handle::current();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
            drop(runtime.spawn(served));
        }
    })
}
