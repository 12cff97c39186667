//! The main example: a text is submitted on one machine, and another one counts its words.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::harness::{LICENCE, McpClient, Node, licence_words};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_on_another_node_counts_the_words_of_a_task_of_this_one() -> Result<()> {
    let owner = Node::start(&[])?;
    let worker = Node::start(&["--worker", "wordcount=wc -w"])?;
    worker.join(&owner)?;

    let client = McpClient::connect(owner.http()?).await?;
    let tools = client.tools().await?;
    for tool in ["submit", "get_task", "wait_task", "list_tasks", "status", "claim_next", "complete_task"] {
        assert!(tools.contains(&format!("p2p_taskqueue_{tool}")), "no {tool} in {tools:?}");
    }
    assert!(tools.contains(&"list_peers".to_owned()), "{tools:?}");
    let submit = json!({ "task_type": "wordcount", "payload": LICENCE });
    let submitted = client.ask("p2p_taskqueue_submit", submit).await?;
    assert_eq!(submitted["peer_id"], owner.peer_id()?, "the task stays with the node that accepted it");

    let wait = json!({ "task_id": submitted["task_id"], "timeout_s": 60 });
    let waited = client.ask("p2p_taskqueue_wait_task", wait).await?;
    assert_eq!(waited["done"], true, "{waited}");
    assert_eq!(waited["task"]["result"], licence_words());
    assert_eq!(waited["task"]["payload"], LICENCE, "the payload is kept as given");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_for_a_named_peer_is_kept_there_and_found_from_here() -> Result<()> {
    let asking = Node::start(&[])?;
    let worker = Node::start(&["--worker", "wordcount=wc -w"])?;
    worker.join(&asking)?;

    let client = McpClient::connect(asking.http()?).await?;
    let submit = json!({ "task_type": "wordcount", "payload": LICENCE, "peer_id": worker.peer_id()? });
    let submitted = client.ask("p2p_taskqueue_submit", submit).await?;
    assert_eq!(submitted["peer_id"], worker.peer_id()?);

    // There is no target: the node remembers where it sent the task.
    let wait = json!({ "task_id": submitted["task_id"], "timeout_s": 60 });
    let waited = client.ask("p2p_taskqueue_wait_task", wait).await?;
    assert_eq!(waited["task"]["result"], licence_words(), "{waited}");
    let got = client.ask("p2p_taskqueue_get_task", json!({ "task_id": submitted["task_id"] })).await?;
    assert_eq!(got["task"]["owner"], worker.peer_id()?);
    Ok(())
}

#[test]
fn the_command_line_submits_waits_and_prints_the_result_alone() -> Result<()> {
    let owner = Node::start(&[])?;
    let worker = Node::start(&["--worker", "wordcount=wc -w", "--worker", "shout=tr a-z A-Z"])?;
    worker.join(&owner)?;

    let licence = concat!("@", env!("CARGO_MANIFEST_DIR"), "/../LICENSE-APACHE");
    let counted = owner.run(&["submit", "wordcount", "--text", licence, "--wait"])?;
    assert_eq!((counted.code, counted.stdout.trim()), (Some(0), licence_words().to_string().as_str()), "{counted:?}");
    let shouted = owner.run(&["submit", "shout", "--text", "good morning", "--wait"])?;
    assert_eq!(shouted.stdout, "GOOD MORNING\n", "{shouted:?}");

    // The command asks the peer directly, with the identity of this folder, while the folder's node runs.
    let direct = owner.run(&["submit", "wordcount", "--text", "a b c", "--wait", "--peer", &worker.address()?])?;
    assert_eq!(direct.stdout, "3\n", "{direct:?}");
    Ok(())
}

#[test]
fn a_failing_command_fails_its_task_with_code_and_standard_error() -> Result<()> {
    let node = Node::start(&["--worker", "broken=sh -c 'echo no such model >&2; exit 3'"])?;
    let ended = node.run(&["submit", "broken", "--max-attempts", "1", "--wait", "--json"])?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let ended = ended.json()?;
    assert_eq!((&ended["task"]["status"], &ended["task"]["dead"]), (&json!("failed"), &json!(true)));
    let error = ended["task"]["error"].as_str().context("no error")?;
    assert!(error.contains("code 3") && error.contains("no such model"), "{error}");
    Ok(())
}

#[test]
fn a_payload_reaches_the_command_as_given() -> Result<()> {
    let node = Node::start(&["--worker", "echo=cat", "--worker", "id=sh -c 'echo $TASKMESH_TASK_ID'"])?;
    let payload = r#"{ "z": [1.50, 12345678901234567890123], "a": "x y" }"#;
    let echoed = node.run(&["submit", "echo", "--payload", payload, "--wait"])?;
    assert_eq!(echoed.stdout.trim_end(), r#"{"z":[1.50,12345678901234567890123],"a":"x y"}"#);
    let ended: Value = node.ask(&["submit", "id", "--wait"])?;
    assert_eq!(ended["task"]["result"], ended["task_id"]);
    Ok(())
}
