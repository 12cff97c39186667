use std::sync::Arc;

use axum::{body::Bytes, http::request::Parts};
use p2p_taskqueue::{ErrorCode, QueueError};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, GetTaskParams, GetTaskResult,
        Implementation, InitializeRequestParams, InitializeResult, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool as RpcTool, ToolAnnotations, UpdateTaskParams,
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
    tasks::{DurableTasks, Reply, until_gone},
    tools::{Called, Tool, ran, table},
};

/// What rmcp asks for each request. Cheap to clone: rmcp takes one for each.
#[derive(Debug, Clone)]
pub(crate) struct Handler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    calls: Arc<Calls>,
    tasks: DurableTasks,
    tools: Vec<Tool>,
    /// The tools as clients see them.
    listed: Vec<RpcTool>,
    info: ServerConfig,
}

impl Handler {
    pub(crate) fn new(calls: Arc<Calls>, config: &McpConfig) -> Self {
        let tools = table();
        let listed = tools.iter().map(listed).collect();
        let tasks = DurableTasks::new(Arc::clone(&calls), |task, done| ran(task, done).into());
        let info = ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
            .with_server_info(Implementation::new(&config.name, &config.version))
            .with_instructions(&config.instructions);
        Self(Arc::new(Shared { calls, tasks, tools, listed, info }))
    }

    async fn answer(&self, tool: &Tool, arguments: &[u8], context: &RequestContext<RoleServer>) -> Reply {
        let principal = principal(context);
        let asker = Asker::new(&self.0.calls, &principal);
        let answering = async {
            match tool.call(asker, arguments).await {
                Called::Answered(answer) => answer.into(),
                Called::Work(work) => self.0.tasks.run(*work, asker, context).await,
            }
        };
        until_gone(context, answering).await.unwrap_or_else(|error| Reply::refused(&error))
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        self.0.info.clone()
    }

    /// As rmcp's own, but for the Tasks extension: it is no part of the revisions that begin this way.
    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        result.capabilities.extensions = None;
        Ok(result)
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
        let reply = self.answer(tool, &raw, &context).instrument(span.clone()).await;
        span.record("outcome", reply.outcome);
        note.write(tool.name, reply.outcome);
        Ok(reply.response)
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.0.tasks.get(params, &context).await
    }

    async fn update_task(
        &self,
        params: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.tasks.update(params, &context).await
    }

    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.tasks.cancel(params, &context).await
    }
}

/// Who asks, as the checks before rmcp found out; nobody in particular over a transport that has none.
pub(crate) fn principal(context: &RequestContext<RoleServer>) -> Principal {
    let parts = context.extensions.get::<Parts>();
    parts.and_then(|parts| parts.extensions.get()).cloned().unwrap_or_default()
}

/// Where to say how a call ended; over a transport that counts nothing, nobody reads it.
fn note(context: &RequestContext<RoleServer>) -> CallNote {
    let parts = context.extensions.get::<Parts>();
    parts.and_then(|parts| parts.extensions.get()).cloned().unwrap_or_default()
}

/// The arguments as the client wrote them; over a transport that does not keep them, as rmcp read them.
pub(crate) fn raw_arguments(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Bytes, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    if let Some(RawArguments(raw)) = parts.and_then(|parts| parts.extensions.get()) {
        return Ok(raw.clone());
    }
    let Some(arguments) = &request.arguments else { return Ok(Bytes::from_static(b"{}")) };
    let text = serde_json::to_vec(arguments).map_err(|error| rpc_error(&QueueError::invalid("arguments", error)))?;
    Ok(text.into())
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
