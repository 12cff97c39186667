//! Every refusal of the HTTP side is JSON-RPC with the error record. It has the id of its request if there is one.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, MODERN, Reply, call, legacy, modern, modern_plain, post},
    queue::TestQueue,
};

/// Compares a refusal with the expected one: the status, the JSON-RPC code, the code of the record and its field.
fn refused(reply: &Reply, id: &Value, wanted: (u16, i64, &str, Option<&str>)) {
    let message = reply.json();
    let data = &message["error"]["data"];
    let said = (
        reply.status.as_u16(),
        message["error"]["code"].as_i64().unwrap(),
        data["code"].as_str().unwrap_or("no record"),
        data["field"].as_str(),
    );
    assert_eq!(said, wanted, "{reply:?}");
    assert_eq!(&message["id"], id, "{reply:?}");
    assert_eq!((&data["outcome"], &data["retryable"]), (&json!("not_applied"), &json!(false)), "{reply:?}");
    assert!(data["message"].as_str().is_some_and(|text| !text.is_empty()), "{reply:?}");
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json", "{reply:?}");
}

fn status() -> Body {
    Body::from(call("p2p_taskqueue_status", json!({})).to_string())
}

#[tokio::test]
async fn headers_that_are_wrong_are_refused_by_name() {
    let client = Client::new(TestQueue::new());
    let with = |name: &str, value: &str| {
        let mut request = legacy().body(status()).unwrap();
        request.headers_mut().insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        request
    };
    for (request, wanted) in [
        (with("content-type", "text/plain"), (415, -32600, "invalid_argument", Some("Content-Type"))),
        (with("accept", "text/html"), (406, -32600, "invalid_argument", Some("Accept"))),
        (with("mcp-protocol-version", "1999-01-01"), (400, -32600, "invalid_argument", Some("MCP-Protocol-Version"))),
    ] {
        refused(&client.send(request).await, &json!(7), wanted);
    }
    let mut none = legacy().body(status()).unwrap();
    none.headers_mut().remove(header::CONTENT_TYPE);
    refused(&client.send(none).await, &json!(7), (415, -32600, "invalid_argument", Some("Content-Type")));
    let mismatch = |name: &str, value: &str| {
        let arguments = json!({ "name": "p2p_taskqueue_status", "arguments": {} });
        let mut request = modern_plain("tools/call", Some("p2p_taskqueue_status"), arguments);
        request.headers_mut().insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        request
    };
    for (name, value, field) in [
        ("mcp-method", "tools/list", "Mcp-Method"),
        ("mcp-name", "run_task", "Mcp-Name"),
        ("mcp-protocol-version", "2025-11-25", "MCP-Protocol-Version"),
    ] {
        let reply = client.send(mismatch(name, value)).await;
        refused(&reply, &json!("a"), (400, -32020, "invalid_argument", Some(field)));
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn what_the_protocol_wants_in_data_stays_beside_the_record() {
    let client = Client::new(TestQueue::new());
    let mut request = modern_plain("tools/list", None, json!({}));
    let body = json!({ "jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2999-01-01", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" } } } });
    request.headers_mut().insert("mcp-protocol-version", "2999-01-01".parse().unwrap());
    *request.body_mut() = Body::from(body.to_string());
    let reply = client.send(request).await;
    refused(&reply, &json!("a"), (400, -32022, "invalid_argument", None));
    assert!(reply.json()["error"]["data"]["supported"].as_array().unwrap().contains(&json!(MODERN)), "{reply:?}");
    let gone = modern_plain("resources/read", Some("taskmesh://nothing"), json!({ "uri": "taskmesh://nothing" }));
    let reply = client.send(gone).await;
    let data = &reply.json()["error"]["data"];
    assert_eq!((&data["code"], &data["uri"]), (&json!("not_found"), &json!("taskmesh://nothing")), "{reply:?}");
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_with_the_record() {
    let client = Client::new(TestQueue::new());
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::PATCH, Method::OPTIONS] {
        let mut request = post().body(Body::empty()).unwrap();
        *request.method_mut() = method.clone();
        let reply = client.send(request).await;
        refused(&reply, &Value::Null, (405, -32600, "unsupported", None));
        assert_eq!(reply.headers[header::ALLOW], "POST", "{method}");
    }
    for path in ["/", "/mcp/", "/mcp/x", "/sse", "/.well-known/oauth-protected-resource"] {
        let reply = client.send(Request::post(path).body(status()).unwrap()).await;
        refused(&reply, &Value::Null, (404, -32600, "not_found", None));
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let reply = client.send(Request::post(path).body(Body::empty()).unwrap()).await;
        refused(&reply, &Value::Null, (405, -32600, "unsupported", None));
        assert!(reply.headers[header::ALLOW].to_str().unwrap().contains("GET"), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused_as_one() {
    let client = Client::new(TestQueue::new());
    for (body, id) in [
        (json!({}), Value::Null),
        (json!({ "id": 7, "method": "tools/list" }), json!(7)),
        (json!({ "jsonrpc": "1.0", "id": 7, "method": "tools/list" }), json!(7)),
        (json!({ "jsonrpc": "2.0", "id": 7 }), json!(7)),
        (json!({ "jsonrpc": "2.0", "id": null, "method": "tools/list" }), Value::Null),
        (json!({ "jsonrpc": "2.0", "id": 1.5, "method": "tools/list" }), Value::Null),
        (json!({ "jsonrpc": "2.0", "id": [1], "method": "tools/list" }), Value::Null),
        (json!({ "jsonrpc": "2.0", "id": 7, "result": {} }), Value::Null),
    ] {
        let reply = client.legacy(&body).await;
        refused(&reply, &id, (400, -32600, "invalid_argument", None));
    }
}

/// Wrong parameters for every method, and the refusal of each. A method that no era has is refused as unknown.
#[tokio::test]
async fn parameters_of_a_wrong_type_are_named_in_both_eras() {
    let client = Client::new(TestQueue::new());
    let capabilities = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let name = |params: &Value| {
        let name = ["name", "uri", "taskId"].iter().find_map(|name| params[*name].as_str());
        name.map(str::to_owned)
    };
    for (method, params, field) in [
        ("tools/call", json!({ "name": 7 }), "name"),
        ("tools/call", json!({}), "name"),
        ("tools/call", json!({ "name": "list_peers", "arguments": 7 }), "arguments"),
        ("tools/call", json!({ "name": "list_peers", "requestState": 7 }), "requestState"),
        ("tools/list", json!({ "cursor": 7 }), "cursor"),
        ("resources/list", json!({ "cursor": [] }), "cursor"),
        ("resources/templates/list", json!({ "cursor": {} }), "cursor"),
        ("resources/read", json!({ "uri": 7 }), "uri"),
        ("resources/read", json!({}), "uri"),
        ("tasks/get", json!({ "taskId": 7 }), "taskId"),
        ("tasks/get", json!({}), "taskId"),
        ("tasks/update", json!({ "taskId": "x", "inputResponses": 7 }), "inputResponses"),
        ("tasks/update", json!({ "taskId": [], "inputResponses": {} }), "taskId"),
        ("tasks/cancel", json!({ "taskId": {} }), "taskId"),
    ] {
        let named = name(&params);
        let reply = client.send(modern(method, named.as_deref(), params.clone(), &capabilities)).await;
        refused(&reply, &json!("a"), (200, -32602, "invalid_argument", Some(field)));
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let reply = client.legacy(&message).await;
        if method.starts_with("tasks/") {
            refused(&reply, &json!(7), (200, -32601, "unsupported", None));
        } else {
            refused(&reply, &json!(7), (200, -32602, "invalid_argument", Some(field)));
        }
    }
    let initialize = json!({ "jsonrpc": "2.0", "id": 7, "method": "initialize",
        "params": { "protocolVersion": 7, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
    let reply = client.send(post().body(Body::from(initialize.to_string())).unwrap()).await;
    refused(&reply, &json!(7), (200, -32602, "invalid_argument", Some("protocolVersion")));
    assert_eq!(client.queue.asked(), 0);
    let bare = client.send(modern_plain("tools/list", None, json!({}))).await;
    assert_eq!(bare.status, StatusCode::OK, "{bare:?}");
    for method in
        ["prompts/list", "prompts/get", "completion/complete", "logging/setLevel", "resources/subscribe", "nonsense"]
    {
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": {} });
        refused(&client.legacy(&message).await, &json!(7), (200, -32601, "unsupported", None));
        refused(
            &client.send(modern_plain(method, None, json!({}))).await,
            &json!("a"),
            (404, -32601, "unsupported", None),
        );
    }
}
