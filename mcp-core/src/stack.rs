//! The HTTP stack and the durable tasks of this crate, for another handler. The conformance suite uses them: its
//! fixtures are no tools of the product.
//!
//! This module is no part of the crate's interface. It changes as rmcp does.

use std::sync::Arc;

use axum::Router;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, GetTaskParams, GetTaskResult,
        JsonObject, UpdateTaskParams,
    },
    service::RequestContext,
};
use taskqueue_api::{QueueError, Submit, Target, TaskQueue, TaskRecord};

use crate::{
    McpConfig,
    call::{Asker, Calls},
    error::rpc_error,
    handler::{principal, raw_arguments, splice},
    http::Gate,
    server,
    tasks::{self, Reply, Shape, Work, until_gone},
    tools::Names,
};

/// Makes a router that serves the handler as `McpServer::router` serves the product's.
pub fn router<H: ServerHandler + Clone>(handler: H, config: McpConfig, queue: Arc<dyn TaskQueue>) -> Router {
    let calls = Arc::new(Calls::new(Arc::clone(&queue), &config));
    server::router(handler, &Arc::new(Gate::new(config)), &calls, queue)
}

/// Returns the arguments of a tool call, which the checks before rmcp have taken out of the message.
///
/// # Errors
///
/// The JSON-RPC error of `invalid_argument` when the arguments are not a JSON object.
pub fn arguments(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<JsonObject, ErrorData> {
    let raw = raw_arguments(request, context)?;
    serde_json::from_slice(&raw).map_err(|error| rpc_error(&QueueError::invalid("arguments", error)))
}

/// Tool calls that are durable tasks, and the methods by which clients follow them.
#[derive(Debug, Clone)]
pub struct DurableTasks(tasks::DurableTasks);

impl DurableTasks {
    /// Makes the tasks of a queue. `shape` makes a tool's result of a record; its second argument says whether the task
    /// has ended.
    #[must_use]
    pub fn new(queue: Arc<dyn TaskQueue>, config: &McpConfig, shape: fn(TaskRecord, bool) -> CallToolResult) -> Self {
        Self(tasks::DurableTasks::new(Arc::new(Calls::new(queue, config)), Shape::Result(shape)))
    }

    /// Returns whether the client of this request can be given a handle.
    #[must_use]
    pub fn declared(context: &RequestContext<RoleServer>) -> bool {
        tasks::declares(context)
    }

    /// Submits the task and answers with its handle. A client that cannot be given a handle gets the end of the task
    /// instead.
    ///
    /// # Errors
    ///
    /// None. Refusals of the queue are answers.
    ///
    /// # Cancel safety
    ///
    /// A task that was submitted goes on.
    pub async fn run(
        &self,
        submit: Submit,
        timeout_s: f64,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let principal = principal(context);
        let asker = Asker::new(self.0.calls(), &principal);
        let work = Work { submit, target: Target::default(), timeout_s, names: Names::default() };
        let reply = until_gone(context, self.0.run(work, asker, context)).await;
        Ok(reply.unwrap_or_else(|error| Reply::refused(&error, &splice(context))).response)
    }

    /// Answers `tasks/get`.
    ///
    /// # Errors
    ///
    /// The JSON-RPC error for the client.
    pub async fn get(
        &self,
        params: GetTaskParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.0.get(params, context).await
    }

    /// Answers `tasks/update`.
    ///
    /// # Errors
    ///
    /// The JSON-RPC error for the client.
    pub async fn update(
        &self,
        params: UpdateTaskParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.update(params, context).await
    }

    /// Answers `tasks/cancel`.
    ///
    /// # Errors
    ///
    /// The JSON-RPC error for the client.
    pub async fn cancel(
        &self,
        params: CancelTaskParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.cancel(params, context).await
    }
}
