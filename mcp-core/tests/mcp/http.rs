use std::pin::pin;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use futures::future::join_all;
use mcp_core::{BearerToken, McpConfig};
use p2p_taskqueue::{ErrorCode, Json, QueueError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, Reply, answered_by, call, legacy, post},
    queue::TestQueue,
};

fn ask() -> Body {
    Body::from(call("list_peers", json!({ "discover": false })).to_string())
}

/// Checks the status and the code of a refusal. The code is where tools have it, in the error record.
fn refused(reply: &Reply, status: StatusCode, code: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.json()["error"]["data"]["code"], code, "{reply:?}");
}

async fn with_header(client: &Client, name: header::HeaderName, value: &str) -> Reply {
    let mut request = legacy().body(ask()).unwrap();
    request.headers_mut().insert(name, value.parse().unwrap());
    client.send(request).await
}

#[tokio::test]
async fn only_named_hosts_are_served() {
    let local = Client::new(TestQueue::new());
    for host in ["localhost", "localhost:8765", "127.0.0.1:1", "[::1]:8765"] {
        assert_eq!(with_header(&local, header::HOST, host).await.status, StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "192.168.0.7:8765"] {
        refused(&with_header(&local, header::HOST, host).await, StatusCode::FORBIDDEN, "forbidden");
    }
    let config = McpConfig::default().with_allowed_hosts(["queue.example:443"]);
    let named = Client::with_config(TestQueue::new(), config);
    assert_eq!(with_header(&named, header::HOST, "queue.example:443").await.status, StatusCode::OK);
    refused(&with_header(&named, header::HOST, "localhost").await, StatusCode::FORBIDDEN, "forbidden");
    assert_eq!(local.queue.asked(), 4);
}

#[tokio::test]
async fn a_request_names_one_host() {
    let client = Client::new(TestQueue::new());
    let twice = legacy().header(header::HOST, "evil.example").body(ask()).unwrap();
    refused(&client.send(twice).await, StatusCode::BAD_REQUEST, "forbidden");
    let mut none = legacy().body(ask()).unwrap();
    none.headers_mut().remove(header::HOST);
    refused(&client.send(none).await, StatusCode::BAD_REQUEST, "forbidden");
}

#[tokio::test]
async fn only_named_origins_are_served_and_none_at_all() {
    let client = Client::new(TestQueue::new());
    assert_eq!(client.send(legacy().body(ask()).unwrap()).await.status, StatusCode::OK);
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:1"] {
        assert_eq!(with_header(&client, header::ORIGIN, origin).await.status, StatusCode::OK, "{origin}");
    }
    for origin in ["https://evil.example", "null", "http://localhost.evil.example:3000", "nonsense", ""] {
        refused(&with_header(&client, header::ORIGIN, origin).await, StatusCode::FORBIDDEN, "forbidden");
    }
    let config = McpConfig::default().with_allowed_origins(["https://console.example"]);
    let named = Client::with_config(TestQueue::new(), config);
    assert_eq!(with_header(&named, header::ORIGIN, "https://console.example").await.status, StatusCode::OK);
    refused(&with_header(&named, header::ORIGIN, "http://localhost:3000").await, StatusCode::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn a_second_origin_does_not_slip_through() {
    let client = Client::new(TestQueue::new());
    let request = legacy()
        .header(header::ORIGIN, "http://localhost:1")
        .header(header::ORIGIN, "https://evil.example")
        .body(ask())
        .unwrap();
    refused(&client.send(request).await, StatusCode::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn with_a_token_only_those_who_show_it_are_served() {
    let config = McpConfig::default().with_client("laptop", BearerToken::new("sesame"));
    let client = Client::with_config(TestQueue::new(), config);
    for shown in ["Bearer sesame", "bearer sesame", "Bearer  sesame"] {
        assert_eq!(with_header(&client, header::AUTHORIZATION, shown).await.status, StatusCode::OK, "{shown}");
    }
    for shown in ["", "Bearer", "Bearer ", "Bearer open", "Bearer sesame2", "Basic sesame", "sesame"] {
        let reply = with_header(&client, header::AUTHORIZATION, shown).await;
        refused(&reply, StatusCode::UNAUTHORIZED, "unauthorized");
        assert!(reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"));
    }
    refused(&client.send(legacy().body(ask()).unwrap()).await, StatusCode::UNAUTHORIZED, "unauthorized");
    assert_eq!(client.queue.asked(), 3);
}

#[tokio::test]
async fn what_is_no_message_is_refused_in_json_rpc() {
    let client = Client::new(TestQueue::new());
    for (body, code) in [
        ("", -32700),
        ("{\"jsonrpc\":", -32700),
        ("task_type=x", -32700),
        ("{} {}", -32700),
        ("7", -32600),
        (r#"{"method":7}"#, -32600),
        (r#" [{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#, -32600),
    ] {
        let reply = client.send(legacy().body(Body::from(body)).unwrap()).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{body}");
        assert_eq!(reply.json()["id"], Value::Null);
    }
}

#[tokio::test]
async fn a_call_of_a_wrong_shape_is_refused_under_its_id() {
    let client = Client::new(TestQueue::new());
    for (params, field) in [
        (json!({ "name": "list_peers", "arguments": [] }), "arguments"),
        (json!({ "name": "list_peers", "arguments": "x" }), "arguments"),
        (json!({ "arguments": {} }), "name"),
        (json!({ "name": 7 }), "name"),
        (json!([]), "params"),
        (Value::Null, "params"),
    ] {
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
        let reply = client.legacy(&message).await;
        assert_eq!((reply.status, &reply.json()["id"]), (StatusCode::OK, &json!(7)), "{message}");
        assert_eq!(reply.json()["error"]["code"], -32602, "{message}");
        assert_eq!(reply.json()["error"]["data"]["field"], field, "{message}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let client = Client::new(TestQueue::new());
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let reply = with_header(&client, header::CONTENT_TYPE, kind).await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn a_client_needs_to_accept_no_more_than_json() {
    let client = Client::new(TestQueue::new());
    for accept in ["*/*", "application/json", "application/json, text/event-stream"] {
        assert_eq!(with_header(&client, header::ACCEPT, accept).await.status, StatusCode::OK, "{accept}");
    }
    assert_eq!(with_header(&client, header::ACCEPT, "text/html").await.status, StatusCode::NOT_ACCEPTABLE);
    let bare = Request::post("/mcp")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(ask())
        .unwrap();
    assert_eq!(client.send(bare).await.status, StatusCode::OK);
}

#[tokio::test]
async fn there_is_nothing_to_get_or_delete() {
    let client = Client::new(TestQueue::new());
    for method in ["GET", "DELETE", "PUT", "OPTIONS"] {
        let mut request = post().body(Body::empty()).unwrap();
        *request.method_mut() = method.parse().unwrap();
        let reply = client.send(request).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(reply.headers[header::ALLOW], "POST");
        assert_eq!(reply.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
    }
}

async fn probe(client: &Client, path: &str) -> (StatusCode, Value) {
    let reply = client.send(Request::get(path).body(Body::empty()).unwrap()).await;
    (reply.status, reply.json())
}

#[tokio::test(start_paused = true)]
async fn health_asks_nobody_and_ready_asks_the_queue() {
    let config = || McpConfig::default().with_client("laptop", BearerToken::new("sesame"));
    let well = Client::with_config(TestQueue::new(), config());
    assert_eq!(probe(&well, "/healthz").await, (StatusCode::OK, json!({ "ok": true })));
    assert_eq!(well.queue.asked(), 0);
    assert_eq!(probe(&well, "/readyz").await, (StatusCode::OK, json!({ "ok": true })));
    assert_eq!(well.queue.asked(), 1);
    let error = QueueError::new(ErrorCode::StorageError, "the disk at /secret broke");
    let ill = Client::with_config(TestQueue::refusing(error), config());
    assert_eq!(probe(&ill, "/healthz").await.0, StatusCode::OK);
    let said = json!({ "ok": false, "error": { "code": "storage_error" } });
    assert_eq!(probe(&ill, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, said));
}

#[tokio::test]
async fn a_stopping_server_is_not_ready_and_takes_nothing_more() {
    let shutdown = CancellationToken::new();
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_shutdown(shutdown.clone()));
    shutdown.cancel();
    assert_eq!(probe(&client, "/healthz").await.0, StatusCode::OK);
    assert_eq!(probe(&client, "/readyz").await.1["error"]["code"], "shutting_down");
    let reply = client.send(legacy().body(ask()).unwrap()).await;
    refused(&reply, StatusCode::SERVICE_UNAVAILABLE, "shutting_down");
    assert!(reply.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_house_is_ready_while_its_queue_answers() {
    let config = McpConfig::default().with_requests_max(1).with_waiting_calls_max(1);
    let client = Client::with_config(TestQueue::new(), config);
    let id = client.queue.put(Json::null()).await;
    let wait = call("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 60 }));
    let mut pending = pin!(client.legacy(&wait));
    client.until_held(&mut pending).await;
    refused(&client.legacy(&wait).await, StatusCode::SERVICE_UNAVAILABLE, "overloaded");
    let probes = (0..100).map(|_| probe(&client, "/readyz"));
    for (status, said) in join_all(probes).await {
        assert_eq!((status, said), (StatusCode::OK, json!({ "ok": true })));
    }
    // On a connection beyond the bound, a probe is answered. Any other request is told when to come back.
    let probe = Request::get("/readyz").body(Body::empty()).unwrap();
    assert_eq!(answered_by(&client.full, probe).await.status, StatusCode::OK);
    let reply = answered_by(&client.full, legacy().body(ask()).unwrap()).await;
    refused(&reply, StatusCode::SERVICE_UNAVAILABLE, "overloaded");
    assert!(reply.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_is_not_ready_however_many_ask() {
    let client = Client::new(TestQueue::silent());
    let began = tokio::time::Instant::now();
    for (status, said) in join_all((0..100).map(|_| probe(&client, "/readyz"))).await {
        let timeout = json!({ "ok": false, "error": { "code": "timeout" } });
        assert_eq!((status, said), (StatusCode::SERVICE_UNAVAILABLE, timeout));
    }
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(client.queue.asked() <= 2, "one probe asks for all");
}
