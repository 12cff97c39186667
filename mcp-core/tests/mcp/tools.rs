use p2p_taskqueue::{
    ErrorCode, Fence, Json, PeerId, QueueError, Request, TaskId,
    api::{At, CompletedStatus, Order, Outcome, Target},
};
use serde_json::{Value, json};

use crate::{client::Client, queue::FakeQueue, schema};

/// Every tool with arguments that its queue accepts.
fn calls(id: TaskId) -> Vec<(&'static str, Value)> {
    let (id, fence) = (id.to_string(), FakeQueue::fence().to_string());
    vec![
        ("run_task", json!({ "task_type": "wordcount", "payload": "a b", "timeout_s": 5 })),
        ("p2p_taskqueue_submit", json!({ "task_type": "wordcount", "payload": { "a": 1 }, "labels": ["x"] })),
        (
            "p2p_taskqueue_submit_many",
            json!({ "tasks": [{ "task_type": "a", "after": [id], "on_parent_failure": "run" }, { "task_type": "b" }] }),
        ),
        ("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 1 })),
        ("p2p_taskqueue_get_task", json!({ "task_id": id })),
        ("p2p_taskqueue_get_tasks", json!({ "task_ids": [id, "0".repeat(32)] })),
        ("p2p_taskqueue_list_tasks", json!({ "status": "completed", "order": "newest" })),
        ("p2p_taskqueue_cancel_task", json!({ "task_id": id, "reason": "not needed" })),
        (
            "p2p_taskqueue_answer_task",
            json!({ "task_id": id, "input_responses": { "go-on": { "action": "accept", "content": {} } } }),
        ),
        ("p2p_taskqueue_status", json!({ "detail": true })),
        ("list_peers", json!({ "include_capabilities": true })),
        ("p2p_taskqueue_discover", json!({ "methods": ["mdns", "kademlia"], "timeout_s": 2 })),
        ("p2p_taskqueue_list_tools", json!({})),
        ("p2p_taskqueue_call_tool", json!({ "tool_name": "wordcount", "args": { "text": "a b" }, "timeout_s": 5 })),
        (
            "p2p_taskqueue_submit_docker_hub",
            json!({ "image": "alpine:3", "command": ["echo", "hi"], "environment": { "A": "1" }, "extra": { "timeout": 9 } }),
        ),
        (
            "p2p_taskqueue_submit_docker_github",
            json!({ "repo_url": "https://github.com/owner/name", "build_args": { "A": "1" }, "command": "make test" }),
        ),
        ("p2p_taskqueue_heartbeat", json!({ "peer_id": "anyone", "clock": { "vector": { "anyone": 3 } } })),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "supported_task_types": ["wordcount"] })),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "max_tasks": 8, "wait_s": 0 })),
        (
            "p2p_taskqueue_complete_task",
            json!({
                "task_id": id, "fence": fence, "result": [1], "submit": [{ "task_type": "a", "payload": [] }],
                "claim_next": { "worker_id": "w" },
            }),
        ),
        ("p2p_taskqueue_renew_task", json!({ "task_id": id, "fence": fence, "progress": 1 })),
        ("p2p_taskqueue_fail_task", json!({ "task_id": id, "fence": fence, "error": "broke", "retryable": false })),
        ("p2p_taskqueue_release_task", json!({ "task_id": id, "fence": fence })),
        ("p2p_taskqueue_stats", json!({})),
        ("p2p_taskqueue_retry_task", json!({ "status": "failed", "task_types": ["wordcount"], "older_than_s": 60 })),
        ("p2p_taskqueue_purge", json!({ "task_ids": [id] })),
        ("p2p_taskqueue_pause", json!({ "task_types": ["wordcount"], "drain": true })),
        ("p2p_taskqueue_resume", json!({})),
        ("p2p_taskqueue_limit", json!({ "task_type": "wordcount", "running_max": 4 })),
        ("p2p_taskqueue_cache_get", json!({ "key": "k", "timeout_s": 10 })),
        ("p2p_taskqueue_cache_set", json!({ "key": "k", "value": [1], "ttl_s": 60, "timeout_s": 10 })),
        ("p2p_taskqueue_cache_has", json!({ "key": "k" })),
        ("p2p_taskqueue_cache_delete", json!({ "key": "k" })),
    ]
}

/// The operation that a tool came to, wherever it was sent.
fn asked(request: Request) -> (Target, Request) {
    match request {
        Request::At(At { target, request }) => (target, *request),
        request => (Target::default(), request),
    }
}

#[tokio::test]
async fn every_tool_does_its_work_and_answers_as_it_declares() {
    let client = Client::new(FakeQueue::new());
    let id = client.queue.put(Json::null());
    let tools = client.tools().await;
    assert_eq!(tools.len(), calls(id).len());
    for ((name, arguments), tool) in calls(id).into_iter().zip(tools) {
        assert_eq!(tool["name"], name);
        schema::check(&tool["inputSchema"], &arguments, name).unwrap();
        let result = client.call(name, arguments).await;
        assert_eq!(result["isError"], false, "{name}: {result}");
        let answer = &result["structuredContent"];
        schema::check(&tool["outputSchema"], answer, name).unwrap();
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), *answer, "{name}");
    }
}

#[tokio::test]
async fn every_tool_passes_the_queues_refusal_on_as_it_declares() {
    let error = QueueError::over_limit("records", 3, 2, "bytes").with_retry_after_s(0.5);
    let client = Client::new(FakeQueue::refusing(error));
    let id = TaskId::random().unwrap();
    for ((name, arguments), tool) in calls(id).into_iter().zip(client.tools().await) {
        let result = client.call(name, arguments).await;
        assert_eq!(result["isError"], true, "{name}: {result}");
        let answer = &result["structuredContent"];
        schema::check(&tool["outputSchema"], answer, name).unwrap();
        let expected = json!({
            "ok": false,
            "error": {
                "code": "limit_exceeded", "message": "records: 3 bytes, the limit is 2", "retryable": false,
                "outcome": "not_applied", "retry_after_s": 0.5, "field": "records", "limit": 2, "value": 3,
            },
        });
        assert_eq!(*answer, expected, "{name}");
        assert_eq!(result["content"][0]["text"], expected.to_string(), "{name}");
    }
}

#[tokio::test]
async fn every_code_is_an_answer_and_never_a_protocol_error() {
    for code in [
        ErrorCode::InvalidArgument,
        ErrorCode::LimitExceeded,
        ErrorCode::NotFound,
        ErrorCode::Conflict,
        ErrorCode::StaleFence,
        ErrorCode::WrongState,
        ErrorCode::AlreadyFinished,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::Unreachable,
        ErrorCode::Timeout,
        ErrorCode::Interrupted,
        ErrorCode::Overloaded,
        ErrorCode::StorageFull,
        ErrorCode::StorageError,
        ErrorCode::Paused,
        ErrorCode::ShuttingDown,
        ErrorCode::Unsupported,
        ErrorCode::Internal,
    ] {
        let error = QueueError::new(code, "for a reason");
        let answered = Client::new(FakeQueue::refusing(error.clone())).refused("list_peers", json!({})).await;
        assert_eq!(answered, serde_json::to_value(error).unwrap(), "{code:?}");
    }
}

#[tokio::test]
async fn every_tool_goes_to_the_peer_that_is_named() {
    let client = Client::new(FakeQueue::new());
    let id = client.queue.put(Json::null());
    let peer = PeerId::random();
    let address = format!("/ip4/192.0.2.7/tcp/9710/p2p/{peer}");
    for (name, mut arguments) in calls(id) {
        arguments["include_capabilities"] = json!(false);
        if name != "list_peers" {
            arguments.as_object_mut().unwrap().remove("include_capabilities");
        }
        arguments["remote_peer_id"] = json!(peer.to_string());
        client.done(name, arguments.clone()).await;
        assert_eq!(asked(client.queue.last()).0, Target::peer(peer), "{name}");
        arguments["remote_multiaddr"] = json!(address);
        client.done(name, arguments).await;
        let both = Target { remote_multiaddr: Some(address.parse().unwrap()), remote_peer_id: Some(peer) };
        assert_eq!(asked(client.queue.last()).0, both, "{name}");
    }
}

#[tokio::test]
async fn without_a_peer_a_tool_goes_to_the_local_node() {
    let client = Client::new(FakeQueue::new());
    client.done("p2p_taskqueue_status", json!({ "remote_multiaddr": "", "remote_peer_id": "", "peer_id": "" })).await;
    assert!(matches!(client.queue.last(), Request::StatusQuery(_)));
}

#[tokio::test]
async fn arguments_arrive_as_they_were_given() {
    let client = Client::new(FakeQueue::new());
    let id = client.queue.put(Json::null());
    let [list, claim, complete] =
        ["p2p_taskqueue_list_tasks", "p2p_taskqueue_claim_next", "p2p_taskqueue_complete_task"];
    client
        .done(list, json!({ "status": "failed", "task_types": ["a"], "label": "l", "limit": 7, "order": "newest" }))
        .await;
    let Request::List(asked) = client.queue.last() else { panic!("not a list") };
    assert_eq!((asked.label.as_deref(), asked.limit, asked.order), (Some("l"), 7, Order::Newest));
    client.done(claim, json!({ "worker_id": "w", "session": "s", "lease_s": 2, "wait_s": 0.5 })).await;
    let Request::Claim(asked) = client.queue.last() else { panic!("not a claim") };
    assert_eq!((asked.session.as_deref(), asked.lease_s, asked.wait_s), (Some("s"), 2.0, 0.5));
    let arguments = json!({ "task_id": id.to_string(), "fence": "3.14", "status": "failed", "error": "e" });
    client.done(complete, arguments).await;
    let Request::Complete(asked) = client.queue.last() else { panic!("not a completion") };
    assert_eq!((asked.status, asked.fence), (CompletedStatus::Failed, Fence { epoch: 3, counter: 14 }));
}

#[tokio::test]
async fn run_task_submits_and_waits_for_the_same_task() {
    let client = Client::new(FakeQueue::new());
    let answer = client.done("run_task", json!({ "task_type": "wordcount", "payload": "a b", "timeout_s": 9 })).await;
    let Request::Wait(wait) = client.queue.last() else { panic!("did not wait") };
    assert_eq!((client.queue.asked(), wait.timeout_s), (2, 9.0));
    assert_eq!(answer["task"]["task_id"], wait.task_id.unwrap().to_string());
    assert_eq!((&answer["task"]["payload"], &answer["done"]), (&json!("a b"), &json!(true)));
}

#[tokio::test]
async fn run_task_refuses_a_bad_wait_before_it_submits() {
    let client = Client::new(FakeQueue::new());
    for timeout_s in [json!(-1), json!(3601), json!("soon")] {
        let error = client.refused("run_task", json!({ "task_type": "t", "timeout_s": timeout_s })).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!("timeout_s")));
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn run_task_names_the_task_when_only_the_wait_fails() {
    let client = Client::new(FakeQueue::new().refusing_waits(QueueError::new(ErrorCode::Unreachable, "gone")));
    let error = client.refused("run_task", json!({ "task_type": "t" })).await;
    let Request::Wait(wait) = client.queue.last() else { panic!("did not wait") };
    let (message, id) = (error["message"].as_str().unwrap(), wait.task_id.unwrap().to_string());
    assert!(message.contains(&id) && message.contains("gone"), "{message}");
    assert_eq!(error["code"], "unreachable");
    assert_eq!(error["outcome"], serde_json::to_value(Outcome::Unknown).unwrap());
}

#[tokio::test]
async fn list_peers_answers_as_many_as_asked_and_what_they_can_do() {
    let client = Client::new(FakeQueue::new());
    let answer = client.done("list_peers", json!({ "include_capabilities": true })).await;
    assert_eq!(answer["self_peer_id"], client.queue.peer.to_string());
    assert_eq!((&answer["count"], answer["peers"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(answer["peers"][0]["capabilities"]["task_types"], json!(["wordcount"]));
    assert_eq!(client.done("list_peers", json!({ "limit": 0 })).await["peers"], json!([]));
    let asked = client.queue.asked();
    let plain = client.done("list_peers", json!({ "discover": false })).await;
    assert_eq!(plain["peers"][0].get("capabilities"), None);
    assert_eq!(client.queue.asked(), asked + 1, "nobody is looked for");
    client.done("list_peers", json!({ "discovery_methods": ["mdns", "rendezvous", "dht"] })).await;
    assert_eq!(client.queue.asked(), asked + 3);
    let error = client.refused("list_peers", json!({ "discovery_timeout_s": -1 })).await;
    assert_eq!(error["code"], "invalid_argument");
}

#[tokio::test]
async fn a_container_is_a_task_of_the_type_that_workers_know() {
    let client = Client::new(FakeQueue::new());
    let arguments = json!({
        "image": "alpine:3", "command": "echo hi", "volumes": { "/a": "/b" },
        "extra": { "timeout": 9, "image": "another" },
    });
    client.done("p2p_taskqueue_submit_docker_hub", arguments).await;
    let Request::Submit(submit) = client.queue.last() else { panic!("not a submit") };
    assert_eq!(submit.task_type, "docker.execute");
    let payload: Value = submit.payload.to().unwrap();
    let expected = json!({ "image": "alpine:3", "command": "echo hi", "volumes": { "/a": "/b" }, "timeout": 9 });
    assert_eq!(payload, expected);
    let error = client.refused("p2p_taskqueue_submit_docker_hub", json!({ "image": "a", "command": 7 })).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!("command")), "{error}");
}
