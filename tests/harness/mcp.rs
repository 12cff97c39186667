use anyhow::{Context as _, Result, bail, ensure};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _, RoleClient,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, ClientConfig, DetailedTask,
        GetTaskParams, Implementation, InputResponses, ProtocolVersion, Task, UpdateTaskParams,
    },
    service::{RunningService, ServiceError},
    transport::StreamableHttpClientTransport,
};
use serde_json::Value;

use super::Era;

/// An MCP client like that of an agent.
pub(crate) struct McpClient(RunningService<RoleClient, ClientConfig>);

impl McpClient {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Self::connect_as(url, Era::Legacy, ClientCapabilities::default()).await
    }

    /// Connects a client of this revision with these capabilities.
    pub(crate) async fn connect_as(url: &str, era: Era, capabilities: ClientCapabilities) -> Result<Self> {
        let client = ClientConfig::new(capabilities, Implementation::new("test", "1"));
        let lifecycle = match era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        let transport = StreamableHttpClientTransport::from_uri(url);
        Ok(Self(client.serve_with_lifecycle(transport, lifecycle).await?))
    }

    pub(crate) async fn tools(&self) -> Result<Vec<String>> {
        Ok(self.0.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// Returns the description of a tool, as the client sees it.
    pub(crate) async fn description(&self, tool: &str) -> Result<String> {
        let tools = self.0.list_all_tools().await?;
        let found = tools.into_iter().find(|listed| listed.name == tool).and_then(|listed| listed.description);
        Ok(found.with_context(|| format!("no description of {tool}"))?.into_owned())
    }

    /// Calls a tool and returns its structured answer, whether it is `ok` or not.
    pub(crate) async fn call(&self, tool: &'static str, arguments: Value) -> Result<Value> {
        match self.respond(tool, arguments).await? {
            CallToolResponse::Complete(result) => {
                result.structured_content.with_context(|| format!("{tool} answered nothing"))
            }
            other => bail!("{tool} answered {other:?}"),
        }
    }

    /// Calls a tool that has to succeed.
    pub(crate) async fn ask(&self, tool: &'static str, arguments: Value) -> Result<Value> {
        let answer = self.call(tool, arguments).await?;
        ensure!(answer.get("ok") == Some(&Value::Bool(true)), "{tool}: {answer}");
        Ok(answer)
    }

    /// Calls a tool that has to answer with the handle of a task.
    pub(crate) async fn handle(&self, tool: &'static str, arguments: Value) -> Result<Task> {
        match self.respond(tool, arguments).await? {
            CallToolResponse::Task(created) => Ok(created.task),
            other => bail!("{tool} answered {other:?}"),
        }
    }

    async fn respond(&self, tool: &'static str, arguments: Value) -> Result<CallToolResponse> {
        let Value::Object(arguments) = arguments else { bail!("arguments are an object") };
        Ok(self.0.call_tool_once(CallToolRequestParams::new(tool).with_arguments(arguments)).await?)
    }

    /// Returns the state of the task of a handle.
    pub(crate) async fn state(&self, task: &Task) -> Result<DetailedTask, ServiceError> {
        Ok(self.0.get_task(GetTaskParams::new(&task.task_id)).await?.task)
    }

    /// Answers the questions of the worker of a task.
    pub(crate) async fn answer(&self, task: &Task, responses: InputResponses) -> Result<()> {
        Ok(self.0.update_task(UpdateTaskParams::new(&task.task_id, responses)).await?)
    }

    /// Cancels the task of a handle.
    pub(crate) async fn cancel(&self, task: &Task) -> Result<()> {
        Ok(self.0.cancel_task(CancelTaskParams::new(&task.task_id)).await?)
    }
}
