//! A worker of one machine is a tool of an agent on another one.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::harness::{McpClient, Node, until_async};

const CONFIG: &str = r#"
[[worker.tool]]
name = "add"
command = COMMAND
description = "Adds two numbers."
input_schema = { type = "object", properties = { a = { type = "number" }, b = { type = "number" } }, required = ["a", "b"] }
"#;

/// Polls until the tool is listed, or not listed any more. A change is seen a moment after it happened.
async fn listed(client: &McpClient, name: &str, is_there: bool) -> Result<()> {
    until_async(format_args!("{name}: {is_there}"), async || {
        let listed = client.tools().await?.iter().any(|tool| tool == name);
        Ok((listed == is_there).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_says_how_to_use_it_is_a_tool_of_every_agent_of_the_mesh() -> Result<()> {
    let agents = Node::start(&[])?;
    let client = McpClient::connect(agents.http()?).await?;
    assert!(!client.tools().await?.contains(&"add".to_owned()));

    let config = tempfile::NamedTempFile::new()?;
    // A shell alone computes the sum, so no other program is needed.
    let sum = r#"sh -c 'read -r line; a=${line#*:}; a=${a%%,*}; b=${line##*:}; b=${b%\}*}; echo $((a + b))'"#;
    std::fs::write(config.path(), CONFIG.replace("COMMAND", &format!("'''{sum}'''")))?;
    let path = config.path().to_str().context("no path")?;
    let mut worker = Node::start(&["--config", path])?;
    worker.join(&agents)?;

    listed(&client, "add", true).await?;
    let answer = client.ask("add", json!({ "a": 20, "b": 22 })).await?;
    let task = &answer["task"];
    assert_eq!((&answer["done"], &task["result"], &task["task_type"]), (&json!(true), &json!(42), &json!("add")));
    assert_eq!(task["owner"], agents.peer_id()?, "the task stays with the node that was asked");
    let description = client.description("add").await?;
    assert!(description.starts_with("Adds two numbers."), "{description}");

    worker.kill()?;
    listed(&client, "add", false).await?;
    let refused = client.call("add", json!({ "a": 1, "b": 2 })).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("unknown tool")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_the_command_line_is_a_tool_that_takes_a_payload() -> Result<()> {
    let node = Node::start(&["--worker", "shout=tr a-z A-Z"])?;
    let client = McpClient::connect(node.http()?).await?;
    let answer = client.ask("shout", json!({ "payload": "good morning" })).await?;
    assert_eq!(answer["task"]["result"], Value::from("GOOD MORNING"));
    Ok(())
}
