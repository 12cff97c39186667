//! Handles over a real queue on disk, whose worker is another client of the server.

use std::{path::Path, sync::Arc};

use p2p_taskqueue::{
    PeerId, TaskId,
    store::{SqliteStore, StoreOptions},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, and, modern},
    queue::TestQueue,
    task_methods::{about, follower, get},
    task_states::form,
};

/// Makes a client of a server over the queue in this file.
fn open(file: &Path) -> Client {
    let owner = PeerId::random();
    let store = SqliteStore::open(file, StoreOptions::new(owner)).unwrap();
    Client::new(TestQueue::over(Arc::new(store), owner))
}

async fn run(client: &Client, more: Value) -> TaskId {
    let arguments = and(json!({ "task_type": "wordcount", "payload": "a b" }), more);
    let params = json!({ "name": "run_task", "arguments": arguments });
    let reply = client.send(modern("tools/call", Some("run_task"), params, &follower())).await;
    let handle = reply.result();
    assert_eq!(handle["resultType"], "task", "{handle}");
    handle["taskId"].as_str().unwrap().parse().unwrap()
}

async fn claim(client: &Client) -> Value {
    let arguments = json!({ "worker_id": "w", "supported_task_types": ["wordcount"], "lease_s": 60 });
    client.done("p2p_taskqueue_claim_next", arguments).await["task"].clone()
}

/// Calls a tool as the worker of the task, which the claim returned.
async fn as_worker(client: &Client, tool: &str, task: &Value, more: Value) -> Value {
    client.done(tool, and(json!({ "task_id": task["task_id"], "fence": task["fence"] }), more)).await
}

#[tokio::test]
async fn a_handle_follows_its_task_from_the_submit_over_a_restart_to_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite3");
    let client = open(&file);
    let id = run(&client, json!({})).await;
    assert_eq!(get(&client, id).await["statusMessage"], "queued");
    let task = claim(&client).await;
    as_worker(&client, "p2p_taskqueue_fail_task", &task, json!({ "error": "no ink", "delay_s": 0 })).await;
    assert_eq!(get(&client, id).await["statusMessage"], "queued again after a failed attempt: no ink");
    drop(client);
    let client = open(&file);
    let task = claim(&client).await;
    as_worker(&client, "p2p_taskqueue_renew_task", &task, json!({ "progress": 0.5, "status_message": "half" })).await;
    assert_eq!(get(&client, id).await["statusMessage"], "half (50 %)");
    as_worker(&client, "p2p_taskqueue_complete_task", &task, json!({ "result": { "words": 2 } })).await;
    drop(client);
    let state = get(&open(&file), id).await;
    assert_eq!(state["status"], "completed");
    assert_eq!(state["result"]["structuredContent"]["task"]["result"], json!({ "words": 2 }));
}

#[tokio::test]
async fn what_the_worker_asks_is_answered_through_the_handle() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(&folder.path().join("queue.sqlite3"));
    let id = run(&client, json!({})).await;
    let task = claim(&client).await;
    let both = json!({ "input_requests": { "a": form("One?"), "b": form("Two?") } });
    let renewed = as_worker(&client, "p2p_taskqueue_renew_task", &task, both.clone()).await;
    assert_eq!(renewed.get("input_responses"), None);
    let state = get(&client, id).await;
    assert_eq!((&state["status"], state["inputRequests"].as_object().unwrap().len()), (&json!("input_required"), 2));
    let answer = json!({ "action": "accept", "content": { "sure": true } });
    let update = async |responses: Value| {
        let params = json!({ "inputResponses": responses });
        assert_eq!(about(&client, "tasks/update", &id.to_string(), params).await.result()["resultType"], "complete");
    };
    update(json!({ "a": answer, "unknown": {} })).await;
    let state = get(&client, id).await;
    assert_eq!(state["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["b"]);
    update(json!({ "a": { "action": "decline" }, "b": answer })).await;
    assert_eq!(get(&client, id).await["status"], "working");
    let renewed = as_worker(&client, "p2p_taskqueue_renew_task", &task, both).await;
    assert_eq!(renewed["input_responses"], json!({ "a": answer, "b": answer }), "the first answer counts");
}

#[tokio::test]
async fn the_record_tells_a_failed_task_from_one_that_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(&folder.path().join("queue.sqlite3"));
    let failed = run(&client, json!({ "max_attempts": 1 })).await;
    let task = claim(&client).await;
    as_worker(&client, "p2p_taskqueue_fail_task", &task, json!({ "error": "no ink" })).await;
    let state = get(&client, failed).await;
    assert_eq!((&state["status"], &state["result"]["isError"]), (&json!("completed"), &json!(true)));
    let given_up = run(&client, json!({ "deadline_s": 0.05 })).await;
    let wait = json!({ "task_id": given_up.to_string(), "timeout_s": 30 });
    assert_eq!(client.done("p2p_taskqueue_wait_task", wait).await["task"]["failed_by"], "queue");
    let state = get(&client, given_up).await;
    assert_eq!((&state["status"], &state["error"]["code"]), (&json!("failed"), &json!(-32603)));
}

#[tokio::test]
async fn a_task_is_called_off_through_its_handle() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(&folder.path().join("queue.sqlite3"));
    let cancel = async |id: TaskId| {
        let reply = about(&client, "tasks/cancel", &id.to_string(), json!({})).await;
        assert_eq!(reply.result()["resultType"], "complete");
    };
    let queued = run(&client, json!({})).await;
    cancel(queued).await;
    cancel(queued).await;
    let state = get(&client, queued).await;
    assert_eq!((&state["status"], &state["statusMessage"]), (&json!("cancelled"), &json!("cancelled by its client")));
    let running = run(&client, json!({})).await;
    let task = claim(&client).await;
    cancel(running).await;
    assert_eq!(get(&client, running).await["status"], "working");
    let renewed = as_worker(&client, "p2p_taskqueue_renew_task", &task, json!({ "lease_s": 60 })).await;
    assert_eq!(renewed["cancel_requested"], true);
    as_worker(&client, "p2p_taskqueue_fail_task", &task, json!({ "error": "stopped" })).await;
    assert_eq!(get(&client, running).await["status"], "cancelled");
}
