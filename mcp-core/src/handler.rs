use std::sync::Arc;

use axum::{body::Bytes, http::request::Parts};
use p2p_taskqueue::{ErrorCode, QueueError};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool as RpcTool, ToolAnnotations,
    },
    service::RequestContext,
};
use tracing::{Instrument, field::Empty};

use crate::{
    McpConfig,
    call::{Asker, Calls},
    error::rpc_error,
    http::RawArguments,
    metrics::{CallNote, OTHER},
    principal::Principal,
    tools::{Answer, Tool, table},
};

/// What rmcp asks for each request. Cheap to clone: rmcp takes one for each.
#[derive(Debug, Clone)]
pub(crate) struct Handler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    calls: Arc<Calls>,
    tools: Vec<Tool>,
    /// The tools as clients see them.
    listed: Vec<RpcTool>,
    info: ServerConfig,
}

impl Handler {
    pub(crate) fn new(calls: Arc<Calls>, config: &McpConfig) -> Self {
        let tools = table();
        let listed = tools.iter().map(listed).collect();
        let info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(&config.name, &config.version))
            .with_instructions(&config.instructions);
        Self(Arc::new(Shared { calls, tools, listed, info }))
    }

    /// Answers until the client goes away: rmcp itself lets a handler run on.
    async fn answer(&self, tool: &Tool, arguments: &[u8], context: &RequestContext<RoleServer>) -> Answer {
        let principal = principal(context);
        tokio::select! {
            answer = tool.call(Asker::new(&self.0.calls, &principal), arguments) => answer,
            () = context.ct.cancelled() => {
                Answer::refused(&QueueError::new(ErrorCode::Interrupted, "the client went away"))
            }
        }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        self.0.info.clone()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut result = ListToolsResult::with_all_items(self.0.listed.clone());
        result.ttl_ms = Some(LIST_TTL_MS);
        result.cache_scope = Some(CacheScope::Private);
        Ok(result)
    }

    fn get_tool(&self, name: &str) -> Option<RpcTool> {
        self.0.listed.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let note = note(&context);
        let Some(tool) = self.0.tools.iter().find(|tool| tool.name == request.name) else {
            note.write(OTHER, ErrorCode::NotFound.as_str());
            let message = format!("unknown tool {}", request.name);
            return Err(rpc_error(&QueueError::new(ErrorCode::NotFound, message)));
        };
        let span = tracing::info_span!(
            "tools/call",
            otel.name = %format_args!("tools/call {}", tool.name),
            tool = tool.name,
            request_id = %context.id,
            traceparent = context.meta.get_traceparent(),
            outcome = Empty,
        );
        let raw = raw_arguments(&request, &context)?;
        let answer = self.answer(tool, &raw, &context).instrument(span.clone()).await;
        span.record("outcome", answer.outcome);
        note.write(tool.name, answer.outcome);
        Ok(CallToolResponse::Complete(result(answer)))
    }
}

/// Who asks, as the checks before rmcp found out; nobody in particular over a transport that has none.
fn principal(context: &RequestContext<RoleServer>) -> Principal {
    let parts = context.extensions.get::<Parts>();
    parts.and_then(|parts| parts.extensions.get()).cloned().unwrap_or_default()
}

/// Where to say how a call ended; over a transport that counts nothing, nobody reads it.
fn note(context: &RequestContext<RoleServer>) -> CallNote {
    let parts = context.extensions.get::<Parts>();
    parts.and_then(|parts| parts.extensions.get()).cloned().unwrap_or_default()
}

/// The arguments as the client wrote them; over a transport that does not keep them, as rmcp read them.
fn raw_arguments(request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> Result<Bytes, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    if let Some(RawArguments(raw)) = parts.and_then(|parts| parts.extensions.get()) {
        return Ok(raw.clone());
    }
    let Some(arguments) = &request.arguments else { return Ok(Bytes::from_static(b"{}")) };
    let text = serde_json::to_vec(arguments).map_err(|error| rpc_error(&QueueError::invalid("arguments", error)))?;
    Ok(text.into())
}

fn result(answer: Answer) -> CallToolResult {
    let mut result = CallToolResult::success(Vec::new());
    result.is_error = Some(!answer.is_ok());
    result.content = vec![ContentBlock::text(answer.text)];
    result.structured_content = Some(answer.structured);
    result
}

fn listed(tool: &Tool) -> RpcTool {
    let hints = tool.hints;
    let annotations = ToolAnnotations::with_title(tool.title)
        .read_only(hints.read_only)
        .destructive(hints.destructive)
        .idempotent(hints.idempotent)
        .open_world(hints.open_world);
    RpcTool::new(tool.name, tool.description, Arc::clone(&tool.input))
        .with_title(tool.title)
        .with_raw_output_schema(Arc::clone(&tool.output))
        .with_annotations(annotations)
}

/// The list changes only with the program: long enough to spare clients the asking, short enough after an update.
const LIST_TTL_MS: u64 = 300_000;
