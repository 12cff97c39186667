#![expect(deprecated, reason = "the suite still asks for what 2026-07-28 has deprecated")]

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use mcp_core::stack::{self, DurableTasks};
use p2p_taskqueue::api::Submit;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ClientCapabilities,
        CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, GetPromptRequestParams, GetPromptResponse,
        GetTaskParams, GetTaskResult, Implementation, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
        ListResourcesResult, ListToolsResult, LoggingLevel, LoggingMessageNotificationParam, PaginatedRequestParams,
        ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
        SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
        UpdateTaskParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{sync::broadcast, time::interval};

use crate::{
    book::{Book, expansion, fill_text, filled},
    dialogue::{Seal, Turn},
    jobs,
};

/// The server that the suite tests.
#[derive(Debug, Clone)]
pub(crate) struct Fixture(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Book,
    seal: Seal,
    tasks: DurableTasks,
    /// The tools that trigger a change send to it, and every open subscription receives from it.
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Tools,
    Prompts,
}

type Context = RequestContext<RoleServer>;

impl Fixture {
    pub(crate) fn new(tasks: DurableTasks) -> Result<Self> {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Ok(Self(Arc::new(Shared { book: Book::open()?, seal: Seal::new()?, tasks, changes })))
    }

    /// Answers a tool from the book.
    fn known(&self, name: &str, arguments: &JsonObject) -> Result<CallToolResult, ErrorData> {
        match self.0.book.results.get(name) {
            Some(result) => fixture(result, arguments),
            None => Err(ErrorData::invalid_params(format!("unknown tool {name}"), None)),
        }
    }

    /// Submits the task of a tool, and answers with its handle or with its result.
    async fn submit(&self, submit: Submit, context: &Context) -> Result<CallToolResponse, ErrorData> {
        if jobs::needs_handle(&submit.task_type) && !DurableTasks::declared(context) {
            let required = ClientCapabilities::builder().enable_tasks().build();
            return Err(ErrorData::missing_required_client_capability(required));
        }
        self.0.tasks.run(submit, WAIT_S, context).await
    }

    fn changed(&self, change: Change) -> CallToolResult {
        // Nobody may have subscribed.
        self.0.changes.send(change).ok();
        text("announced")
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("conformance-fixture", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: Context) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.book.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.book.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: Context) -> Result<CallToolResponse, ErrorData> {
        let mut arguments = stack::arguments(&request, &context)?;
        let name = request.name.as_ref();
        if let Some(dialogue) = self.0.book.dialogues.get(name) {
            let client = context.client_capabilities().unwrap_or_default();
            let (responses, state) = (request.input_responses.as_ref(), request.request_state.as_deref());
            match dialogue.turn(&self.0.seal, name, &client, responses, state)? {
                Turn::Ask(ask) => return Ok(ask.into()),
                Turn::Told(told) => arguments = told,
            }
        }
        if let Some(submit) = jobs::submit(name, &arguments) {
            return self.submit(submit, &context).await;
        }
        if let Some(dialogue) = self.0.book.dialogues.get(name) {
            return Ok(text(&fill_text(&dialogue.answer, &arguments)).into());
        }
        let result = match name {
            "test_tool_with_progress" => progressing(&context).await,
            "test_tool_with_logging" | "test_logging_tool" => logging(&context).await,
            "test_missing_capability" => sampling(&context)?,
            "test_trigger_tool_change" => self.changed(Change::Tools),
            "test_trigger_prompt_change" => self.changed(Change::Prompts),
            name => self.known(name, &arguments)?,
        };
        Ok(result.into())
    }

    async fn get_task(&self, request: GetTaskParams, context: Context) -> Result<GetTaskResult, ErrorData> {
        self.0.tasks.get(request, &context).await
    }

    async fn update_task(&self, request: UpdateTaskParams, context: Context) -> Result<(), ErrorData> {
        self.0.tasks.update(request, &context).await
    }

    async fn cancel_task(&self, request: CancelTaskParams, context: Context) -> Result<(), ErrorData> {
        self.0.tasks.cancel(request, &context).await
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(self.0.book.prompts.clone()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = request.name.as_str();
        let Some(messages) = self.0.book.messages.get(name) else {
            return Err(ErrorData::invalid_params(format!("unknown prompt {name}"), None));
        };
        let mut arguments = request.arguments.unwrap_or_default();
        if let Some(dialogue) = self.0.book.dialogues.get(name) {
            let client = context.client_capabilities().unwrap_or_default();
            let (responses, state) = (request.input_responses.as_ref(), request.request_state.as_deref());
            match dialogue.turn(&self.0.seal, name, &client, responses, state)? {
                Turn::Ask(ask) => return Ok(ask.into()),
                Turn::Told(told) => arguments.extend(told),
            }
        }
        Ok(GetPromptResponse::Complete(fixture(messages, &arguments)?))
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(self.0.book.resources.clone()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(self.0.book.templates.clone()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        let fits = |template: &str| expansion(template, &uri).or_else(|| (template == uri).then(JsonObject::new));
        let found = self.0.book.contents.iter().find_map(|(known, contents)| Some((contents, fits(known)?)));
        let Some((contents, arguments)) = found else {
            return Err(ErrorData::resource_not_found("no such resource", Some(json!({ "uri": uri }))));
        };
        Ok(ReadResourceResponse::Complete(fixture(contents, &arguments)?))
    }

    async fn complete(&self, request: CompleteRequestParams, _: Context) -> Result<CompleteResult, ErrorData> {
        let words = ["paris", "park", "party"].into_iter().filter(|word| word.starts_with(&request.argument.value));
        let values = CompletionInfo::with_all_values(words.map(str::to_owned).collect());
        Ok(CompleteResult::new(values.map_err(|error| ErrorData::internal_error(error, None))?))
    }

    /// Accepts the level and does not keep it: without sessions there is no client to keep it for.
    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.0.changes.subscribe();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = subscription.cancelled() => return Ok(()),
            };
            let sink = subscription.sink();
            // The sink refuses notifications that the client did not ask for.
            match change {
                Ok(Change::Tools) => sink.notify_tool_list_changed().await.ok(),
                Ok(Change::Prompts) => sink.notify_prompt_list_changed().await.ok(),
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
        }
    }
}

/// Reports progress if the client asked for it.
async fn progressing(context: &Context) -> CallToolResult {
    let mut pause = interval(PAUSE);
    for progress in [0.0, 50.0, 100.0] {
        pause.tick().await;
        if let Some(token) = context.meta.get_progress_token() {
            let param = ProgressNotificationParam::new(token, progress).with_total(100.0);
            context.peer.notify_progress(param).await.ok();
        }
    }
    text("done")
}

/// Logs three lines. From revision 2026-07-28 on, only a client that asked for them with this request gets them.
async fn logging(context: &Context) -> CallToolResult {
    let modern = context.meta.protocol_version().is_some();
    let wanted = !modern || context.meta.log_level().is_some();
    let mut pause = interval(PAUSE);
    for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        pause.tick().await;
        if wanted {
            let param = LoggingMessageNotificationParam::new(LoggingLevel::Info, line.into());
            context.peer.notify_logging_message(param).await.ok();
        }
    }
    text("done")
}

fn sampling(context: &Context) -> Result<CallToolResult, ErrorData> {
    if context.client_capabilities().is_some_and(|client| client.sampling.is_some()) {
        return Ok(text("the client samples"));
    }
    let required = ClientCapabilities::builder().enable_sampling().build();
    Err(ErrorData::missing_required_client_capability(required))
}

fn text(text: &str) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn fixture<T: DeserializeOwned>(result: &Value, arguments: &JsonObject) -> Result<T, ErrorData> {
    filled(result, arguments).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The wait for a task, in seconds, on behalf of a client that does not follow tasks.
const WAIT_S: f64 = 60.0;

/// The pause between notifications, as the suite prescribes it: long enough to tell them apart.
const PAUSE: Duration = Duration::from_millis(50);

/// The most changes that may wait for an open subscription. A change carries no data, so one that is lost matters
/// little.
const CHANGES_MAX: usize = 16;
