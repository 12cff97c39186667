//! Several clients, each with a token of its own.

use std::pin::pin;

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use mcp_core::{BearerToken, McpConfig};
use p2p_taskqueue::{Json, Request};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, call, legacy},
    queue::TestQueue,
};

const LAPTOP: &str = "Bearer sesame";
const PHONE: &str = "Bearer poppy";

fn two() -> McpConfig {
    McpConfig::default()
        .with_client("laptop", BearerToken::new("sesame"))
        .with_client("phone", BearerToken::new("poppy"))
}

async fn by(client: &Client, token: &str, tool: &str, arguments: Value) -> Reply {
    let body = Body::from(call(tool, arguments).to_string());
    client.send(legacy().header(header::AUTHORIZATION, token).body(body).unwrap()).await
}

/// Makes the arguments of a wait for a task that nobody works on.
async fn wait(client: &Client) -> Value {
    json!({ "task_id": client.queue.put(Json::null()).await, "timeout_s": 60 })
}

#[tokio::test]
async fn a_task_carries_the_name_of_the_client_whose_token_was_shown() {
    let client = Client::with_config(TestQueue::new(), two());
    for (token, name) in [(LAPTOP, "laptop"), (PHONE, "phone"), ("bearer poppy", "phone")] {
        let reply = by(&client, token, "p2p_taskqueue_submit", json!({ "task_type": "t", "payload": 1 })).await;
        assert_eq!(reply.result()["isError"], false, "{reply:?}");
        let Request::Submit(submit) = client.queue.last() else { panic!("{:?}", client.queue.last()) };
        assert_eq!(submit.submitter.as_deref(), Some(name));
        let id = reply.result()["structuredContent"]["task_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(client.queue.record(id).await.submitter.as_deref(), Some(name));
    }
    let stranger = by(&client, "Bearer sesam", "p2p_taskqueue_status", json!({})).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_client_that_has_its_share_of_waits_keeps_no_other_from_waiting() {
    let client = Client::with_config(TestQueue::new(), two().with_waits_per_client_max(1));
    let mut first = pin!(by(&client, LAPTOP, "p2p_taskqueue_wait_task", wait(&client).await));
    client.until_held(&mut first).await;
    let refused =
        by(&client, LAPTOP, "p2p_taskqueue_wait_task", wait(&client).await).await.result()["structuredContent"].clone();
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["retry_after_s"]), (&json!("overloaded"), &json!(1.0)));
    assert!(error["message"].as_str().unwrap().contains("this client"), "{error}");
    let asked = by(&client, LAPTOP, "p2p_taskqueue_status", json!({})).await;
    assert_eq!(asked.result()["isError"], false, "a call that does not wait has room");
    let mut other = pin!(by(&client, PHONE, "p2p_taskqueue_wait_task", wait(&client).await));
    client.until_held(&mut other).await;
}

#[tokio::test]
async fn a_client_that_has_its_share_of_requests_is_told_to_come_back_and_no_other_is() {
    let client = Client::with_config(TestQueue::new(), two().with_requests_per_client_max(1));
    let mut first = pin!(by(&client, LAPTOP, "p2p_taskqueue_wait_task", wait(&client).await));
    client.until_held(&mut first).await;
    let refused = by(&client, LAPTOP, "p2p_taskqueue_status", json!({})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    assert_eq!(refused.json()["error"]["data"]["code"], "overloaded");
    assert_eq!(by(&client, PHONE, "p2p_taskqueue_status", json!({})).await.status, StatusCode::OK);
}
