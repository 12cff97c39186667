//! Operations on a whole queue, and relations between tasks: by the command line and by tools, on real nodes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{McpClient, Node, taskmesh};

/// Submits a task and returns its id.
fn submit(node: &Node, arguments: &[&str]) -> Result<String> {
    let answer = node.ask(&[&["submit"], arguments].concat())?;
    let id = answer.get("task_id").and_then(Value::as_str);
    Ok(id.with_context(|| format!("no id in {answer}"))?.to_owned())
}

/// Waits for a task's end and returns its record.
fn ended(node: &Node, id: &str) -> Result<Value> {
    let waited = node.run(&["wait", id, "--timeout", "60", "--json"])?.json()?;
    ensure!(waited.get("done") == Some(&Value::Bool(true)), "not ended: {waited}");
    waited.get("task").cloned().context("no task")
}

#[test]
fn dead_letters_are_counted_tried_again_and_removed() -> Result<()> {
    let node = Node::start(&["--worker", "broken=sh -c 'echo no such model >&2; exit 3'"])?;
    let ids = [(); 3].map(|()| submit(&node, &["broken", "--max-attempts", "1", "--label", "mine"]));
    let ids: Vec<String> = ids.into_iter().collect::<Result<_>>()?;
    for id in &ids {
        assert_eq!(ended(&node, id)?["dead"], true);
    }
    assert_eq!(node.ask(&["stats"])?["by_type"]["broken"]["failed"], 3);
    let retried = node.ask(&["retry", &ids[0]])?;
    assert_eq!((&retried["retried"], &retried["skipped"]), (&json!(1), &json!(0)), "{retried}");
    assert_eq!(ended(&node, &ids[0])?["attempt"], 1, "its attempts start anew");

    let retried = node.ask(&["retry", "--failed", "--type", "broken", "--label", "mine", "--limit", "2"])?;
    assert_eq!((&retried["retried"], &retried["more"]), (&json!(2), &json!(true)), "{retried}");
    assert_eq!(node.ask(&["retry", "--failed", "--label", "another"])?["retried"], 0);
    for id in &ids {
        ended(&node, id)?;
    }
    assert_eq!(node.ask(&["purge", "--failed", "--older-than", "3600"])?["purged"], 0);
    let purged = node.run(&["purge", "--failed"])?;
    assert_eq!(purged.stdout, "3 removed\n", "{purged:?}");
    let gone = node.run(&["get", &ids[0], "--json"])?;
    assert_eq!((gone.code, &gone.json()?["error"]["code"]), (Some(1), &json!("not_found")), "{gone:?}");
    assert_eq!(node.ask(&["retry", &ids[0]])?["skipped"], 1);
    Ok(())
}

#[test]
fn a_task_comes_after_others_and_shares_their_fate_unless_told_otherwise() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    let parent = submit(&node, &["wordcount", "--text", "a b", "--delay", "0.2"])?;
    let child = submit(&node, &["wordcount", "--text", "a b c", "--after", &parent])?;
    assert_eq!(ended(&node, &child)?["result"], 3);
    assert_eq!(ended(&node, &parent)?["result"], 2, "it ended first");

    let parent = submit(&node, &["nobody"])?;
    let fails = submit(&node, &["wordcount", "--text", "a", "--after", &parent])?;
    let runs = submit(&node, &["wordcount", "--text", "a b c d", "--after", &parent, "--run-anyway"])?;
    assert_eq!(node.ask(&["get", &runs])?["task"]["after"], json!([parent]));
    node.ask(&["cancel", &parent])?;
    let failed = ended(&node, &fails)?;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["error"].as_str().context("no error")?.contains(&parent), "{failed}");
    assert_eq!(ended(&node, &runs)?["result"], 4);
    Ok(())
}

#[test]
fn what_is_paused_is_held_and_what_drains_takes_nothing_more() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    let paused = node.ask(&["pause", "wordcount"])?;
    assert_eq!((&paused["queued"], &paused["running"]), (&json!(0), &json!(0)), "{paused}");
    let held = submit(&node, &["wordcount", "--text", "a b"])?;
    let stats = node.ask(&["stats"])?;
    assert_eq!((&stats["by_type"]["wordcount"]["queued"], &stats["paused"]), (&json!(1), &json!(false)), "{stats}");
    assert_eq!(stats["by_type"]["wordcount"]["paused"], true, "{stats}");
    assert_eq!(node.run(&["wait", &held, "--timeout", "0"])?.code, Some(1));
    node.ask(&["resume", "wordcount"])?;
    assert_eq!(ended(&node, &held)?["result"], 2);

    node.ask(&["pause", "--drain"])?;
    let refused = node.run(&["submit", "wordcount", "--json"])?;
    assert_eq!((refused.code, &refused.json()?["error"]["code"]), (Some(1), &json!("paused")), "{refused:?}");
    assert_eq!(node.ask(&["stats"])?["draining"], true);
    node.ask(&["resume"])?;
    submit(&node, &["wordcount"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_machine_are_ended_by_its_peer_id() -> Result<()> {
    let node = Node::start(&[])?;
    let client = McpClient::connect(node.http()?).await?;
    let machine = node.ask(&["status"])?["peer_id"].as_str().context("no peer id")?.to_owned();
    let other = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let task = submit(&node, &["by-hand", "--max-attempts", "1"])?;
    let claim = json!({ "worker_id": "w", "supported_task_types": ["by-hand"], "lease_s": 3_600 });
    let claimed = client.ask("p2p_taskqueue_claim_next", claim).await?;
    assert_eq!(claimed["task"]["attempts"][0]["machine"], json!(machine), "{claimed}");
    assert_eq!(node.ask(&["free", other])?["freed"], 0);
    let freed = node.run(&["free", &machine])?;
    assert_eq!(freed.stdout, "1 lease ended\n", "{freed:?}");
    let task = ended(&node, &task)?;
    assert_eq!((&task["status"], &task["failed_by"]), (&json!("failed"), &json!("queue")), "{task}");
    let attempt = &task["attempts"][0];
    assert_eq!((&attempt["machine"], &attempt["outcome"]), (&json!(machine), &json!("freed")), "{task}");
    assert_eq!(node.run(&["free", "gpu-box"])?.code, Some(2));
    Ok(())
}

#[test]
fn a_worker_takes_what_it_has_the_labels_and_the_session_for() -> Result<()> {
    let plain = Node::start(&["--worker", "wordcount=wc -w"])?;
    let gpu = submit(&plain, &["wordcount", "--text", "a", "--require", "gpu"])?;
    let session = submit(&plain, &["wordcount", "--text", "a", "--session", "s"])?;
    // This task has a lower priority, so the worker has passed over the other two when it ends.
    ended(&plain, &submit(&plain, &["wordcount", "--text", "a", "--priority", "1"])?)?;
    for id in [&gpu, &session] {
        assert_eq!(plain.ask(&["get", id])?["task"]["status"], "queued");
    }
    let able = Node::start(&["--worker", "wordcount=wc -w", "--label", "gpu", "--label", "fast", "--session", "s"])?;
    able.join(&plain)?;
    for id in [&gpu, &session] {
        assert_eq!(ended(&plain, id)?["result"], 1);
    }
    Ok(())
}

#[test]
fn limits_and_deadlines_are_kept() -> Result<()> {
    let node = Node::start(&[])?;
    let late = submit(&node, &["nobody", "--deadline", "0.05"])?;
    let failed = ended(&node, &late)?;
    assert_eq!((&failed["status"], &failed["dead"]), (&json!("failed"), &json!(true)), "{failed}");

    let limited = node.run(&["limit", "render", "2"])?;
    assert_eq!(limited.stdout, "render: at most 2 at once; 0 running\n", "{limited:?}");
    assert_eq!(node.ask(&["stats"])?["by_type"]["render"]["running_max"], 2);
    node.ask(&["limit", "render", "--none"])?;
    assert_eq!(node.ask(&["limit", "--key", "gpu", "3"])?["running"], 0);
    let zero = node.run(&["limit", "render", "0", "--json"])?;
    assert_eq!((zero.code, &zero.json()?["error"]["code"]), (Some(2), &json!("invalid_argument")), "{zero:?}");
    assert!(zero.stderr.contains("COUNT") && zero.stderr.contains("from 1 to 1000000"), "{zero:?}");
    assert_eq!(node.run(&["limit", "render"])?.code, Some(2));
    Ok(())
}

#[test]
fn the_cache_keeps_json_and_text() -> Result<()> {
    let node = Node::start(&[])?;
    let missed = node.run(&["cache", "get", "k"])?;
    assert_eq!((missed.code, missed.stdout.as_str()), (Some(1), ""), "{missed:?}");
    node.ask(&["cache", "set", "k", "--value", r#"{"b":1.0,"a":[]}"#])?;
    assert_eq!(node.run(&["cache", "get", "k"])?.stdout, "{\"b\":1.0,\"a\":[]}\n");
    node.ask(&["cache", "set", "k", "--text", "good morning", "--ttl", "60"])?;
    assert_eq!(node.run(&["cache", "get", "k"])?.stdout, "good morning\n");
    node.ask(&["cache", "set", "nothing", "--value", "null"])?;
    let null = node.ask(&["cache", "get", "nothing"])?;
    assert_eq!((&null["hit"], &null["value"]), (&json!(true), &Value::Null), "{null}");
    assert_eq!(node.run(&["cache", "has", "k"])?.code, Some(0));
    assert_eq!(node.ask(&["cache", "delete", "k"])?["deleted"], true);
    assert_eq!(node.ask(&["cache", "delete", "k"])?["deleted"], false);
    let gone = node.run(&["cache", "has", "k", "--json"])?;
    assert_eq!((gone.code, &gone.json()?["hit"]), (Some(1), &json!(false)), "{gone:?}");
    Ok(())
}

#[test]
fn several_records_are_shown_and_those_that_are_not_there_named() -> Result<()> {
    let node = Node::start(&[])?;
    let (one, two) = (submit(&node, &["a"])?, submit(&node, &["b", "--session", "s"])?);
    let got = node.ask(&["get", &two, &one])?;
    assert_eq!((&got["tasks"][0]["task_id"], &got["tasks"][1]["task_id"]), (&json!(two), &json!(one)), "{got}");
    assert_eq!(node.ask(&["list", "--session", "s"])?["tasks"].as_array().map(Vec::len), Some(1));
    let nowhere = "0".repeat(32);
    let partly = node.run(&["get", &one, &nowhere])?;
    assert_eq!(partly.code, Some(1), "{partly:?}");
    assert!(partly.stdout.contains(&one) && partly.stdout.contains(&format!("no task {nowhere}")), "{partly:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_in_batches_on_tasks_of_another_node() -> Result<()> {
    let (owner, agent) = (Node::start(&[])?, Node::start(&[])?);
    agent.join(&owner)?;
    let client = McpClient::connect(agent.http()?).await?;
    let there = owner.peer_id()?;
    let tasks = json!([{ "task_type": "t", "payload": 1 }, { "task_type": "t", "payload": 2, "priority": 9 }]);
    let submit = json!({ "tasks": tasks, "remote_peer_id": there });
    let submitted = client.ask("p2p_taskqueue_submit_many", submit).await?;
    let ids = [0, 1].map(|at| submitted["results"][at]["task_id"].clone());
    let nowhere = "0".repeat(32);
    // There is no target: the node remembers where it sent the tasks.
    let got = client.ask("p2p_taskqueue_get_tasks", json!({ "task_ids": [ids[0], nowhere, ids[1]] })).await?;
    assert_eq!((&got["tasks"][1]["payload"], &got["missing"]), (&json!(2), &json!([nowhere])), "{got}");

    let claim = json!({ "worker_id": "agent", "max_tasks": 5, "remote_peer_id": there });
    let claimed = client.ask("p2p_taskqueue_claim_many", claim).await?;
    assert_eq!(claimed["tasks"].as_array().map(Vec::len), Some(2), "{claimed}");
    assert_eq!(claimed["tasks"][0]["task_id"], ids[1], "the higher priority first");
    let complete = json!({
        "task_id": ids[1], "fence": claimed["tasks"][0]["fence"], "result": { "ok": 1 }, "remote_peer_id": there,
        "submit": [{ "task_type": "t", "payload": 3, "after": [ids[1]] }],
        "claim_next": { "worker_id": "agent", "wait_s": 30 },
    });
    let completed = client.ask("p2p_taskqueue_complete_task", complete).await?;
    assert_eq!(completed["next"]["payload"], 3, "the child is ready with its parent's end: {completed}");
    assert_eq!(completed["next"]["task_id"], completed["submitted"][0]);
    let child = client.ask("p2p_taskqueue_get_task", json!({ "task_id": completed["submitted"][0] })).await?;
    assert_eq!(child["task"]["owner"], there, "{child}");
    let stats = client.ask("p2p_taskqueue_stats", json!({ "remote_peer_id": there })).await?;
    assert_eq!((&stats["totals"]["running"], &stats["totals"]["completed"]), (&json!(2), &json!(1)), "{stats}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_agents_share_is_there_for_each() -> Result<()> {
    let node = Node::start(&[])?;
    let client = McpClient::connect(node.http()?).await?;
    let set = json!({ "key": "k", "value": { "a": null }, "ttl_s": 60, "timeout_s": 10 });
    assert_eq!(client.ask("p2p_taskqueue_cache_set", set).await?["evicted"], 0);
    let got = client.ask("p2p_taskqueue_cache_get", json!({ "key": "k" })).await?;
    assert_eq!((&got["hit"], &got["value"]), (&json!(true), &json!({ "a": null })), "{got}");
    for name in ["one", "two"] {
        let beat = json!({ "peer_id": name, "clock": { "vector": { name: 7 } } });
        client.ask("p2p_taskqueue_heartbeat", beat).await?;
    }
    let heard = client.ask("p2p_taskqueue_heartbeat", json!({ "peer_id": "one" })).await?;
    let known = &heard["scheduler"]["known_peers"];
    assert_eq!((&known[0]["peer_id"], &known[1]["peer_id"]), (&json!("one"), &json!("two")), "{heard}");
    assert_eq!(heard["scheduler"]["clock"]["vector"]["two"], 7, "{heard}");
    assert_eq!(heard["scheduler"]["clock"]["vector"][node.peer_id()?], 3, "{heard}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_with_its_record_and_what_does_not() -> Result<()> {
    let node = Node::start(&["--worker", "echo=cat", "--worker", "broken=false"])?;
    let client = McpClient::connect(node.http()?).await?;
    for number in 0..8 {
        let run = json!({ "task_type": "echo", "payload": number, "result_ttl_s": 0 });
        let ran = client.ask("run_task", run).await?;
        assert_eq!((&ran["done"], &ran["task"]["result"]), (&json!(true), &json!(number)), "{ran}");
    }
    // An idempotency key counts as long as its task's record exists.
    let keyed = json!({ "task_type": "none", "idempotency_key": "k" });
    let first = client.ask("p2p_taskqueue_submit", keyed.clone()).await?;
    client.ask("p2p_taskqueue_cancel_task", json!({ "task_id": first["task_id"] })).await?;
    assert_eq!(client.ask("p2p_taskqueue_submit", keyed.clone()).await?["task_id"], first["task_id"]);
    client.ask("p2p_taskqueue_purge", json!({ "task_ids": [first["task_id"]] })).await?;
    let second = client.ask("p2p_taskqueue_submit", keyed).await?;
    assert!(second["duplicate"] == false && second["task_id"] != first["task_id"], "{second}");
    // A child of a failed task does not become able to run when the record of its parent is removed.
    let parent = submit(&node, &["broken", "--max-attempts", "1"])?;
    let child = submit(&node, &["echo", "--after", &parent])?;
    assert_eq!(ended(&node, &child)?["status"], "failed");
    node.ask(&["purge", &parent])?;
    let retried = node.ask(&["retry", "--failed"])?;
    assert_eq!((&retried["retried"], &retried["skipped"]), (&json!(0), &json!(1)), "{retried}");
    // A tool and a command answer the same page.
    let (by_tool, by_command) =
        (client.ask("p2p_taskqueue_list_tasks", json!({ "limit": 2 })).await?, node.ask(&["list", "--limit", "2"])?);
    assert_eq!((&by_tool["tasks"], &by_tool["tasks"][0]["task_id"]), (&by_command["tasks"], &json!(child)));
    Ok(())
}

#[test]
fn a_store_is_repaired_while_no_node_runs() -> Result<()> {
    let mut node = Node::start(&[])?;
    let id = submit(&node, &["kept"])?;
    let busy = node.run(&["repair"])?;
    assert_eq!(busy.code, Some(2), "{busy:?}");
    assert!(busy.stderr.contains("in use"), "{busy:?}");
    node.stop(Signal::TERM)?;
    let report = node.ask(&["repair"])?;
    assert_eq!((&report["tasks"], &report["lost"]), (&json!(1), &json!([])), "{report}");
    assert!(Path::new(report["kept_at"].as_str().context("no path")?).exists(), "{report}");
    node.start_again()?;
    assert_eq!(node.ask(&["get", &id])?["task"]["status"], "queued");
    let empty = tempfile::tempdir()?;
    let none = taskmesh(empty.path(), &["repair", "--json"])?;
    assert_eq!((none.code, &none.json()?["ok"]), (Some(2), &json!(false)), "{none:?}");
    Ok(())
}
