//! The modes: where the MCP server and the node run. They start and end in the same way.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{McpClient, Node, STOP, at, while_busy};

/// Checks that a node in native mode says where its tools run, does a task, and ends in time while a client waits.
async fn native(runtime: &str, is_inline: bool) -> Result<()> {
    let arguments = ["--mode", "native", "--p2p-runtime", runtime, "--worker", "wordcount=wc -w"];
    let mut node = Node::start(&arguments)?;
    assert_eq!((node.ready("mode")?, node.ready("p2p_runtime")?), (&"native".into(), &runtime.into()));

    let client = McpClient::connect(node.http()?).await?;
    let status = client.ask("p2p_taskqueue_status", json!({ "detail": true })).await?;
    assert_eq!(
        (at(&status, "/mode"), at(&status, "/bridge/inline")),
        (&"native".into(), &is_inline.into()),
        "{status}"
    );
    let ran = client.ask("run_task", json!({ "task_type": "wordcount", "payload": "a b c" })).await?;
    assert_eq!(at(&ran, "/task/result"), 3, "{ran}");

    let later = client.ask("p2p_taskqueue_submit", json!({ "task_type": "later", "payload": 1 })).await?;
    let wait = json!({ "task_id": at(&later, "/task_id"), "timeout_s": 600 });
    let waiting = client.call("p2p_taskqueue_wait_task", wait);
    tokio::pin!(waiting);
    // After the first poll the request is on its way. The signal may arrive at any point of it.
    let none = tokio::time::timeout(Duration::ZERO, &mut waiting).await;
    assert!(none.is_err(), "the task cannot have ended");
    let (status, took, stderr) = tokio::task::block_in_place(|| node.stop(Signal::TERM))?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(took < while_busy(STOP), "{took:?}; {stderr}");
    assert!(!node.folder().join("taskmesh.sock").exists(), "the socket is gone");

    node.start_again()?;
    let id = at(&later, "/task_id").as_str().unwrap_or_default();
    assert_eq!(at(&node.ask(&["get", id])?, "/task/status"), "queued");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn native_on_tokio_calls_the_node_where_it_is() -> Result<()> {
    native("tokio", true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn native_on_smol_calls_the_node_where_it_is() -> Result<()> {
    native("smol", true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn native_on_async_std_says_that_its_calls_cross() -> Result<()> {
    native("async-std", false).await
}

#[test]
fn the_mode_can_stand_in_the_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.toml"), "[server]\nmode = \"native\"\n")?;
    let usual = ["--p2p-listen", "/ip4/127.0.0.1/tcp/0"];
    let node = Node::start_on(folder, None, &usual)?;
    assert_eq!(node.ready("mode")?, "native");
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.toml"), "[server]\nmode = \"native\"\n")?;
    let node = Node::start_on(folder, None, &[&usual[..], &["--mode", "bridge"]].concat())?;
    assert_eq!(node.ready("mode")?, "bridge", "the command line wins");
    Ok(())
}
