//! Arguments within arguments, and arguments of a part that several operations share.

use p2p_taskqueue::{
    Json, Request, TaskStatus,
    api::{At, OnParentFailure},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, and, call, call_with},
    nodes::Nodes,
    queue::TestQueue,
    work::Lease,
};

/// A value whose text a parser would change.
const ODD: &str = r#"{"b":1.0,"a":[18446744073709551616,1e3]}"#;

const SUBMIT_MANY: &str = "p2p_taskqueue_submit_many";
const COMPLETE: &str = "p2p_taskqueue_complete_task";

/// Calls a tool that must refuse with `invalid_argument`, and returns the field and the message of the error.
async fn invalid(client: &Client, tool: &str, arguments: Value) -> (String, String) {
    let error = client.refused(tool, arguments).await;
    assert_eq!(error["code"], "invalid_argument", "{error}");
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (text("field"), text("message"))
}

/// Makes the arguments of a completion of a task that does not exist.
fn complete(more: Value) -> Value {
    and(json!({ "task_id": "0".repeat(32), "fence": "3.14" }), more)
}

/// Makes the arguments of a completion of a running task.
fn complete_held(lease: &Lease, more: Value) -> Value {
    and(json!({ "task_id": lease.task_id, "fence": lease.fence.to_string() }), more)
}

#[tokio::test]
async fn payloads_within_are_passed_on_as_given() {
    let client = Client::new(TestQueue::new());
    let tasks = json!({ "tasks": [{ "task_type": "t", "payload": "PAYLOAD" }] });
    let children = json!({ "result": "PAYLOAD", "submit": [{ "task_type": "t", "payload": "PAYLOAD" }] });
    let lease = client.queue.start().await;
    let children = complete_held(&lease, children);
    for (tool, arguments) in [(SUBMIT_MANY, tasks), (COMPLETE, children)] {
        let reply = client.send(call_with(tool, arguments, ODD)).await;
        assert_eq!(reply.result()["isError"], false, "{reply:?}");
        let (submit, result) = match client.queue.last() {
            Request::SubmitMany(mut many) => (many.tasks.remove(0), None),
            Request::Complete(mut complete) => (complete.submit.remove(0), complete.result),
            other => panic!("not {tool}: {other:?}"),
        };
        assert_eq!(submit.payload.get(), ODD, "{tool}");
        assert_eq!(result.as_ref().map_or(ODD, Json::get), ODD, "{tool}");
    }
    let record = client.queue.record(lease.task_id).await;
    assert_eq!(record.result.as_ref().map(Json::get), Some(ODD));
    client.send(call_with("p2p_taskqueue_cache_set", json!({ "key": "k", "value": "PAYLOAD" }), ODD)).await;
    assert!(matches!(client.queue.last(), Request::CacheSet(set) if set.value.get() == ODD));
    let got = client.legacy(&call("p2p_taskqueue_cache_get", json!({ "key": "k" }))).await.result();
    assert!(got["content"][0]["text"].as_str().unwrap().contains(ODD), "{got}");
}

#[tokio::test]
async fn arguments_within_are_read_as_leniently_as_at_the_top() {
    let client = Client::new(TestQueue::new());
    let parent = client.queue.put(Json::null()).await;
    let task = json!({
        "task_type": "t", "payload": "", "priority": null, "session": "", "labels": "a, b", "delay_s": null,
        "after": parent.to_string(), "on_parent_failure": "run", "deadline_s": 60,
    });
    client.done(SUBMIT_MANY, json!({ "tasks": [task] })).await;
    let Request::SubmitMany(many) = client.queue.last() else { panic!("not a submit of many") };
    let submit = &many.tasks[0];
    assert_eq!((submit.payload.get(), submit.priority, &submit.session), ("\"\"", 5, &None));
    assert_eq!((&submit.labels, &submit.after), (&vec!["a".to_owned(), "b".to_owned()], &vec![parent]));
    assert_eq!((submit.on_parent_failure, submit.deadline_s), (OnParentFailure::Run, Some(60.0)));
    let claim = json!({ "worker_id": "w", "supported_task_types": "a,b", "wait_s": null, "session": "" });
    let lease = client.queue.claim().await;
    let next = client.done(COMPLETE, complete_held(&lease, json!({ "claim_next": claim, "submit": null }))).await;
    assert_eq!(next["next"], Value::Null, "there is no task of these types");
    let Request::Complete(asked) = client.queue.last() else { panic!("not a completion") };
    let claim = asked.claim_next.unwrap();
    assert_eq!((claim.supported_task_types.len(), claim.wait_s, claim.session), (2, 0.0, None));
    client.done(COMPLETE, complete_held(&lease, json!({ "claim_next": null, "result": null }))).await;
}

#[tokio::test]
async fn what_is_wrong_within_is_named_with_its_place() {
    let client = Client::new(TestQueue::new());
    let tasks = |second: Value| json!({ "tasks": [{ "task_type": "t" }, second] });
    for (tool, arguments, field, says) in [
        (SUBMIT_MANY, tasks(json!({ "task_type": "t", "priorty": 9 })), "tasks[1].priorty", "did you mean priority?"),
        (SUBMIT_MANY, tasks(json!({ "payload": 1 })), "tasks[1].task_type", "tasks[1]: task_type: is required"),
        (SUBMIT_MANY, tasks(json!({ "task_type": "t", "priority": 11 })), "tasks[1].priority", "from 1 to 10"),
        (SUBMIT_MANY, tasks(json!({ "task_type": "t", "priority": "high" })), "tasks[1].priority", "expected u8"),
        (SUBMIT_MANY, tasks(json!("t")), "tasks[1]", "must be an object"),
        (SUBMIT_MANY, tasks(json!(["t"])), "tasks[1]", "must be an object"),
        (
            SUBMIT_MANY,
            tasks(json!({ "task_type": "t", "labels": ["a", 7] })),
            "tasks[1].labels",
            "(at tasks[1].labels[1])",
        ),
        (SUBMIT_MANY, json!({ "tasks": { "task_type": "t" } }), "tasks", "a list of objects"),
        (SUBMIT_MANY, json!({ "tasks": [] }), "tasks", "must not be empty"),
        (SUBMIT_MANY, json!({}), "tasks", "is required"),
        (COMPLETE, complete(json!({ "claim_next": {} })), "claim_next.worker_id", "is required"),
        (COMPLETE, complete(json!({ "claim_next": { "worker_id": "w", "wait": 1 } })), "claim_next.wait", "wait_s"),
        (COMPLETE, complete(json!({ "claim_next": 7 })), "claim_next", "must be an object"),
        (COMPLETE, complete(json!({ "claim_next": ["w"] })), "claim_next", "must be an object"),
        (
            COMPLETE,
            complete(json!({ "claim_next": { "worker_id": "w", "lease_s": "long" } })),
            "claim_next.lease_s",
            "f64",
        ),
        (
            COMPLETE,
            complete(json!({ "claim_next": { "worker_id": "w", "lease_s": 0.5 } })),
            "claim_next.lease_s",
            "from 1",
        ),
        (
            COMPLETE,
            complete(json!({ "submit": [{ "task_type": "t", "deadline_s": 0 }] })),
            "submit[0].deadline_s",
            "from",
        ),
        (COMPLETE, complete(json!({ "submit": [{ "task_type": "t", "x": 1 }] })), "submit[0].x", "unknown argument"),
    ] {
        let (named, message) = invalid(&client, tool, arguments.clone()).await;
        assert_eq!(named, field, "{arguments}: {message}");
        assert!(message.contains(says), "{arguments}: {message}");
    }
}

#[tokio::test]
async fn arguments_of_a_shared_part_are_read_and_blamed_like_others() {
    let client = Client::new(TestQueue::new());
    let ids = "0".repeat(32);
    for (tool, arguments, field) in [
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "lease_s": "long", "wait_s": 1 }), "lease_s"),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": 7 }), "worker_id"),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "max_tasks": -1 }), "max_tasks"),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "max_tasks": 0 }), "max_tasks"),
        ("p2p_taskqueue_claim_many", json!({ "max_tasks": 2 }), "worker_id"),
        ("p2p_taskqueue_retry_task", json!({ "status": "asleep", "limit": 5 }), "status"),
        ("p2p_taskqueue_retry_task", json!({ "status": "completed" }), "status"),
        ("p2p_taskqueue_retry_task", json!({ "task_ids": ["7"] }), "task_ids"),
        ("p2p_taskqueue_purge", json!({ "status": "failed", "older_than_s": "old", "label": "x" }), "older_than_s"),
        ("p2p_taskqueue_purge", json!({ "task_ids": [ids], "task_types": ["t"] }), "status"),
        ("p2p_taskqueue_purge", json!({}), "task_ids"),
        ("p2p_taskqueue_limit", json!({ "running_max": 3 }), "task_type"),
    ] {
        let (named, message) = invalid(&client, tool, arguments.clone()).await;
        assert_eq!(named, field, "{arguments}: {message}");
    }
    let claim = json!({ "worker_id": "w", "task_types": "a,b", "max_tasks": 7, "lease_s": 60, "clock": {} });
    client.done("p2p_taskqueue_claim_many", claim).await;
    let Request::ClaimMany(asked) = client.queue.last() else { panic!("not a claim of many") };
    assert_eq!((asked.max_tasks, asked.claim.supported_task_types.len(), asked.claim.lease_s), (7, 2, 60.0));
    let retry = json!({ "status": "cancelled", "label": "x", "task_ids": [], "older_than_s": null });
    client.done("p2p_taskqueue_retry_task", retry).await;
    let Request::Retry(asked) = client.queue.last() else { panic!("not a retry") };
    assert_eq!((asked.selection.status, asked.selection.label.as_deref()), (Some(TaskStatus::Cancelled), Some("x")));
    client.done("p2p_taskqueue_limit", json!({ "concurrency_key": "k", "running_max": null })).await;
    assert!(matches!(client.queue.last(), Request::Limit(limit) if limit.running_max.is_none()));
}

#[tokio::test]
async fn a_heartbeat_has_a_peer_id_of_its_own() {
    let nodes = Nodes::start(Vec::new()).await;
    let (client, peer) = (&nodes.client, nodes.there.peer);
    let heartbeat = "p2p_taskqueue_heartbeat";
    let answer =
        client.done(heartbeat, json!({ "peer_id": "not a libp2p id", "remote_peer_id": peer.to_string() })).await;
    assert_eq!(answer["scheduler"]["known_peers"][0]["peer_id"], "not a libp2p id");
    assert_eq!(answer["scheduler"]["clock"]["node_id"], peer.to_string(), "that peer answers");
    let Request::At(At { target, request }) = client.queue.last() else { panic!("not at a peer") };
    assert_eq!(target.remote_peer_id, Some(peer));
    assert!(matches!(*request, Request::Heartbeat(beat) if beat.peer_id == "not a libp2p id" && beat.clock.is_none()));
    assert_eq!(invalid(client, heartbeat, json!({})).await.0, "peer_id");
    client.done(heartbeat, json!({ "peer_id": "p", "clock": null })).await;
}
