use p2p_taskqueue::{
    Caller, ErrorCode, Json, PeerId, QueueError, Request, TaskId, TaskQueueExt as _, TaskStatus,
    api::{At, CacheSet, CompletedStatus, Invite, Limit, Order, Outcome, Pause, Submit, Target},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, and},
    nodes::{Nodes, offer},
    queue::TestQueue,
    schema,
    task_states::form,
    work::Lease,
};

/// The tasks that the calls of the tools are about.
struct About {
    ended: TaskId,
    queued: TaskId,
    asking: Lease,
    completed: Lease,
    renewed: Lease,
    failed: Lease,
    released: Lease,
    /// Another machine of the mesh, and a ticket to another mesh.
    machine: String,
    ticket: String,
}

impl About {
    /// Makes tasks in this queue, each in the state that its tool needs.
    async fn at(queue: &TestQueue) -> Self {
        let lease = async |task_type: &str| {
            queue.submit(Submit::new(task_type, Json::null())).await;
            Lease::claim(&queue.queue, vec![task_type.to_owned()]).await
        };
        let asking = lease("asks").await;
        asking.ask([("go-on", form("Go on?"))]).await;
        for _ in 0..3 {
            queue.submit(Submit::new("waits", Json::null())).await;
        }
        let limit = Limit { task_type: Some("render".to_owned()), concurrency_key: None, running_max: Some(4) };
        queue.queue.limit(&Caller::Local, limit).await.unwrap();
        let pause = Pause { task_types: vec!["render".to_owned()], drain: false };
        queue.queue.pause(&Caller::Local, pause).await.unwrap();
        let value = Json::from_value(&json!({ "a": 1 })).unwrap();
        queue.queue.cache_set(&Caller::Local, CacheSet { key: "k".to_owned(), value, ttl_s: None }).await.unwrap();
        Self {
            ended: lease("ends").await.complete(Json::from_value(&42).unwrap()).await,
            queued: queue.submit(Submit::new("waits", Json::null())).await,
            asking,
            completed: lease("completes").await,
            renewed: lease("renews").await,
            failed: lease("fails").await,
            released: lease("is released").await,
            machine: PeerId::random().to_string(),
            ticket: "a ticket".to_owned(),
        }
    }
}

/// Returns every tool with arguments that its queue accepts.
fn calls(about: &About) -> Vec<(&'static str, Value)> {
    let held = |lease: &Lease, more| and(json!({ "task_id": lease.task_id, "fence": lease.fence.to_string() }), more);
    let id = about.ended;
    vec![
        ("run_task", json!({ "task_type": "wordcount", "payload": "a b", "timeout_s": 60 })),
        ("p2p_taskqueue_submit", json!({ "task_type": "wordcount", "payload": { "a": 1 }, "labels": ["x"] })),
        (
            "p2p_taskqueue_submit_many",
            json!({ "tasks": [
                { "task_type": "a", "after": [id], "on_parent_failure": "run" },
                { "task_type": "b", "payload": 1, "idempotency_key": "k" },
                { "task_type": "b", "payload": 2, "idempotency_key": "k" },
            ] }),
        ),
        ("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 1 })),
        ("p2p_taskqueue_get_task", json!({ "task_id": id })),
        ("p2p_taskqueue_get_tasks", json!({ "task_ids": [id, "0".repeat(32)] })),
        ("p2p_taskqueue_list_tasks", json!({ "status": "completed", "order": "newest" })),
        ("p2p_taskqueue_cancel_task", json!({ "task_id": about.queued, "reason": "not needed" })),
        (
            "p2p_taskqueue_answer_task",
            json!({ "task_id": about.asking.task_id, "input_responses": { "go-on": { "action": "accept", "content": {} } } }),
        ),
        ("p2p_taskqueue_workers", json!({ "task_type": "wordcount", "label": "gpu", "schemas": true })),
        ("p2p_taskqueue_status", json!({ "detail": true })),
        ("list_peers", json!({ "include_capabilities": true })),
        ("p2p_taskqueue_discover", json!({ "methods": ["mdns", "kademlia"], "timeout_s": 2 })),
        ("p2p_taskqueue_list_tools", json!({})),
        ("p2p_taskqueue_call_tool", json!({ "tool_name": "wordcount", "args": { "text": "a b" }, "timeout_s": 60 })),
        (
            "p2p_taskqueue_submit_docker_hub",
            json!({ "image": "alpine:3", "command": ["echo", "hi"], "environment": { "A": "1" }, "extra": { "timeout": 9 } }),
        ),
        (
            "p2p_taskqueue_submit_docker_github",
            json!({ "repo_url": "https://github.com/owner/name", "build_args": { "A": "1" }, "command": "make test" }),
        ),
        ("p2p_taskqueue_heartbeat", json!({ "peer_id": "anyone", "clock": { "vector": { "anyone": 3 } } })),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "supported_task_types": ["waits"] })),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "max_tasks": 8, "wait_s": 0 })),
        (
            "p2p_taskqueue_complete_task",
            held(
                &about.completed,
                json!({
                    "result": [1], "submit": [{ "task_type": "a", "payload": [] }], "claim_next": { "worker_id": "w" },
                }),
            ),
        ),
        ("p2p_taskqueue_renew_task", held(&about.renewed, json!({ "progress": 1 }))),
        ("p2p_taskqueue_fail_task", held(&about.failed, json!({ "error": "broke", "retryable": false }))),
        ("p2p_taskqueue_release_task", held(&about.released, json!({}))),
        ("p2p_taskqueue_stats", json!({})),
        ("p2p_taskqueue_retry_task", json!({ "status": "failed", "task_types": ["wordcount"], "older_than_s": 60 })),
        ("p2p_taskqueue_purge", json!({ "task_ids": [id] })),
        ("p2p_taskqueue_pause", json!({ "task_types": ["render"], "drain": true })),
        ("p2p_taskqueue_resume", json!({})),
        ("p2p_taskqueue_limit", json!({ "task_type": "render", "running_max": 4 })),
        ("p2p_taskqueue_free", json!({ "machine": about.machine })),
        ("p2p_taskqueue_cache_get", json!({ "key": "k", "timeout_s": 10 })),
        ("p2p_taskqueue_cache_set", json!({ "key": "k", "value": [1], "ttl_s": 60, "timeout_s": 10 })),
        ("p2p_taskqueue_cache_has", json!({ "key": "k" })),
        ("p2p_taskqueue_cache_delete", json!({ "key": "k" })),
        ("p2p_taskqueue_members", json!({})),
        ("p2p_taskqueue_invite", json!({ "role": "worker:render.*", "for_s": 60, "uses": 2 })),
        ("p2p_taskqueue_members_change", json!({ "member": about.machine, "name": "box" })),
        ("p2p_taskqueue_members_remove", json!({ "member": about.machine, "keep": ["none"] })),
        ("p2p_taskqueue_join", json!({ "ticket": about.ticket, "leave": true })),
        ("p2p_taskqueue_leave", json!({})),
    ]
}

/// The tools that are not for clients of another node.
const OF_THIS_MACHINE: [&str; 7] = [
    "p2p_taskqueue_discover",
    "p2p_taskqueue_free",
    "p2p_taskqueue_invite",
    "p2p_taskqueue_members_change",
    "p2p_taskqueue_members_remove",
    "p2p_taskqueue_join",
    "p2p_taskqueue_leave",
];

/// Starts two nodes, both with a worker for a tool.
async fn nodes() -> Nodes {
    Nodes::start(vec![offer("wordcount", Json::null())]).await
}

/// Returns the operation of a tool call, and its target.
fn asked(request: Request) -> (Target, Request) {
    match request {
        Request::At(At { target, request }) => (target, *request),
        request => (Target::default(), request),
    }
}

#[tokio::test]
async fn every_tool_does_its_work_and_answers_as_it_declares() {
    let (Nodes { client, there, .. }, elsewhere) = (&nodes().await, nodes().await);
    let ticket = elsewhere.here.queue().invite(&Caller::Local, Invite::default()).await.unwrap().ticket;
    let about = About { machine: there.peer.to_string(), ticket, ..About::at(&client.queue).await };
    let (tools, calls) = (client.tools().await, calls(&about));
    assert_eq!(tools.len(), calls.len() + 1, "the last one is the worker's");
    for ((name, arguments), tool) in calls.into_iter().zip(tools) {
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
    let client = Client::new(TestQueue::refusing(error));
    let about = About::at(&client.queue).await;
    for ((name, arguments), tool) in calls(&about).into_iter().zip(client.tools().await) {
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
        let answered = Client::new(TestQueue::refusing(error.clone())).refused("list_peers", json!({})).await;
        assert_eq!(answered, serde_json::to_value(error).unwrap(), "{code:?}");
    }
}

#[tokio::test]
async fn every_tool_goes_to_the_peer_that_is_named() {
    let Nodes { client, there, address, .. } = &nodes().await;
    let by_name = json!({ "remote_peer_id": there.peer.to_string() });
    let by_both = and(by_name.clone(), json!({ "remote_multiaddr": address }));
    let both = Target { remote_multiaddr: Some(address.clone()), remote_peer_id: Some(there.peer) };
    for (place, target) in [(by_name, Target::peer(there.peer)), (by_both, both)] {
        let about = About::at(there).await;
        for (name, mut arguments) in calls(&about) {
            if name == "list_peers" {
                arguments["include_capabilities"] = json!(false);
            }
            let arguments = and(arguments, place.clone());
            // Only a node's own clients may make it dial, end leases, or decide who belongs to its mesh.
            if OF_THIS_MACHINE.contains(&name) {
                assert_eq!(client.refused(name, arguments).await["code"], "forbidden");
            } else {
                client.done(name, arguments).await;
            }
            assert_eq!(asked(client.queue.last()).0, target, "{name}");
        }
        let record = there.record(about.completed.task_id).await;
        assert_eq!((record.status, record.owner), (TaskStatus::Completed, there.peer));
    }
}

#[tokio::test]
async fn without_a_peer_a_tool_goes_to_the_local_node() {
    let client = Client::new(TestQueue::new());
    client.done("p2p_taskqueue_status", json!({ "remote_multiaddr": "", "remote_peer_id": "", "peer_id": "" })).await;
    assert!(matches!(client.queue.last(), Request::StatusQuery(_)));
}

#[tokio::test]
async fn arguments_arrive_as_they_were_given() {
    let client = Client::new(TestQueue::new());
    let [list, claim, complete] =
        ["p2p_taskqueue_list_tasks", "p2p_taskqueue_claim_next", "p2p_taskqueue_complete_task"];
    client
        .done(list, json!({ "status": "failed", "task_types": ["a"], "label": "l", "limit": 7, "order": "newest" }))
        .await;
    let Request::List(asked) = client.queue.last() else { panic!("not a list") };
    assert_eq!((asked.label.as_deref(), asked.limit, asked.order), (Some("l"), 7, Order::Newest));
    client.queue.put(Json::null()).await;
    client.done(claim, json!({ "worker_id": "w", "session": "s", "lease_s": 2, "wait_s": 0.5 })).await;
    let Request::Claim(asked) = client.queue.last() else { panic!("not a claim") };
    assert_eq!((asked.session.as_deref(), asked.lease_s, asked.wait_s), (Some("s"), 2.0, 0.5));
    let Lease { task_id, fence, .. } = client.queue.start().await;
    let arguments = json!({ "task_id": task_id, "fence": fence.to_string(), "status": "failed", "error": "e" });
    client.done(complete, arguments).await;
    let Request::Complete(asked) = client.queue.last() else { panic!("not a completion") };
    assert_eq!((asked.status, asked.fence), (CompletedStatus::Failed, fence));
    let record = client.queue.record(task_id).await;
    assert_eq!((record.status, record.error.as_deref()), (TaskStatus::Failed, Some("e")));
}

#[tokio::test]
async fn run_task_submits_and_waits_for_the_same_task() {
    let client = Client::new(TestQueue::new());
    let answer = client.done("run_task", json!({ "task_type": "wordcount", "payload": "a b", "timeout_s": 9 }));
    let answer = client.worked(answer, json!(2)).await;
    let Request::Wait(wait) = client.queue.last() else { panic!("did not wait") };
    assert_eq!((client.queue.asked(), wait.timeout_s), (2, 9.0));
    assert_eq!(answer["task"]["task_id"], wait.task_id.unwrap().to_string());
    assert_eq!((&answer["task"]["payload"], &answer["done"]), (&json!("a b"), &json!(true)));
    assert_eq!(answer["task"]["result"], 2);
}

#[tokio::test]
async fn run_task_refuses_a_bad_wait_before_it_submits() {
    let client = Client::new(TestQueue::new());
    for timeout_s in [json!(-1), json!(3601), json!("soon")] {
        let error = client.refused("run_task", json!({ "task_type": "t", "timeout_s": timeout_s })).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!("timeout_s")));
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn run_task_names_the_task_when_only_the_wait_fails() {
    let client =
        Client::new(TestQueue::new().refusing_if(
            |request| matches!(request, Request::Wait(_)),
            QueueError::new(ErrorCode::Unreachable, "gone"),
        ));
    let error = client.refused("run_task", json!({ "task_type": "t" })).await;
    let Request::Wait(wait) = client.queue.last() else { panic!("did not wait") };
    let (message, id) = (error["message"].as_str().unwrap(), wait.task_id.unwrap().to_string());
    assert!(message.contains(&id) && message.contains("gone"), "{message}");
    assert_eq!(error["code"], "unreachable");
    assert_eq!(error["outcome"], serde_json::to_value(Outcome::Unknown).unwrap());
}

#[tokio::test]
async fn list_peers_answers_as_many_as_asked_and_what_they_can_do() {
    let Nodes { client, there, .. } = &nodes().await;
    let answer = client.done("list_peers", json!({ "include_capabilities": true })).await;
    assert_eq!(answer["self_peer_id"], client.queue.peer.to_string());
    assert_eq!((&answer["count"], answer["peers"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(answer["peers"][0]["peer_id"], there.peer.to_string());
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
    let client = Client::new(TestQueue::new());
    let arguments = json!({
        "image": "alpine:3", "command": "echo hi", "volumes": { "/a": "/b" },
        "extra": { "timeout": 9, "image": "another" },
    });
    client.done("p2p_taskqueue_submit_docker_hub", arguments).await;
    let Request::Submit(submit) = client.queue.last() else { panic!("not a submit") };
    assert_eq!(submit.task_type, "docker.execute");
    let payload: Value = client.queue.record(client.queue.only().await).await.payload.to().unwrap();
    let expected = json!({ "image": "alpine:3", "command": "echo hi", "volumes": { "/a": "/b" }, "timeout": 9 });
    assert_eq!(payload, expected);
    let error = client.refused("p2p_taskqueue_submit_docker_hub", json!({ "image": "a", "command": 7 })).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!("command")), "{error}");
}
