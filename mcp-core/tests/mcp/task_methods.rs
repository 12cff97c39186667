//! Which clients get a handle, and which may use it.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request as HttpRequest, StatusCode, header},
};
use mcp_core::{BearerToken, McpConfig};
use p2p_taskqueue::{ErrorCode, Json, QueueError, Request, TaskId, TaskStatus};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, call, legacy, modern},
    queue::{BEGAN_S, TestQueue, clock},
    task_states::form,
    work::Lease,
};

/// Returns the capabilities of a client that follows tasks and can show forms.
pub(crate) fn follower() -> Value {
    json!({ "elicitation": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

/// Calls `run_task` as a client of 2026-07-28.
pub(crate) async fn run(client: &Client, capabilities: &Value) -> Reply {
    let params = json!({ "name": "run_task", "arguments": { "task_type": "wordcount", "payload": "a b" } });
    client.send(modern("tools/call", Some("run_task"), params, capabilities)).await
}

/// Calls one of the extension's methods about a task.
pub(crate) async fn about(client: &Client, method: &str, id: &str, mut params: Value) -> Reply {
    params["taskId"] = json!(id);
    client.send(modern(method, Some(id), params, &follower())).await
}

pub(crate) async fn get(client: &Client, id: TaskId) -> Value {
    about(client, "tasks/get", &id.to_string(), json!({})).await.result()
}

async fn update(client: &Client, id: TaskId, responses: Value) -> Reply {
    about(client, "tasks/update", &id.to_string(), json!({ "inputResponses": responses })).await
}

async fn cancel(client: &Client, id: TaskId) -> Reply {
    about(client, "tasks/cancel", &id.to_string(), json!({})).await
}

/// Makes the configuration of a server that asks for a token, and so knows its client.
fn with_token() -> McpConfig {
    McpConfig::default().with_client("client", BearerToken::new(TOKEN))
}

#[tokio::test]
async fn a_client_that_follows_tasks_gets_the_queues_own_task() {
    let clock = clock(BEGAN_S);
    let client = Client::new(TestQueue::at(&clock));
    let reply = run(&client, &follower()).await;
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    let handle = reply.result();
    let id = client.queue.only().await;
    assert!(matches!(client.queue.last(), Request::Get(get) if get.task_id == id), "the record was not read");
    assert_eq!(handle["taskId"], id.to_string());
    assert_eq!((&handle["resultType"], &handle["status"]), (&json!("task"), &json!("working")));
    assert_eq!(handle["createdAt"], "1970-01-01T00:00:01.500Z");
    assert_eq!(handle["lastUpdatedAt"], handle["createdAt"]);
    for absent in ["task", "result", "content", "structuredContent"] {
        assert_eq!(handle.get(absent), None, "{handle}");
    }
    assert_eq!(get(&client, id).await["status"], "working");
    clock.advance(Duration::from_secs(1));
    client.queue.claim().await.complete(Json::null()).await;
    let state = get(&client, id).await;
    assert_eq!((&state["resultType"], &state["status"]), (&json!("complete"), &json!("completed")));
    assert_eq!(state["createdAt"], "1970-01-01T00:00:01.500Z");
    assert_eq!(state["lastUpdatedAt"], "1970-01-01T00:00:02.500Z");
    let plain = client.call("run_task", json!({ "task_type": "wordcount", "payload": "a b" }));
    let plain = client.worked(plain, Value::Null).await;
    assert_eq!(state["result"]["structuredContent"]["done"], plain["structuredContent"]["done"]);
}

#[tokio::test]
async fn everybody_else_gets_the_plain_result() {
    let client = Client::new(TestQueue::new());
    let declared = json!({ "name": "run_task", "arguments": { "task_type": "t" }, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2025-11-25",
        "io.modelcontextprotocol/clientCapabilities": follower(),
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    } });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": declared });
    let old_but_declared = client.worked(client.legacy(&message), Value::Null).await.result();
    let undeclared = client.worked(run(&client, &json!({ "elicitation": {} })), Value::Null).await.result();
    let old = client.worked(client.call("run_task", json!({ "task_type": "t" })), Value::Null).await;
    for result in [old_but_declared, undeclared, old] {
        assert_eq!((&result["isError"], result.get("taskId")), (&json!(false), None), "{result}");
        assert_eq!(result["structuredContent"]["done"], true);
    }
}

#[tokio::test]
async fn a_refused_submit_is_an_answer_and_no_handle() {
    let client = Client::new(TestQueue::refusing(QueueError::new(ErrorCode::Paused, "later")));
    let result = run(&client, &follower()).await.result();
    assert_eq!((&result["resultType"], &result["isError"]), (&json!("complete"), &json!(true)));
    assert_eq!(result["structuredContent"]["error"]["code"], "paused");
}

#[tokio::test]
async fn the_methods_are_only_for_clients_that_declare_them() {
    let client = Client::new(TestQueue::new());
    let id = client.queue.put(Json::null()).await.to_string();
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({ "taskId": id, "inputResponses": {} });
        let reply = client.send(modern(method, Some(&id), params.clone(), &json!({}))).await.json();
        assert_eq!(reply["error"]["code"], -32021, "{method}: {reply}");
        let required = &reply["error"]["data"]["requiredCapabilities"];
        assert_eq!(*required, json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } }));
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        assert_eq!(client.legacy(&message).await.json()["error"]["code"], -32021, "{method}");
    }
    for removed in ["tasks/result", "tasks/list"] {
        let reply = about(&client, removed, &id, json!({})).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32601)));
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn what_is_not_the_clients_own_task_cannot_be_told_from_what_is_not_there() {
    let queue = Arc::new(TestQueue::new());
    let (open, closed) = (Client::over(&queue, McpConfig::default()), Client::over(&queue, with_token()));
    let theirs = closed.send_with_token(modern("tools/call", Some("run_task"), run_params(), &follower())).await;
    let theirs = theirs.result()["taskId"].as_str().unwrap().to_owned();
    assert_eq!(queue.record(theirs.parse().unwrap()).await.submitter.as_deref(), Some("client"));
    let ours = run(&open, &follower()).await.result()["taskId"].as_str().unwrap().to_owned();
    let unknown = TaskId::random().unwrap().to_string();
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let mut refusals = Vec::new();
        let responses = json!({ "inputResponses": { "go-on": {} } });
        for id in [theirs.as_str(), &unknown, "no id", ""] {
            refusals.push(about(&open, method, id, responses.clone()).await.json()["error"].clone());
        }
        let mut params = responses;
        params["taskId"] = json!(ours);
        let foreign = closed.send_with_token(modern(method, Some(&ours), params, &follower())).await;
        refusals.push(foreign.json()["error"].clone());
        assert_eq!(refusals[0]["code"], -32602, "{method}: {refusals:?}");
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{method}: {refusals:?}");
    }
    assert_eq!(about(&open, "tasks/get", &ours, json!({})).await.result()["taskId"], ours);
    let mine = closed.send_with_token(modern("tasks/get", Some(&theirs), json!({ "taskId": theirs }), &follower()));
    assert_eq!(mine.await.result()["taskId"], theirs);
}

#[tokio::test]
async fn another_server_over_the_same_queue_answers_for_old_handles() {
    let first = Client::new(TestQueue::new());
    let id: TaskId = run(&first, &follower()).await.result()["taskId"].as_str().unwrap().parse().unwrap();
    let second = Client::over(&first.queue, McpConfig::default());
    drop(first);
    assert_eq!(get(&second, id).await["taskId"], id.to_string());
}

#[tokio::test]
async fn answers_reach_the_worker_and_those_to_nothing_are_dropped() {
    let client = Client::new(TestQueue::new());
    let lease = asking(&client).await;
    let id = lease.task_id;
    let answer = json!({ "action": "accept", "content": { "sure": true } });
    let reply = update(&client, id, json!({ "go-on": answer, "x".repeat(10_000): 1, "unknown": {} })).await;
    assert_eq!(acknowledged(&reply), json!({ "resultType": "complete" }));
    let Request::Answer(asked) = client.queue.last() else { panic!("no answer") };
    assert_eq!((asked.task_id, asked.input_responses.len()), (id, 1));
    assert_eq!(asked.input_responses["go-on"].to::<Value>().unwrap(), answer);
    let told = lease.ask([("go-on", form("Go on?"))]).await;
    assert_eq!(told["go-on"].to::<Value>().unwrap(), answer);
    let asked = client.queue.asked();
    for responses in [json!({}), json!({ "unknown": {} })] {
        acknowledged(&update(&client, id, responses).await);
    }
    lease.complete(Json::null()).await;
    acknowledged(&update(&client, id, json!({ "go-on": answer })).await);
    assert_eq!(client.queue.asked(), asked + 3, "only read");
}

#[tokio::test]
async fn a_task_is_called_off_once_and_its_end_stands() {
    let client = Client::new(TestQueue::new());
    let running = client.queue.start().await;
    let id = running.task_id;
    assert_eq!(acknowledged(&cancel(&client, id).await), json!({ "resultType": "complete" }));
    assert!(matches!(client.queue.last(), Request::Cancel(cancel) if cancel.task_id == id));
    assert_eq!(client.queue.record(id).await.status, TaskStatus::Running, "its worker is told, and may end it");
    let completed = running.complete(Json::null()).await;
    let failed = client.queue.start().await.fail("no ink", false).await;
    let cancelled = client.queue.put(Json::null()).await;
    acknowledged(&cancel(&client, cancelled).await);
    for (id, status) in
        [(completed, TaskStatus::Completed), (failed, TaskStatus::Failed), (cancelled, TaskStatus::Cancelled)]
    {
        acknowledged(&cancel(&client, id).await);
        assert!(matches!(client.queue.last(), Request::Get(_)), "{status:?}");
        assert_eq!(client.queue.record(id).await.status, status);
    }
}

#[tokio::test]
async fn a_task_that_ends_meanwhile_is_acknowledged_too() {
    let ended = QueueError::new(ErrorCode::AlreadyFinished, "it has ended");
    let client = Client::new(refusing_changes(ended));
    let id = asking(&client).await.task_id;
    acknowledged(&cancel(&client, id).await);
    acknowledged(&update(&client, id, json!({ "go-on": {} })).await);
    let gone = Client::new(refusing_changes(QueueError::new(ErrorCode::NotFound, "purged")));
    let id = asking(&gone).await.task_id;
    assert_eq!(cancel(&gone, id).await.json()["error"]["code"], -32602);
}

#[tokio::test]
async fn an_owner_that_cannot_be_reached_is_no_unknown_task() {
    let client = Client::new(TestQueue::refusing(QueueError::new(ErrorCode::Unreachable, "no way to the peer")));
    let id = TaskId::random().unwrap();
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let reply = about(&client, method, &id.to_string(), json!({ "inputResponses": {} })).await.json();
        let error = &reply["error"];
        assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32008), &json!("unreachable")), "{method}");
        assert_eq!(error["data"]["retryable"], true, "{method}");
    }
    let client = Client::new(refusing_changes(QueueError::new(ErrorCode::Unreachable, "the peer has gone meanwhile")));
    let id = asking(&client).await.task_id;
    assert_eq!(cancel(&client, id).await.json()["error"]["data"]["code"], "unreachable");
    assert_eq!(update(&client, id, json!({ "go-on": {} })).await.json()["error"]["data"]["code"], "unreachable");
}

#[tokio::test]
async fn a_task_that_was_submitted_is_named_when_it_cannot_be_read() {
    let client = Client::new(
        TestQueue::new()
            .refusing_if(|request| matches!(request, Request::Get(_)), QueueError::new(ErrorCode::Unreachable, "gone")),
    );
    let result = run(&client, &follower()).await.result();
    let error = &result["structuredContent"]["error"];
    assert_eq!((&error["code"], &error["outcome"]), (&json!("unreachable"), &json!("unknown")));
    assert!(error["message"].as_str().unwrap().contains(&client.queue.only().await.to_string()), "{error}");
}

#[tokio::test]
async fn a_client_of_the_old_revisions_is_not_told_of_the_extension() {
    let client = Client::new(TestQueue::new());
    let params = json!({
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": follower(),
    });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    assert_eq!(client.legacy(&message).await.result()["capabilities"], json!({ "resources": {}, "tools": {} }));
    let run = legacy().body(call("run_task", json!({ "task_type": "t" })).to_string().into()).unwrap();
    assert_eq!(client.worked(client.send(run), Value::Null).await.result()["structuredContent"]["done"], true);
}

fn run_params() -> Value {
    json!({ "name": "run_task", "arguments": { "task_type": "wordcount" } })
}

/// Starts a task whose worker asks something.
async fn asking(client: &Client) -> Lease {
    let lease = client.queue.start().await;
    lease.ask([("go-on", form("Go on?"))]).await;
    lease
}

/// Makes a queue that refuses only to cancel and to take answers.
fn refusing_changes(error: QueueError) -> TestQueue {
    TestQueue::new().refusing_if(|request| matches!(request, Request::Cancel(_) | Request::Answer(_)), error)
}

/// Returns the empty acknowledgement, without the members that any result may have about the server.
fn acknowledged(reply: &Reply) -> Value {
    let mut result = reply.result();
    result.as_object_mut().unwrap().remove("_meta");
    assert_eq!(result["resultType"], "complete");
    result
}

impl Client {
    async fn send_with_token(&self, mut request: HttpRequest<Body>) -> Reply {
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {TOKEN}").parse().unwrap());
        self.send(request).await
    }
}

const TOKEN: &str = "a long random text";
