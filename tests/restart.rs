//! Nodes that are killed and started again.

use std::{
    io::{BufRead as _, BufReader},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::harness::{DEADLINE, Gate, LICENCE, McpClient, Node, licence_words, taskmesh_command};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_owner_is_killed_after_the_submit_is_done_after_its_restart() -> Result<()> {
    let mut owner = Node::start(&[])?;
    let worker = Node::start(&["--worker", "wordcount=wc -w"])?;
    worker.join(&owner)?;

    let client = McpClient::connect(owner.http()?).await?;
    let submitted = client.ask("p2p_taskqueue_submit", json!({ "task_type": "wordcount", "payload": LICENCE })).await?;
    owner.kill()?;
    owner.start_again()?;

    let client = McpClient::connect(owner.http()?).await?;
    let wait = json!({ "task_id": submitted["task_id"], "timeout_s": 60 });
    let waited = client.ask("p2p_taskqueue_wait_task", wait).await?;
    assert_eq!(waited["task"]["result"], licence_words(), "{waited}");
    Ok(())
}

/// The first node submits, and the second one owns the task. The first is killed before it can wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_after_handing_a_task_on_finds_the_result_after_its_restart() -> Result<()> {
    let mut asking = Node::start(&[])?;
    let worker = Node::start(&["--worker", "wordcount=wc -w"])?;
    worker.join(&asking)?;

    let client = McpClient::connect(asking.http()?).await?;
    let submit = json!({ "task_type": "wordcount", "payload": LICENCE, "peer_id": worker.peer_id()? });
    let submitted = client.ask("p2p_taskqueue_submit", submit).await?;
    asking.kill()?;
    asking.start_again()?;

    let client = McpClient::connect(asking.http()?).await?;
    let wait = json!({ "task_id": submitted["task_id"], "timeout_s": 60 });
    let waited = client.ask("p2p_taskqueue_wait_task", wait).await?;
    assert_eq!(waited["task"]["result"], licence_words(), "{waited}");
    Ok(())
}

/// Eight clients submit as fast as they can. The node is killed in the middle, five times on the same files.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() -> Result<()> {
    let mut node = Node::start(&[])?;
    let mut acknowledged = Vec::new();
    for _ in 0..5 {
        let client = Arc::new(McpClient::connect(node.http()?).await?);
        let (answer, mut answers) = mpsc::channel(64);
        let mut submitters = JoinSet::new();
        for _ in 0..8 {
            let (client, answer) = (Arc::clone(&client), answer.clone());
            submitters.spawn(async move {
                let submit = || client.ask("p2p_taskqueue_submit", json!({ "task_type": "kept", "payload": [1] }));
                while let Ok(submitted) = submit().await {
                    answer.send(submitted["task_id"].clone()).await.ok();
                }
            });
        }
        drop(answer);
        for _ in 0..40 {
            acknowledged.push(answers.recv().await.context("the submits have ended early")?);
        }
        node.kill()?;
        while let Some(late) = timeout(DEADLINE, answers.recv()).await? {
            acknowledged.push(late);
        }
        node.start_again()?;
        let client = McpClient::connect(node.http()?).await?;
        for task_id in &acknowledged {
            let got = client.ask("p2p_taskqueue_get_task", json!({ "task_id": task_id })).await?;
            assert_eq!(got["task"]["status"], "queued", "{got}");
        }
    }
    assert!(acknowledged.len() >= 200, "{}", acknowledged.len());
    Ok(())
}

/// A user who waits on the command line is told how to go on.
#[test]
fn a_wait_that_is_cut_off_names_the_task() -> Result<()> {
    let (begun, go) = (Gate::new()?, Gate::new()?);
    let command = format!("gated=sh -c 'echo > {}; cat {}'", begun.path().display(), go.path().display());
    let mut node = Node::start(&["--worker", &command])?;
    let arguments = ["submit", "gated", "--wait", "--json", "-v"];
    let mut client = taskmesh_command(node.folder()).args(arguments).spawn()?;
    // The task may begin before its submit is answered, so the client's log tells when it waits.
    let mut log = BufReader::new(client.stderr.take().context("no standard error")?).lines();
    while !log.next().context("the client has ended")??.contains("waiting for its end") {}
    begun.written()?;
    node.kill()?;
    let answer: Value = serde_json::from_slice(&client.wait_with_output()?.stdout)?;
    // The wait was cut off in the middle, or before it was on its way.
    let code = answer["error"]["code"].as_str();
    assert!(matches!(code, Some("interrupted" | "unreachable")), "{answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|message| message.contains("taskmesh wait ")), "{answer}");
    Ok(())
}

/// The owner is killed while the worker runs its task. The result waits until the owner is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_ready_while_the_owner_is_away_reaches_it_later() -> Result<()> {
    let (begun, go) = (Gate::new()?, Gate::new()?);
    let command = format!("gated=sh -c 'echo > {}; cat {}'", begun.path().display(), go.path().display());
    let mut owner = Node::start(&[])?;
    let worker = Node::start(&["--worker", &command])?;
    worker.join(&owner)?;

    let submitted = owner.ask(&["submit", "gated"])?;
    begun.written()?;
    owner.kill()?;
    go.write("it was worth the wait")?;
    owner.start_again()?;

    let client = McpClient::connect(owner.http()?).await?;
    let wait = json!({ "task_id": submitted["task_id"], "timeout_s": 60 });
    let waited = client.ask("p2p_taskqueue_wait_task", wait).await?;
    assert_eq!(waited["task"]["result"], "it was worth the wait", "{waited}");
    assert_eq!(waited["task"]["attempt"], 1, "it was done once");
    Ok(())
}
