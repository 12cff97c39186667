use axum::http::{HeaderName, HeaderValue, StatusCode};
use p2p_taskqueue::{ErrorCode, Json, PeerId, QueueError, Request, api::Workers};
use serde_json::{Value, json};

use crate::{
    client::{Client, call, modern_plain, soon},
    nodes::{Nodes, offer},
    queue::{TestQueue, worker},
    schema,
};

async fn nodes() -> Nodes {
    let schema = r#"{"type":"object","properties":{"dpi":{"type":"integer"}},"required":["dpi"]}"#;
    Nodes::start(vec![
        offer("scan", Json::parse(schema.to_owned()).unwrap()),
        offer("wordcount", Json::null()),
        offer("list_peers", Json::null()),
        offer("not a name", Json::null()),
    ])
    .await
}

#[tokio::test]
async fn what_the_workers_of_the_mesh_offer_is_listed_behind_the_own_tools() {
    let nodes = nodes().await;
    let client = &nodes.client;
    let tools = client.tools().await;
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names[names.len() - 2..], ["scan", "wordcount"]);
    assert_eq!(names.iter().filter(|name| **name == "list_peers").count(), 1);
    // The seen tools count as current for some time. In this time a busy machine may list only a few times.
    for _ in 0..20 {
        assert_eq!(client.tools().await.len(), tools.len());
    }
    let looks = client.queue.asked_of(|request| matches!(request, Request::Workers(_)));
    assert!((1..20).contains(&looks), "the node is asked for each list");
    assert_eq!(client.queue.asked(), looks, "nothing else is asked, and no peer");
    let Request::Workers(asked) = client.queue.last() else { panic!("not the workers") };
    assert_eq!(asked, Workers { schemas: true, ..Workers::default() });
}

#[tokio::test]
async fn a_call_is_a_task_of_that_type_whose_payload_are_the_arguments() {
    let nodes = nodes().await;
    let client = &nodes.client;
    let tools = client.tools().await;
    let tool = tools.iter().find(|tool| tool["name"] == "scan").unwrap();
    let arguments = json!({ "dpi": 300 });
    schema::check(&tool["inputSchema"], &arguments, "scan").unwrap();
    let answer = client.done("scan", arguments).await;
    schema::check(&tool["outputSchema"], &answer, "scan").unwrap();
    assert_eq!((&answer["done"], &answer["task"]["task_type"]), (&json!(true), &json!("scan")));
    assert_eq!(answer["task"]["payload"], json!({ "dpi": 300 }));
    assert_eq!(answer["task"]["result"], json!({ "dpi": 300 }), "its worker did it");
    let Request::Wait(_) = client.queue.last() else { panic!("it did not wait") };
}

/// Lists the tools until the node has been asked for the workers once more. Returns the last list.
async fn next_look(client: &Client) -> Vec<String> {
    let looks = || client.queue.asked_of(|request| matches!(request, Request::Workers(_)));
    let before = looks();
    let looking = async {
        loop {
            let tools = client.tools().await;
            if looks() > before {
                return tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
            }
        }
    };
    soon(looking).await
}

#[tokio::test]
async fn the_offers_stay_while_the_node_does_not_answer_and_follow_when_it_does() {
    let client = Client::new(TestQueue::new());
    let has = |tools: &[String], name: &str| tools.iter().any(|tool| tool == name);
    let is = |workers: Result<_, QueueError>| *client.queue.workers.lock().unwrap() = Some(workers);
    let gone = || Err(QueueError::new(ErrorCode::Timeout, "no answer"));
    is(gone());
    assert!(!has(&next_look(&client).await, "scan"));
    is(Ok(vec![worker(PeerId::random(), vec![offer("scan", Json::null())])]));
    assert!(has(&next_look(&client).await, "scan"));
    is(gone());
    assert!(has(&next_look(&client).await, "scan"), "it is kept while the node does not answer");
    is(Ok(vec![worker(PeerId::random(), vec![offer("print", Json::null())])]));
    let tools = next_look(&client).await;
    assert!(has(&tools, "print") && !has(&tools, "scan"), "{tools:?}");
}

#[tokio::test]
async fn a_mesh_tool_is_found_by_a_client_that_has_not_listed() {
    let answer = nodes().await.client.done("wordcount", json!({ "payload": "a b c" })).await;
    assert_eq!(answer["task"]["payload"], "a b c");
}

#[tokio::test]
async fn arguments_that_the_worker_cannot_take_are_refused_by_name() {
    let error = nodes().await.client.refused("wordcount", json!({ "text": "a" })).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!("text")), "{error}");
}

#[tokio::test]
async fn a_tool_that_nobody_offers_is_a_protocol_error() {
    let reply: Value = nodes().await.client.legacy(&call("print", json!({}))).await.json();
    assert_eq!(reply["error"]["code"], -32602, "{reply}");
}

/// SEP-2243: a client repeats the arguments that a tool's schema marks in headers, and the server compares.
#[tokio::test]
async fn an_argument_that_stands_in_a_header_as_well_is_compared() {
    let schema = r#"{"type":"object","properties":{"site":{"type":"string","x-mcp-header":"Site"}}}"#;
    let input_schema = Json::parse(schema.to_owned()).unwrap();
    let nodes = Nodes::start(vec![offer("scan", input_schema)]).await;
    let client = &nodes.client;
    client.tools().await;
    let call = |site: Option<&'static str>| {
        let params = json!({ "name": "scan", "arguments": { "site": "north" } });
        let mut request = modern_plain("tools/call", Some("scan"), params);
        let header = HeaderName::from_static("mcp-param-site");
        request.headers_mut().extend(site.map(|site| (header, HeaderValue::from_static(site))));
        client.send(request)
    };
    let done = call(Some("north")).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    assert_eq!(done.result()["structuredContent"]["task"]["payload"], json!({ "site": "north" }));
    for site in [Some("south"), None] {
        let refused = call(site).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    }
}
