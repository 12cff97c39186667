//! The end of a node by SIGTERM and ctrl-c.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Gate, McpClient, Node, STOP, while_busy};

#[test]
fn an_idle_node_ends_in_time_with_code_0() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(&[])?;
        let (status, took, stderr) = node.stop(signal)?;
        assert_eq!(status.code(), Some(0), "{signal:?}: {stderr}");
        assert!(took < while_busy(STOP), "{signal:?}: {took:?}; {stderr}");
        assert!(!node.folder().join("taskmesh.sock").exists(), "the socket is gone");
    }
    Ok(())
}

/// There are a queued task, a running one and a waiting client. None of them delays the end, and both tasks are done
/// afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_ends_in_time_and_loses_no_task() -> Result<()> {
    let (begun, marks) = (Gate::new()?, tempfile::tempdir()?);
    // The first attempt never ends by itself; a later one finds its mark.
    let mark = marks.path().join("mark");
    let script = format!(
        "if [ -e {mark} ]; then echo second; else touch {mark}; echo > {begun}; sleep 1000; fi",
        mark = mark.display(),
        begun = begun.path().display()
    );
    let mut node = Node::start(&["--worker", &format!("stubborn=sh -c '{script}'")])?;
    let running = node.ask(&["submit", "stubborn"])?;
    let queued = node.ask(&["submit", "stubborn"])?;
    begun.written()?;
    let client = McpClient::connect(node.http()?).await?;
    let id = running["task_id"].clone();
    let waiting = client.call("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 600 }));
    // After the first poll the request is on its way. The signal may arrive at any point of it.
    tokio::pin!(waiting);
    let none = tokio::time::timeout(Duration::ZERO, &mut waiting).await;
    assert!(none.is_err(), "the task cannot have ended");

    let (status, took, stderr) = tokio::task::block_in_place(|| node.stop(Signal::TERM))?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(took < while_busy(STOP), "{took:?}; {stderr}");

    node.start_again()?;
    for task in [&running, &queued] {
        let id = task["task_id"].as_str().context("no id")?;
        let waited = node.ask(&["wait", id])?;
        assert_eq!(waited["task"]["result"], "second", "{waited}");
        assert_eq!(waited["task"]["attempt"], 1, "a task that was given back has its attempt back");
    }
    Ok(())
}

/// The task's owner is gone and cannot take the task back. That must not delay the end of the worker's node.
#[test]
fn a_worker_whose_owner_is_away_ends_in_time() -> Result<()> {
    let begun = Gate::new()?;
    let command = format!("endless=sh -c 'echo > {}; sleep 1000'", begun.path().display());
    let mut owner = Node::start(&[])?;
    let mut worker = Node::start(&["--worker", &command])?;
    worker.join(&owner)?;
    owner.ask(&["submit", "endless"])?;
    begun.written()?;
    owner.kill()?;
    let (status, took, stderr) = worker.stop(Signal::TERM)?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(took < while_busy(STOP), "{took:?}; {stderr}");
    Ok(())
}

#[test]
fn a_restarted_node_keeps_its_identity_and_its_tasks() -> Result<()> {
    let mut node = Node::start(&[])?;
    let peer_id = node.peer_id()?;
    let submitted = node.ask(&["submit", "later", "--payload", "[1]"])?;
    node.stop(Signal::TERM)?;
    node.start_again()?;
    assert_eq!(node.peer_id()?, peer_id);
    let got = node.ask(&["get", submitted["task_id"].as_str().context("no id")?])?;
    assert_eq!((&got["task"]["status"], &got["task"]["payload"]), (&json!("queued"), &json!([1])));
    Ok(())
}
