//! What `/metrics` tells, and who may read it.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use mcp_core::{BearerToken, McpConfig};
use p2p_taskqueue::{BridgedQueue, ErrorCode, Json, QueueError, TaskId};
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
use serde_json::json;

use crate::{
    client::{Client, Reply, call, legacy},
    queue::TestQueue,
    steady::Steady,
    task_methods::{follower, run},
};

async fn scrape(client: &Client, headers: &[(header::HeaderName, &str)]) -> Reply {
    let mut request = Request::get("/metrics").header(header::HOST, "localhost:8765");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    client.send(request.body(Body::empty()).unwrap()).await
}

async fn text(client: &Client) -> String {
    let reply = scrape(client, &[]).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    reply.text
}

/// Checks that there is exactly one line of this name with these labels, and that it has this value.
fn assert_line(text: &str, start: &str, labels: &[&str], value: &str) {
    let is_it = |line: &&str| line.starts_with(start) && labels.iter().all(|label| line.contains(label));
    let lines: Vec<_> = text.lines().filter(is_it).collect();
    assert!(
        matches!(lines[..], [line] if line.ends_with(&format!(" {value}"))),
        "{start} {labels:?}: {lines:?}\n{text}"
    );
}

const DURATION: &str = "mcp_server_operation_duration_seconds_count{";

#[tokio::test]
async fn an_operation_is_counted_by_method_tool_and_outcome() {
    let client = Client::new(TestQueue::new());
    client.done("p2p_taskqueue_status", json!({})).await;
    client.done("p2p_taskqueue_status", json!({})).await;
    client.refused("p2p_taskqueue_get_task", json!({ "task_id": TaskId::random().unwrap().to_string() })).await;
    client.tools().await;
    let text = text(&client).await;
    let call = "mcp_method_name=\"tools/call\"";
    let named = |tool: &str| format!("gen_ai_tool_name=\"{tool}\"");
    assert_line(&text, DURATION, &[call, &named("p2p_taskqueue_status"), "error_type=\"\""], "2");
    assert_line(&text, DURATION, &[call, &named("p2p_taskqueue_get_task"), "error_type=\"not_found\""], "1");
    assert_line(&text, DURATION, &["mcp_method_name=\"tools/list\"", &named("")], "1");
    assert_line(&text, "taskmesh_http_requests_total{", &["status=\"2xx\"", "code=\"\""], "4");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn a_handle_is_no_failure_and_a_failed_task_is_one() {
    let client = Client::new(TestQueue::new());
    assert!(run(&client, &follower()).await.result()["taskId"].is_string());
    let labels = ["mcp_method_name=\"tools/call\"", "gen_ai_tool_name=\"run_task\"", "error_type=\"\""];
    assert_line(&text(&client).await, DURATION, &labels, "1");
    let client = Client::new(TestQueue::new());
    let message = call("run_task", json!({ "task_type": "t" }));
    let end = async { client.queue.claim().await.fail("no ink", false).await };
    assert_eq!(tokio::join!(client.legacy(&message), end).0.result()["isError"], true);
    let labels = ["gen_ai_tool_name=\"run_task\"", "error_type=\"failed\""];
    assert_line(&text(&client).await, DURATION, &labels, "1");
}

#[tokio::test]
async fn no_client_makes_a_label_of_its_own() {
    let client = Client::new(TestQueue::new());
    client.legacy(&call("my own tool", json!({}))).await;
    client.legacy(&json!({ "jsonrpc": "2.0", "id": 1, "method": "my/own" })).await;
    client.legacy(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": 7 } })).await;
    let text = text(&client).await;
    assert!(!text.contains("my own tool") && !text.contains("my/own"), "{text}");
    let other = "gen_ai_tool_name=\"other\"";
    assert_line(&text, DURATION, &["mcp_method_name=\"tools/call\"", other, "error_type=\"not_found\""], "1");
    assert_line(&text, DURATION, &["mcp_method_name=\"other\""], "1");
}

#[tokio::test]
async fn a_refusal_is_counted_by_its_code() {
    let client = Client::new(TestQueue::new());
    let evil = legacy().header(header::ORIGIN, "https://evil.example").body(Body::empty()).unwrap();
    assert_eq!(client.send(evil).await.status, StatusCode::FORBIDDEN);
    let refused = &["status=\"4xx\"", "code=\"forbidden\""];
    assert_line(&text(&client).await, "taskmesh_http_requests_total{", refused, "1");
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_and_what_is_underway_is_shown() {
    let config = McpConfig::default().with_client("laptop", BearerToken::new("sesame"));
    let client = Client::with_config(TestQueue::new(), config);
    let shown = [(header::AUTHORIZATION, "Bearer sesame")];
    {
        let wait = json!({ "task_id": client.queue.put(Json::null()).await, "timeout_s": 60 });
        let body = Body::from(call("p2p_taskqueue_wait_task", wait).to_string());
        let mut pending =
            pin!(client.send(legacy().header(header::AUTHORIZATION, "Bearer sesame").body(body).unwrap()));
        client.until_held(&mut pending).await;
        let text = scrape(&client, &shown).await.text;
        assert_line(&text, "taskmesh_http_requests_in_flight ", &[], "1");
        assert_line(&text, "taskmesh_waits_in_flight ", &[], "1");
        assert_line(&text, "taskmesh_client_waits_in_flight{", &["client=\"laptop\""], "1");
    }
    client.queue.dropped.notified().await;
    let text = scrape(&client, &shown).await.text;
    assert_line(&text, "taskmesh_http_requests_in_flight ", &[], "0");
    assert_line(&text, DURATION, &["mcp_method_name=\"tools/call\"", "error_type=\"interrupted\""], "1");
}

/// The clock stands while the queue is asked, so the second that it has for its answer does not pass.
#[tokio::test(start_paused = true)]
async fn the_queue_tells_how_it_is() {
    // As in the program, the queue is asked over a bridge.
    let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default()).unwrap();
    let behind = TestQueue::new();
    let bridged = Steady::new(BridgedQueue::new(thread.bridge(), Arc::clone(&behind.queue)));
    let client = Client::new(TestQueue::before(Arc::new(bridged), behind.peer));
    client.queue.put(Json::null()).await;
    let text = text(&client).await;
    assert_line(&text, "taskmesh_queue_up ", &[], "1");
    assert_line(&text, "taskmesh_build_info{", &["version="], "1");
    assert_line(&text, "taskmesh_queue_tasks{", &["state=\"queued\""], "1");
    assert_line(&text, "taskmesh_bridge_inline ", &[], "0");
    assert_line(&text, "taskmesh_bridge_calls_total ", &[], "2");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_holds_no_scrape_up() {
    for queue in [TestQueue::silent(), TestQueue::refusing(QueueError::new(ErrorCode::Unreachable, "gone"))] {
        let client = Client::new(queue);
        let began = tokio::time::Instant::now();
        let text = text(&client).await;
        assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
        assert_line(&text, "taskmesh_queue_up ", &[], "0");
        assert!(!text.contains("taskmesh_queue_tasks"), "{text}");
    }
}

#[tokio::test]
async fn metrics_are_for_those_who_may_ask() {
    let open = Client::new(TestQueue::new());
    assert_eq!(scrape(&open, &[]).await.status, StatusCode::OK);
    let foreign = [(header::ORIGIN, "https://evil.example")];
    assert_eq!(scrape(&open, &foreign).await.status, StatusCode::FORBIDDEN);
    let evil = Request::get("/metrics").header(header::HOST, "evil.example").body(Body::empty()).unwrap();
    assert_eq!(open.send(evil).await.status, StatusCode::FORBIDDEN);
    let config = McpConfig::default().with_client("laptop", BearerToken::new("sesame"));
    let closed = Client::with_config(TestQueue::new(), config);
    assert_eq!(scrape(&closed, &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(scrape(&closed, &[(header::AUTHORIZATION, "Bearer sesame")]).await.status, StatusCode::OK);
}
