use axum::{
    body::Body,
    http::{StatusCode, header},
};
use serde_json::json;

use crate::{
    client::{Client, MODERN, call, modern_plain as modern, post},
    queue::TestQueue,
};

#[tokio::test]
async fn a_client_of_2025_11_25_initializes_lists_and_calls() {
    let client = Client::new(TestQueue::new());
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        } });
        let reply = client.send(post().body(Body::from(message.to_string())).unwrap()).await;
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(reply.headers.get("mcp-session-id"), None);
        let result = reply.result();
        assert_eq!(result["protocolVersion"], version);
        assert_eq!(result["serverInfo"]["name"], "taskmesh");
        assert_eq!(result["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(result["capabilities"], json!({ "resources": {}, "tools": {} }));
        assert!(result["instructions"].as_str().unwrap().contains("run_task"));
    }
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(client.legacy(&initialized).await.status, StatusCode::ACCEPTED);
    assert_eq!(client.tools().await.len(), TOOLS);
    let reply = client.legacy(&call("p2p_taskqueue_status", json!({}))).await;
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(reply.json()["id"], 7);
    assert_eq!(reply.result()["structuredContent"]["peer_id"], client.queue.peer.to_string());
}

#[tokio::test]
async fn a_client_of_2026_07_28_discovers_lists_and_calls() {
    let client = Client::new(TestQueue::new());
    let discovered = client.send(modern("server/discover", None, json!({}))).await.result();
    assert!(discovered["supportedVersions"].as_array().unwrap().contains(&json!(MODERN)), "{discovered}");
    let extensions = json!({ "io.modelcontextprotocol/tasks": {} });
    assert_eq!(discovered["capabilities"], json!({ "extensions": extensions, "resources": {}, "tools": {} }));
    let listed = client.send(modern("tools/list", None, json!({}))).await.result();
    assert_eq!(listed["tools"].as_array().unwrap().len(), TOOLS);
    assert_eq!((&listed["resultType"], &listed["ttlMs"]), (&json!("complete"), &json!(2_000)));
    let name = "p2p_taskqueue_submit";
    let arguments = json!({ "task_type": "t", "payload": [1, { "a": "b" }] });
    let reply = client.send(modern("tools/call", Some(name), json!({ "name": name, "arguments": arguments }))).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    let result = reply.result();
    assert_eq!((&result["resultType"], &result["isError"]), (&json!("complete"), &json!(false)), "{result}");
    assert_eq!(result["structuredContent"]["durability"], "volatile");
    let p2p_taskqueue::Request::Submit(submit) = client.queue.last() else { panic!("not a submit") };
    assert_eq!(submit.payload.get(), r#"[1,{"a":"b"}]"#);
    assert_eq!(client.queue.record(client.queue.only().await).await.payload, submit.payload);
}

#[tokio::test]
async fn headers_that_contradict_the_body_are_refused() {
    let client = Client::new(TestQueue::new());
    let request = modern("tools/call", Some("list_peers"), json!({ "name": "p2p_taskqueue_status" }));
    let reply = client.send(request).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(-32020)));
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn the_list_is_the_same_each_time() {
    let list = async || {
        let client = Client::new(TestQueue::new());
        let reply = client.legacy(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
        assert_eq!(client.tools().await[0]["name"], "run_task");
        reply.text
    };
    assert_eq!(list().await, list().await);
}

#[tokio::test]
async fn tools_say_what_they_may_do() {
    let tools = Client::new(TestQueue::new()).tools().await;
    let hinted = |hint: &str| -> Vec<_> {
        let hinted = tools.iter().filter(|tool| tool["annotations"][hint] == true);
        hinted.map(|tool| tool["name"].as_str().unwrap()).collect()
    };
    let reads = [
        "p2p_taskqueue_wait_task",
        "p2p_taskqueue_get_task",
        "p2p_taskqueue_get_tasks",
        "p2p_taskqueue_list_tasks",
        "p2p_taskqueue_workers",
        "p2p_taskqueue_status",
        "list_peers",
        "p2p_taskqueue_list_tools",
        "p2p_taskqueue_stats",
        "p2p_taskqueue_cache_get",
        "p2p_taskqueue_cache_has",
        "p2p_taskqueue_members",
    ];
    assert_eq!(hinted("readOnlyHint"), reads);
    let undoes = [
        "p2p_taskqueue_cancel_task",
        "p2p_taskqueue_purge",
        "p2p_taskqueue_free",
        "p2p_taskqueue_cache_delete",
        "p2p_taskqueue_members_remove",
        "p2p_taskqueue_leave",
    ];
    assert_eq!(hinted("destructiveHint"), undoes);
    let starts = [
        "run_task",
        "p2p_taskqueue_submit",
        "p2p_taskqueue_submit_many",
        "p2p_taskqueue_call_tool",
        "p2p_taskqueue_submit_docker_hub",
        "p2p_taskqueue_submit_docker_github",
        "p2p_taskqueue_retry_task",
    ];
    assert_eq!(hinted("openWorldHint"), starts);
    for tool in &tools {
        assert!(tool["title"].is_string() && tool["description"].as_str().unwrap().len() > 100, "{tool}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_a_protocol_error() {
    let client = Client::new(TestQueue::new());
    let reply = client.legacy(&call("p2p_taskqueue_dance", json!({}))).await.json();
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(7), &json!(-32602)), "{reply}");
    assert!(reply["error"]["message"].as_str().unwrap().contains("p2p_taskqueue_dance"));
    for method in ["resources/subscribe", "prompts/list", "tasks/result", "tasks/list", "dance"] {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "taskId": "x" } });
        let reply = client.legacy(&message).await.json();
        assert_eq!(reply["error"]["code"], -32601, "{method}: {reply}");
    }
}

#[tokio::test]
async fn a_call_without_arguments_has_none() {
    let client = Client::new(TestQueue::new());
    for params in [json!({ "name": "list_peers" }), json!({ "name": "list_peers", "arguments": null })] {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        assert_eq!(client.legacy(&message).await.result()["isError"], false);
    }
}

const TOOLS: usize = 41;
