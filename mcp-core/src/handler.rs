use std::sync::Arc;

use axum::{body::Bytes, http::request::Parts};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, GetTaskParams, GetTaskResult,
        Implementation, InitializeRequestParams, InitializeResult, ListResourceTemplatesResult, ListResourcesResult,
        ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
        ServerConfig, Tool as RpcTool, ToolAnnotations, UpdateTaskParams,
    },
    service::RequestContext,
};
use serde::Serialize;
use taskqueue_api::{ErrorCode, Operation as _, QueueError, Submit, Target};
use tracing::{Instrument, field::Empty};

use crate::{
    McpConfig,
    call::{Asker, Calls},
    error::rpc_error,
    http::{RawArguments, Splice},
    mesh_tools::{FRESH, MeshTools},
    metrics::{CallNote, OTHER},
    principal::Principal,
    resources,
    tasks::{DurableTasks, Reply, Shape, Work, until_gone},
    tools::{Called, Names, Tool, ToolAnswer, default_timeout_s, ran, table},
};

/// The server handler that rmcp calls for each request. It is cheap to clone, because rmcp takes a clone for each
/// request.
#[derive(Debug, Clone)]
pub(crate) struct Handler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    calls: Arc<Calls>,
    tasks: DurableTasks,
    mesh_tools: MeshTools,
    tools: Vec<Tool>,
    /// The built-in tools as clients see them.
    listed: Vec<RpcTool>,
    info: ServerConfig,
}

impl Handler {
    pub(crate) fn new(calls: Arc<Calls>, config: &McpConfig) -> Self {
        let tools = table();
        let listed = tools.iter().map(listed).collect();
        let tasks = DurableTasks::new(Arc::clone(&calls), Shape::Answer(ran));
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().enable_tasks().build();
        let info = ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(&config.name, &config.version))
            .with_instructions(&config.instructions);
        let mesh_tools = MeshTools::new(tools.iter().map(|tool| tool.name).collect());
        Self(Arc::new(Shared { calls, tasks, mesh_tools, tools, listed, info }))
    }

    /// Calls a built-in tool or a mesh tool.
    ///
    /// # Errors
    ///
    /// The JSON-RPC error of `not_found` when neither this server nor the mesh has a tool of this name.
    async fn answer(
        &self,
        name: &str,
        arguments: &[u8],
        context: &RequestContext<RoleServer>,
    ) -> Result<Reply, ErrorData> {
        let principal = principal(context);
        let asker = Asker::new(&self.0.calls, &principal);
        let called = match self.0.tools.iter().find(|tool| tool.name == name) {
            Some(tool) => tool.call(asker, arguments).await,
            None => Box::pin(self.call_mesh(asker, name, arguments)).await?,
        };
        Ok(match called {
            Called::Answered(answer) => Reply::answered(answer, &splice(context)),
            Called::Work(work) => Box::pin(self.0.tasks.run(*work, asker, context)).await,
        })
    }

    /// Returns the name of a tool for traces and metrics. Names that others choose are not used, because their number
    /// has no bound.
    fn label(&self, name: &str) -> &'static str {
        let own = self.0.tools.iter().find(|tool| tool.name == name).map(|tool| tool.name);
        own.unwrap_or_else(|| if self.0.mesh_tools.known(name).is_some() { MESH } else { OTHER })
    }

    async fn call_mesh(&self, asker: Asker<'_>, name: &str, arguments: &[u8]) -> Result<Called, ErrorData> {
        let Some(tool) = self.0.mesh_tools.find(asker, name).await else {
            let message = format!("unknown tool {name}: tools/list names those of this server and of the mesh");
            return Err(rpc_error(&QueueError::new(ErrorCode::NotFound, message)));
        };
        Ok(match tool.submit(arguments) {
            Ok(submit) => {
                let (target, timeout_s) = (Target::default(), default_timeout_s());
                Called::Work(Box::new(Work { submit, target, timeout_s, names: Names::default() }))
            }
            Err(error) => Called::Answered(ToolAnswer::refused(&error)),
        })
    }
}

/// rmcp puts the futures of all methods into one future, and moves it for each request, whatever the method is. So
/// large futures of rare methods are boxed.
impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        self.0.info.clone()
    }

    /// Answers as rmcp's own method does, but without the Tasks extension, which is no part of the revisions that begin
    /// with `initialize`.
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
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let principal = principal(&context);
        let own = self.0.tools.iter().zip(&self.0.listed).filter(|(tool, _)| principal.allows(&tool.needs));
        let mut tools: Vec<RpcTool> = own.map(|(_, listed)| listed.clone()).collect();
        // Calling a mesh tool submits a task.
        if principal.allows(&Submit::FACTS) {
            let mesh_tools = self.0.mesh_tools.look(Asker::new(&self.0.calls, &principal)).await;
            tools.extend(mesh_tools.iter().map(|tool| tool.listed().clone()));
        }
        let mut result = ListToolsResult::with_all_items(tools);
        result.ttl_ms = Some(u64::try_from(FRESH.as_millis()).unwrap_or(u64::MAX));
        result.cache_scope = Some(CacheScope::Private);
        Ok(result)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let principal = principal(&context);
        let cursor = request.and_then(|request| request.cursor);
        resources::list(Asker::new(&self.0.calls, &principal), cursor).await
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let principal = principal(&context);
        let read = resources::read(Asker::new(&self.0.calls, &principal), &request.uri).await?;
        Ok(ReadResourceResponse::Complete(read))
    }

    fn get_tool(&self, name: &str) -> Option<RpcTool> {
        let own = self.0.listed.iter().find(|tool| tool.name == name).cloned();
        own.or_else(|| Some(self.0.mesh_tools.known(name)?.listed().clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let note = note(&context);
        let known = self.label(&request.name);
        let span = tracing::info_span!(
            "tools/call",
            otel.name = %format_args!("tools/call {known}"),
            tool = known,
            request_id = %context.id,
            traceparent = context.meta.get_traceparent(),
            outcome = Empty,
        );
        let raw = raw_arguments(&request, &context)?;
        let answering = until_gone(&context, self.answer(&request.name, &raw, &context));
        let answered = answering.instrument(span.clone()).await;
        let reply = answered.unwrap_or_else(|error| Ok(Reply::refused(&error, &splice(&context))));
        let outcome = reply.as_ref().map_or(ErrorCode::NotFound.as_str(), |reply| reply.outcome);
        // A mesh tool may have become known during the call.
        let label = self.label(&request.name);
        if label != known {
            span.record("otel.name", tracing::field::display(format_args!("tools/call {label}")));
            span.record("tool", label);
        }
        span.record("outcome", outcome);
        note.write(label, outcome);
        reply.map(|reply| reply.response)
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Box::pin(self.0.tasks.get(params, &context)).await
    }

    async fn update_task(
        &self,
        params: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Box::pin(self.0.tasks.update(params, &context)).await
    }

    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Box::pin(self.0.tasks.cancel(params, &context)).await
    }
}

/// Returns the client that the checks before rmcp have identified, or the anonymous principal over a transport without
/// these checks.
pub(crate) fn principal(context: &RequestContext<RoleServer>) -> Principal {
    from_gate(context)
}

/// Returns the note for how a call ended. Over a transport that counts nothing, nobody reads it.
fn note(context: &RequestContext<RoleServer>) -> CallNote {
    from_gate(context)
}

/// Returns the place for the text of the answer.
pub(crate) fn splice(context: &RequestContext<RoleServer>) -> Splice {
    from_gate(context)
}

/// Returns a value that the checks before rmcp have put into the extensions of the request, or the default over a
/// transport without these checks.
fn from_gate<T: Clone + Default + Send + Sync + 'static>(context: &RequestContext<RoleServer>) -> T {
    let parts = context.extensions.get::<Parts>();
    parts.and_then(|parts| parts.extensions.get()).cloned().unwrap_or_default()
}

/// Returns the arguments as the client wrote them. Over a transport that does not keep their text, returns them as rmcp
/// read them.
pub(crate) fn raw_arguments(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Bytes, ErrorData> {
    raw_or("arguments", request.arguments.as_ref(), context)
}

/// Returns the answers to the questions of a task's worker in the same way.
pub(crate) fn raw_responses(
    request: &UpdateTaskParams,
    context: &RequestContext<RoleServer>,
) -> Result<Bytes, ErrorData> {
    raw_or("inputResponses", Some(&request.input_responses), context)
}

fn raw_or<T: Serialize>(
    name: &str,
    read: Option<&T>,
    context: &RequestContext<RoleServer>,
) -> Result<Bytes, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    if let Some(RawArguments(raw)) = parts.and_then(|parts| parts.extensions.get()) {
        return Ok(raw.clone());
    }
    let Some(read) = read else { return Ok(Bytes::from_static(b"{}")) };
    let text = serde_json::to_vec(read).map_err(|error| rpc_error(&QueueError::invalid(name, error)))?;
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

/// The label under which all mesh tools are counted.
const MESH: &str = "mesh";
