use p2p_taskqueue::{Json, TaskId};
use serde_json::{Value, json};

use crate::{
    client::{Client, modern_plain as modern},
    queue::TestQueue,
};

fn ask(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

async fn read(client: &Client, uri: &str) -> Value {
    client.legacy(&ask("resources/read", &json!({ "uri": uri }))).await.json()
}

fn text(read: &Value) -> &str {
    read["result"]["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("{read}"))
}

#[tokio::test]
async fn a_client_lists_the_node_its_peers_and_the_tasks() {
    let client = Client::new(TestQueue::new());
    let id = client.queue.put(Json::null()).await;
    let listed = client.legacy(&ask("resources/list", &json!({}))).await.result();
    let uris: Vec<_> = listed["resources"].as_array().unwrap().iter().map(|one| one["uri"].clone()).collect();
    assert_eq!(uris, [json!("taskmesh://node"), json!("taskmesh://peers"), json!(format!("taskmesh://tasks/{id}"))]);
    assert_eq!(listed.get("nextCursor"), None, "{listed}");
}

#[tokio::test]
async fn a_client_pages_through_the_tasks() {
    let client = Client::new(TestQueue::new());
    let mut ids = Vec::new();
    for _ in 0..51 {
        ids.push(client.queue.put(Json::null()).await);
    }
    let tasks = |listed: &Value| -> Vec<String> {
        let resources = listed["resources"].as_array().unwrap().iter();
        resources.filter_map(|one| Some(one["uri"].as_str()?.strip_prefix("taskmesh://tasks/")?.to_owned())).collect()
    };
    let first = client.legacy(&ask("resources/list", &json!({}))).await.result();
    let next = client.legacy(&ask("resources/list", &json!({ "cursor": first["nextCursor"] }))).await.result();
    // The fixed places come on the first page only.
    assert_eq!(next["resources"].as_array().unwrap().len(), tasks(&next).len(), "{next}");
    let mut seen = [tasks(&first), tasks(&next)].concat();
    seen.sort_unstable();
    let mut put: Vec<_> = ids.iter().map(ToString::to_string).collect();
    put.sort_unstable();
    assert_eq!(seen, put);
}

#[tokio::test]
async fn the_templates_name_a_task_and_its_result() {
    let client = Client::new(TestQueue::new());
    let listed = client.legacy(&ask("resources/templates/list", &json!({}))).await.result();
    let templates = listed["resourceTemplates"].as_array().unwrap();
    let forms: Vec<_> = templates.iter().map(|one| one["uriTemplate"].as_str().unwrap()).collect();
    assert_eq!(forms, ["taskmesh://tasks/{id}", "taskmesh://tasks/{id}/result"]);
}

#[tokio::test]
async fn a_task_its_result_the_node_and_its_peers_can_be_read() {
    let client = Client::new(TestQueue::new());
    let id = client.queue.put(Json::from_text("a b")).await;
    client.queue.claim().await.complete(Json::from_value(&42).unwrap()).await;
    let task = read(&client, &format!("taskmesh://tasks/{id}")).await;
    let record: Value = serde_json::from_str(text(&task)).unwrap();
    assert_eq!((&record["task_id"], &record["payload"]), (&json!(id.to_string()), &json!("a b")));
    assert_eq!(text(&read(&client, &format!("taskmesh://tasks/{id}/result")).await), "42");
    let node: Value = serde_json::from_str(text(&read(&client, "taskmesh://node").await)).unwrap();
    assert_eq!(node["peer_id"], client.queue.peer.to_string());
    let peers: Value = serde_json::from_str(text(&read(&client, "taskmesh://peers").await)).unwrap();
    assert_eq!(peers["self_peer_id"], client.queue.peer.to_string());
}

#[tokio::test]
async fn an_unknown_address_or_task_is_not_found_in_both_eras() {
    let client = Client::new(TestQueue::new());
    let unknown = TaskId::random().unwrap();
    for uri in ["taskmesh://nothing".to_owned(), format!("taskmesh://tasks/{unknown}"), "file:///etc/passwd".to_owned()]
    {
        assert_eq!(read(&client, &uri).await["error"]["code"], -32002, "{uri}");
        let reply = client.send(modern("resources/read", Some(&uri), json!({ "uri": uri }))).await;
        assert_eq!(reply.json()["error"]["code"], -32602, "{uri}");
    }
}
