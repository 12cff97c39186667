//! What a client with a token may do: what each role is shown and allowed, and what an agent never reaches.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{Request as HttpRequest, StatusCode, header},
};
use mcp_core::{BearerToken, McpConfig};
use p2p_taskqueue::{Json, PeerId, TaskId, TaskStatus, api::Submit};
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply, and, call, legacy, modern, modern_plain},
    nodes::offer,
    queue::{TestQueue, worker},
    task_methods::follower,
};

/// The tools by what they are for, written once more.
const SUBMIT: &[&str] = &[
    "run_task",
    "p2p_taskqueue_submit",
    "p2p_taskqueue_submit_many",
    "p2p_taskqueue_cancel_task",
    "p2p_taskqueue_answer_task",
    "p2p_taskqueue_call_tool",
    "p2p_taskqueue_submit_docker_hub",
    "p2p_taskqueue_submit_docker_github",
    "p2p_taskqueue_cache_set",
    "p2p_taskqueue_cache_delete",
];
const READ: &[&str] = &[
    "p2p_taskqueue_wait_task",
    "p2p_taskqueue_get_task",
    "p2p_taskqueue_get_tasks",
    "p2p_taskqueue_list_tasks",
    "p2p_taskqueue_cache_get",
    "p2p_taskqueue_cache_has",
];
const WORK: &[&str] = &[
    "p2p_taskqueue_claim_next",
    "p2p_taskqueue_claim_many",
    "p2p_taskqueue_complete_task",
    "p2p_taskqueue_renew_task",
    "p2p_taskqueue_fail_task",
    "p2p_taskqueue_release_task",
];
const OPERATE: &[&str] = &[
    "p2p_taskqueue_stats",
    "p2p_taskqueue_retry_task",
    "p2p_taskqueue_purge",
    "p2p_taskqueue_pause",
    "p2p_taskqueue_resume",
    "p2p_taskqueue_limit",
    "p2p_taskqueue_free",
];
const DECIDE: &[&str] = &[
    "p2p_taskqueue_invite",
    "p2p_taskqueue_join",
    "p2p_taskqueue_leave",
    "p2p_taskqueue_members_change",
    "p2p_taskqueue_members_remove",
];
const ANYBODY: &[&str] = &[
    "p2p_taskqueue_workers",
    "p2p_taskqueue_status",
    "list_peers",
    "p2p_taskqueue_discover",
    "p2p_taskqueue_list_tools",
    "p2p_taskqueue_heartbeat",
    "p2p_taskqueue_members",
];

/// The tool that a worker offers. To call it is to submit.
const OFFERED: &str = "scan";

const CLIENTS: [(&str, &str); 6] = [
    ("boss", "admin"),
    ("mate", "member"),
    ("ann", "agent"),
    ("bob", "agent"),
    ("hand", "worker"),
    ("renderer", "worker:render.*,ocr"),
];

/// A server with a client of each kind. The token of each is its name.
fn server() -> Client {
    let queue = TestQueue::new().with_workers(vec![worker(PeerId::random(), vec![offer(OFFERED, Json::null())])]);
    let config = CLIENTS.into_iter().fold(McpConfig::default(), |config, (name, grants)| {
        config.with_client_granted(name, BearerToken::new(name), grants.parse().unwrap())
    });
    Client::with_config(queue, config)
}

async fn by(client: &Client, name: &str, mut request: HttpRequest<Body>) -> Reply {
    request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {name}").parse().unwrap());
    client.send(request).await
}

async fn ask(client: &Client, name: &str, method: &str, params: Value) -> Value {
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    by(client, name, legacy().body(Body::from(message.to_string())).unwrap()).await.json()
}

/// Calls a tool, and returns its answer with `ok`.
async fn tool(client: &Client, name: &str, tool: &str, arguments: Value) -> Value {
    let body = Body::from(call(tool, arguments).to_string());
    by(client, name, legacy().body(body).unwrap()).await.result()["structuredContent"].clone()
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("ok")
}

async fn submit(client: &Client, name: &str) -> TaskId {
    let submit = Submit { submitter: Some(name.to_owned()), ..Submit::new("t", Json::from_text("secret")) };
    client.queue.submit(submit).await
}

/// Makes arguments that every tool takes, about this task where it is about one.
fn arguments(tool: &str, id: TaskId) -> Value {
    let leased = json!({ "task_id": id, "fence": "1.1" });
    match tool.strip_prefix("p2p_taskqueue_").unwrap_or(tool) {
        "run_task" => json!({ "task_type": "t", "timeout_s": 0 }),
        "submit" => json!({ "task_type": "t" }),
        "submit_many" => json!({ "tasks": [{ "task_type": "t" }] }),
        "wait_task" => json!({ "task_id": id, "timeout_s": 0 }),
        "get_task" | "cancel_task" => json!({ "task_id": id }),
        "answer_task" => json!({ "task_id": id, "input_responses": { "a": 1 } }),
        "call_tool" => json!({ "tool_name": OFFERED, "args": {}, "timeout_s": 0 }),
        "submit_docker_hub" => json!({ "image": "alpine:3" }),
        "submit_docker_github" => json!({ "repo_url": "https://example.com/a" }),
        "heartbeat" => json!({ "peer_id": "p" }),
        "claim_next" => json!({ "worker_id": "w", "task_types": ["ocr"] }),
        "claim_many" => json!({ "worker_id": "w", "task_types": ["ocr"], "max_tasks": 1 }),
        "complete_task" => and(leased, json!({ "result": 1 })),
        "renew_task" => and(leased, json!({ "lease_s": 5 })),
        "fail_task" => and(leased, json!({ "error": "no" })),
        "release_task" => leased,
        "get_tasks" | "retry_task" | "purge" => json!({ "task_ids": [id] }),
        "limit" => json!({ "task_type": "other", "running_max": 1 }),
        "cache_get" | "cache_has" | "cache_delete" => json!({ "key": "k" }),
        "cache_set" => json!({ "key": "k", "value": 1 }),
        "discover" => json!({ "timeout_s": 0 }),
        "list_peers" => json!({ "discover": false }),
        "pause" | "resume" => json!({ "task_types": ["other"] }),
        "free" => json!({ "machine": PeerId::random().to_string() }),
        "join" => json!({ "ticket": "a ticket" }),
        "members_change" => json!({ "member": "gpu-box", "name": "box" }),
        "members_remove" => json!({ "member": "gpu-box" }),
        OFFERED => json!({ "payload": 1 }),
        _ => json!({}),
    }
}

fn allowed(name: &str) -> BTreeSet<&'static str> {
    let groups: &[&[&str]] = match name {
        "boss" => &[SUBMIT, READ, WORK, OPERATE, DECIDE, ANYBODY, &[OFFERED]],
        "mate" => &[SUBMIT, READ, WORK, OPERATE, ANYBODY, &[OFFERED]],
        "ann" | "bob" => &[SUBMIT, READ, ANYBODY, &[OFFERED]],
        _ => &[WORK, ANYBODY],
    };
    groups.concat().into_iter().collect()
}

#[tokio::test]
async fn each_role_is_shown_the_tools_that_it_may_call() {
    let client = server();
    let all: BTreeSet<String> = allowed("boss").into_iter().map(str::to_owned).collect();
    for (name, _) in CLIENTS {
        let listed = ask(&client, name, "tools/list", json!({})).await;
        let shown: BTreeSet<String> =
            listed["result"]["tools"].as_array().unwrap().iter().map(|tool| text(&tool["name"])).collect();
        assert_eq!(shown, allowed(name).into_iter().map(str::to_owned).collect(), "{name}");
    }
    let open = Client::over(&client.queue, McpConfig::default());
    let shown: BTreeSet<String> = open.tools().await.iter().map(|tool| text(&tool["name"])).collect();
    assert_eq!(shown, all, "without tokens everybody may do everything");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

#[tokio::test]
async fn each_role_may_call_each_tool_or_not() {
    for (name, _) in CLIENTS {
        let client = server();
        for tool_name in allowed("boss") {
            if tool_name == OFFERED && allowed(name).contains(OFFERED) {
                // It would wait for a worker. A test of its own calls it.
                continue;
            }
            let id = submit(&client, name).await;
            let before = client.queue.asked();
            let answer = tool(&client, name, tool_name, arguments(tool_name, id)).await;
            if allowed(name).contains(tool_name) {
                assert!(!["forbidden", "invalid_argument"].contains(&code(&answer)), "{name}: {tool_name}: {answer}");
            } else {
                assert_eq!(code(&answer), "forbidden", "{name}: {tool_name}: {answer}");
                let asked = client.queue.asked() - before;
                let looked = usize::from(tool_name == OFFERED) * 2;
                assert!(asked <= looked, "{name}: {tool_name}: the queue was asked");
                assert_eq!(client.queue.record(id).await.status, TaskStatus::Queued, "{name}: {tool_name}");
            }
        }
    }
}

#[tokio::test]
async fn an_agent_reaches_no_task_of_another_client_by_any_tool() {
    let client = server();
    let (own, other) = (submit(&client, "ann").await, submit(&client, "bob").await);
    let nobodys = client.queue.put(Json::null()).await;
    let about = ["wait_task", "get_task", "cancel_task", "answer_task"].map(|tool| format!("p2p_taskqueue_{tool}"));
    for target in [json!({}), json!({ "remote_peer_id": PeerId::random().to_string() })] {
        for name in &about {
            for id in [other, nobodys] {
                let foreign = tool(&client, "ann", name, and(arguments(name, id), target.clone())).await;
                let absent = TaskId::from_bytes([9; 16]);
                let unknown = tool(&client, "ann", name, and(arguments(name, absent), target.clone())).await;
                let told = |answer: &Value| answer.to_string().replace(&id.to_string(), "ID");
                let expected = unknown.to_string().replace(&absent.to_string(), "ID");
                assert_eq!(told(&foreign), expected, "{name} tells that the task is there");
            }
        }
        let many = tool(
            &client,
            "ann",
            "p2p_taskqueue_get_tasks",
            and(json!({ "task_ids": [own, other, nobodys] }), target.clone()),
        )
        .await;
        assert_eq!(many["tasks"].as_array().unwrap().len(), 1, "{many}");
        assert_eq!(many["missing"], json!([other, nobodys]), "{many}");
        let wait = and(json!({ "task_ids": [own, other], "timeout_s": 0 }), target.clone());
        assert_eq!(code(&tool(&client, "ann", "p2p_taskqueue_wait_task", wait).await), "not_found");
        let listed = tool(&client, "ann", "p2p_taskqueue_list_tasks", target.clone()).await;
        assert_eq!(ids(&listed["tasks"]), [own.to_string()]);
        for name in ["run_task", "p2p_taskqueue_submit"] {
            let after = |id: TaskId| and(and(arguments(name, id), json!({ "after": [id] })), target.clone());
            assert_eq!(code(&tool(&client, "ann", name, after(other)).await), "not_found", "{name}");
        }
        let many = json!({ "tasks": [{ "task_type": "t" }, { "task_type": "t", "after": [other] }] });
        let many = tool(&client, "ann", "p2p_taskqueue_submit_many", and(many, target)).await;
        assert_eq!(code(&many), "not_found", "{many}");
    }
    for id in [other, nobodys] {
        assert_eq!(client.queue.record(id).await.status, TaskStatus::Queued);
    }
}

fn ids(tasks: &Value) -> Vec<String> {
    tasks.as_array().unwrap_or_else(|| panic!("{tasks}")).iter().map(|task| text(&task["task_id"])).collect()
}

#[tokio::test]
async fn an_agent_reads_follows_and_controls_what_it_submitted() {
    let client = server();
    let answer = tool(&client, "ann", "p2p_taskqueue_submit", json!({ "task_type": "t" })).await;
    let id: TaskId = text(&answer["task_id"]).parse().unwrap();
    let after = tool(&client, "ann", "p2p_taskqueue_submit", json!({ "task_type": "t", "after": [id] })).await;
    assert_eq!(code(&after), "ok", "{after}");
    for target in [json!({}), json!({ "remote_peer_id": PeerId::random().to_string() })] {
        for name in ["wait_task", "get_task", "get_tasks"].map(|tool| format!("p2p_taskqueue_{tool}")) {
            let answer = tool(&client, "ann", &name, and(arguments(&name, id), target.clone())).await;
            assert!(answer.to_string().contains(&format!(r#""task_id":"{id}""#)), "{name}: {answer}");
        }
    }
    let cancelled = tool(&client, "ann", "p2p_taskqueue_cancel_task", json!({ "task_id": id })).await;
    assert_eq!(cancelled["cancelled"], true, "{cancelled}");
    let mates = tool(&client, "mate", "p2p_taskqueue_get_task", json!({ "task_id": id })).await;
    assert_eq!(code(&mates), "ok", "a member reads all tasks");
}

#[tokio::test]
async fn an_agent_does_not_meet_the_idempotency_keys_of_another_client() {
    let client = server();
    let mut submitted = BTreeSet::new();
    for name in ["ann", "bob", "mate"] {
        let submit = || json!({ "task_type": "t", "payload": name, "idempotency_key": "k" });
        let first = tool(&client, name, "p2p_taskqueue_submit", submit()).await;
        let again = tool(&client, name, "p2p_taskqueue_submit", submit()).await;
        assert_eq!((&again["task_id"], &again["duplicate"]), (&first["task_id"], &json!(true)), "{name}");
        assert!(submitted.insert(text(&first["task_id"])), "{name} was answered the task of another client");
    }
}

#[tokio::test]
async fn an_agent_sees_no_resource_of_another_client() {
    let client = server();
    let (own, other) = (submit(&client, "ann").await, submit(&client, "bob").await);
    let listed = ask(&client, "ann", "resources/list", json!({})).await["result"].to_string();
    assert!(listed.contains(&own.to_string()) && !listed.contains(&other.to_string()), "{listed}");
    let read = async |name: &str, uri: String| ask(&client, name, "resources/read", json!({ "uri": uri })).await;
    let done = client.queue.claim().await;
    assert_eq!(done.task_id, own);
    done.complete(Json::from_text("of ann")).await;
    let done = client.queue.claim().await;
    assert_eq!(done.task_id, other);
    done.complete(Json::from_text("of bob")).await;
    for end in ["", "/result"] {
        let of = |id: TaskId| format!("taskmesh://tasks/{id}{end}");
        assert!(read("ann", of(own)).await["result"].to_string().contains("of ann"));
        assert!(read("bob", of(other)).await["result"].to_string().contains("of bob"));
        let refused = read("ann", of(other)).await;
        assert_eq!(refused["error"]["data"]["code"], "not_found", "{refused}");
        assert!(!refused.to_string().contains("of bob"), "{refused}");
    }
    for name in ["ann", "hand"] {
        for place in ["node", "peers"] {
            let node = read(name, format!("taskmesh://{place}")).await;
            assert!(node.get("error").is_none(), "{name}: {node}");
        }
    }
    let listed = ask(&client, "hand", "resources/list", json!({})).await;
    assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 2, "a worker reads no tasks: {listed}");
    let refused = read("hand", format!("taskmesh://tasks/{own}")).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
}

#[tokio::test]
async fn the_methods_for_tasks_serve_an_agent_its_own_handles_only() {
    let client = server();
    let (own, other) = (submit(&client, "ann").await, submit(&client, "bob").await);
    for (method, more) in [
        ("tasks/get", json!({})),
        ("tasks/update", json!({ "inputResponses": { "a": 1 } })),
        ("tasks/cancel", json!({})),
    ] {
        let about = async |name: &str, id: TaskId| {
            let id = id.to_string();
            let params = and(json!({ "taskId": id }), more.clone());
            by(&client, name, modern(method, Some(&id), params, &follower())).await.json()
        };
        assert_eq!(about("ann", other).await["error"]["data"]["code"], "not_found", "{method}");
        assert_eq!(about("hand", other).await["error"]["data"]["code"], "forbidden", "{method}");
        let served = about("ann", own).await;
        assert!(served.get("error").is_none(), "{method}: {served}");
    }
    assert_eq!(client.queue.record(other).await.status, TaskStatus::Queued);
    assert_eq!(client.queue.record(own).await.status, TaskStatus::Cancelled);
    let params = json!({ "name": "run_task", "arguments": { "task_type": "t" } });
    let handle = by(&client, "ann", modern("tools/call", Some("run_task"), params, &follower())).await.result();
    assert_eq!(handle["resultType"], "task", "{handle}");
}

#[tokio::test]
async fn a_mesh_tool_is_for_those_who_submit() {
    let client = server();
    let params = || json!({ "name": OFFERED, "arguments": { "payload": 1 } });
    let refused = by(&client, "hand", modern_plain("tools/call", Some(OFFERED), params())).await.result();
    assert_eq!(refused["structuredContent"]["error"]["code"], "forbidden", "{refused}");
    let called = by(&client, "ann", modern("tools/call", Some(OFFERED), params(), &follower())).await.result();
    let id: TaskId = text(&called["taskId"]).parse().unwrap();
    assert_eq!(client.queue.record(id).await.submitter.as_deref(), Some("ann"));
}

#[tokio::test]
async fn each_agent_has_a_cache_of_its_own() {
    let client = server();
    let cache = async |name: &str, operation: &str, arguments: Value| {
        tool(&client, name, &format!("p2p_taskqueue_cache_{operation}"), arguments).await
    };
    for target in [json!({}), json!({ "remote_peer_id": PeerId::random().to_string() })] {
        let key = || and(json!({ "key": "k" }), target.clone());
        for (name, value) in [("ann", 1), ("bob", 2), ("mate", 3)] {
            assert_eq!(cache(name, "has", key()).await["hit"], false, "{name}");
            assert_eq!(code(&cache(name, "set", and(key(), json!({ "value": value }))).await), "ok");
        }
        assert_eq!(cache("bob", "delete", key()).await["deleted"], true);
        for (name, value) in [("ann", json!(1)), ("mate", json!(3)), ("boss", json!(3))] {
            assert_eq!(cache(name, "get", key()).await["value"], value, "{name}");
        }
        for name in ["ann", "mate"] {
            assert_eq!(cache(name, "delete", key()).await["deleted"], true, "{name}");
        }
    }
}

#[tokio::test]
async fn everybody_may_name_a_machine() {
    let client = server();
    for (name, _) in CLIENTS {
        // The mesh of the queue has a machine of this name.
        let answer = tool(&client, name, "p2p_taskqueue_status", json!({ "remote_peer_id": "gpu-box" })).await;
        assert_eq!(code(&answer), "ok", "{name}: {answer}");
        let answer = tool(&client, name, "p2p_taskqueue_status", json!({ "remote_peer_id": "gpu-bxo" })).await;
        assert_eq!(code(&answer), "not_found", "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_worker_claims_the_types_that_it_may() {
    let client = server();
    let claim = |types: Value| json!({ "worker_id": "w", "supported_task_types": types });
    for task_type in ["wordcount", "ocr", "render.video"] {
        client.queue.submit(Submit::new(task_type, Json::null())).await;
    }
    for name in ["claim_next", "claim_many"].map(|tool| format!("p2p_taskqueue_{tool}")) {
        for types in [json!(["wordcount"]), json!(["wordcount", "render"]), json!([]), json!(["*"]), json!(["render"])]
        {
            let refused = tool(&client, "renderer", &name, claim(types.clone())).await;
            assert_eq!(code(&refused), "forbidden", "{name}: {types}: {refused}");
        }
    }
    let unnamed = tool(&client, "renderer", "p2p_taskqueue_claim_next", json!({ "worker_id": "w" })).await;
    assert_eq!(code(&unnamed), "forbidden", "{unnamed}");
    let claimed = tool(&client, "renderer", "p2p_taskqueue_claim_next", claim(json!(["wordcount", "ocr"]))).await;
    assert_eq!(claimed["task"]["task_type"], "ocr", "wordcount is older, and not for the renderer: {claimed}");
    let end = json!({ "task_id": claimed["task"]["task_id"], "fence": claimed["task"]["fence"], "result": 1 });
    for more in [json!({ "claim_next": claim(json!(["wordcount"])) }), json!({ "submit": [{ "task_type": "ocr" }] })] {
        let refused = tool(&client, "renderer", "p2p_taskqueue_complete_task", and(end.clone(), more)).await;
        assert_eq!(code(&refused), "forbidden", "{refused}");
    }
    let next = and(end, json!({ "claim_next": claim(json!(["render.video"])) }));
    let completed = tool(&client, "renderer", "p2p_taskqueue_complete_task", next).await;
    assert_eq!(completed["next"]["task_type"], "render.video", "{completed}");
    let any = tool(&client, "hand", "p2p_taskqueue_claim_next", json!({ "worker_id": "w" })).await;
    assert_eq!(any["task"]["task_type"], "wordcount", "{any}");
}

#[tokio::test]
async fn the_metrics_are_for_those_who_read_everybodys_tasks() {
    let client = server();
    for (name, grants) in CLIENTS {
        let request = HttpRequest::get("/metrics").header(header::HOST, "localhost").body(Body::empty()).unwrap();
        let status = by(&client, name, request).await.status;
        let expected = if ["admin", "member"].contains(&grants) { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "{name}");
    }
}
