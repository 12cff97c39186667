use anyhow::{Context as _, Result, ensure};
use rmcp::{
    RoleClient, ServiceExt as _, model::CallToolRequestParams, service::RunningService,
    transport::StreamableHttpClientTransport,
};
use serde_json::Value;

/// An MCP client, as an agent has one.
pub(crate) struct McpClient(RunningService<RoleClient, ()>);

impl McpClient {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(().serve(StreamableHttpClientTransport::from_uri(url)).await?))
    }

    pub(crate) async fn tools(&self) -> Result<Vec<String>> {
        Ok(self.0.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// What the client is told of a tool.
    pub(crate) async fn description(&self, tool: &str) -> Result<String> {
        let tools = self.0.list_all_tools().await?;
        let found = tools.into_iter().find(|listed| listed.name == tool).and_then(|listed| listed.description);
        Ok(found.with_context(|| format!("no description of {tool}"))?.into_owned())
    }

    /// Calls a tool for its structured answer, whether `ok` or not.
    pub(crate) async fn call(&self, tool: &'static str, arguments: Value) -> Result<Value> {
        let Value::Object(arguments) = arguments else { anyhow::bail!("arguments are an object") };
        let result = self.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        result.structured_content.with_context(|| format!("{tool} answered nothing"))
    }

    /// Calls a tool that has to succeed.
    pub(crate) async fn ask(&self, tool: &'static str, arguments: Value) -> Result<Value> {
        let answer = self.call(tool, arguments).await?;
        ensure!(answer.get("ok") == Some(&Value::Bool(true)), "{tool}: {answer}");
        Ok(answer)
    }
}
