use std::{convert::Infallible, pin::pin, sync::atomic::Ordering, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use futures::{StreamExt, stream, stream::FuturesUnordered};
use mcp_core::McpConfig;
use p2p_taskqueue::{
    Caller, Json, TaskId, TaskQueueExt as _, TaskStatus,
    api::{Submit, Wait},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, and, call, legacy, soon},
    queue::TestQueue,
    work::Lease,
};

/// Makes a call that waits for a task that nobody works on.
async fn wait(client: &Client) -> Value {
    call("p2p_taskqueue_wait_task", json!({ "task_id": client.queue.put(Json::null()).await, "timeout_s": 60 }))
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_body_bytes_max(1_000));
    let of = |len: usize| {
        let spare = call("p2p_taskqueue_submit", json!({ "task_type": "t", "payload": "" })).to_string().len();
        call("p2p_taskqueue_submit", json!({ "task_type": "t", "payload": "x".repeat(len - spare) })).to_string()
    };
    let streamed = |text: String| {
        let bytes = text.into_bytes();
        let chunks: Vec<_> =
            bytes.chunks(100).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
        Body::from_stream(stream::iter(chunks))
    };
    assert_eq!(client.send(legacy().body(streamed(of(1_000))).unwrap()).await.result()["isError"], false);
    let declared = legacy().header(header::CONTENT_LENGTH, 1_001).body(Body::from(of(1_001))).unwrap();
    for request in [declared, legacy().body(streamed(of(1_001))).unwrap()] {
        let reply = client.send(request).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        let data = &reply.json()["error"]["data"];
        assert_eq!((&data["code"], &data["limit"]), (&json!("limit_exceeded"), &json!(1_000)));
    }
    assert_eq!(client.queue.asked(), 1);
}

#[tokio::test]
async fn a_payload_of_its_largest_size_passes_and_one_byte_more_is_named() {
    let client = Client::new(TestQueue::new());
    let payload = |len: usize| json!({ "task_type": "t", "payload": "x".repeat(len - 2) });
    client.done("p2p_taskqueue_submit", payload(1024 * 1024)).await;
    let error = client.refused("p2p_taskqueue_submit", payload(1024 * 1024 + 1)).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("limit_exceeded"), &json!("payload")));
    let reply = client.legacy(&call("p2p_taskqueue_submit", payload(8 * 1024 * 1024))).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let client = Client::new(TestQueue::new());
    let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let began = tokio::time::Instant::now();
    let reply = client.send(legacy().body(silent).unwrap()).await;
    assert_eq!(reply.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn requests_over_the_bound_are_told_to_come_back() {
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_requests_max(1));
    let (first, second) = (wait(&client).await, call("list_peers", json!({ "discover": false })));
    {
        let mut pending = pin!(client.legacy(&first));
        client.until_held(&mut pending).await;
        let reply = client.legacy(&second).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers[header::RETRY_AFTER], "1");
        assert_eq!(reply.json()["error"]["data"]["code"], "overloaded");
        let health = client.send(Request::get("/healthz").body(Body::empty()).unwrap()).await;
        assert_eq!(health.status, StatusCode::OK);
    }
    assert_eq!(client.legacy(&second).await.status, StatusCode::OK);
}

#[tokio::test]
async fn waiting_calls_leave_room_for_others() {
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_waiting_calls_max(1));
    let first = wait(&client).await;
    let mut pending = pin!(client.legacy(&first));
    client.until_held(&mut pending).await;
    let Lease { task_id: id, fence, .. } = client.queue.claim().await;
    for (tool, arguments) in [
        ("p2p_taskqueue_wait_task", json!({ "task_id": id })),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "wait_s": 1 })),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "wait_s": 1 })),
        (
            "p2p_taskqueue_complete_task",
            json!({ "task_id": id, "fence": fence.to_string(), "claim_next": { "worker_id": "w", "wait_s": 1 } }),
        ),
    ] {
        let error = client.refused(tool, arguments).await;
        assert_eq!((&error["code"], &error["retry_after_s"]), (&json!("overloaded"), &json!(1.0)), "{tool}");
    }
    assert_eq!(client.queue.record(id).await.status, TaskStatus::Running, "nothing of it was done");
    client.done("p2p_taskqueue_status", json!({})).await;
}

#[tokio::test]
async fn a_thousand_waits_do_not_hold_the_others_up() {
    let client = Client::new(TestQueue::new());
    let wait = wait(&client).await;
    let messages = vec![wait; 1_000];
    let mut pending: FuturesUnordered<_> = messages.iter().map(|message| client.legacy(message)).collect();
    while client.queue.holding.load(Ordering::SeqCst) < 1_000 {
        tokio::select! {
            reply = pending.next() => panic!("answered already: {reply:?}"),
            () = client.queue.held.notified() => {}
        }
    }
    client.done("p2p_taskqueue_status", json!({})).await;
    drop(pending);
    while client.queue.holding.load(Ordering::SeqCst) > 0 {
        client.queue.dropped.notified().await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call() {
    let client = Client::new(TestQueue::new());
    let run = call("run_task", json!({ "task_type": "t", "timeout_s": 60 }));
    let claim = json!({ "worker_id": "w", "supported_task_types": ["wanted"], "wait_s": 60 });
    for request in [wait(&client).await, run, call("p2p_taskqueue_claim_next", claim)] {
        {
            let mut pending = pin!(client.legacy(&request));
            client.until_held(&mut pending).await;
            assert_eq!(client.queue.holding.load(Ordering::SeqCst), 1);
        }
        soon(client.queue.dropped.notified()).await;
        assert_eq!(client.queue.holding.load(Ordering::SeqCst), 0);
    }
    // The claim that was given up does not take the task.
    let wanted = client.queue.submit(Submit::new("wanted", Json::null())).await;
    assert_eq!(soon(Lease::claim(&client.queue.queue, vec!["wanted".to_owned()])).await.task_id, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_is_given_up() {
    let config = McpConfig::default().with_call_timeout(Duration::from_secs(5));
    let client = Client::with_config(TestQueue::silent(), config);
    let began = tokio::time::Instant::now();
    let arguments = json!({ "task_id": TaskId::random().unwrap().to_string(), "timeout_s": 20 });
    let error = client.refused("p2p_taskqueue_wait_task", arguments).await;
    assert_eq!((&error["code"], &error["outcome"]), (&json!("timeout"), &json!("unknown")));
    assert_eq!(began.elapsed().as_secs(), 25);
}

#[tokio::test]
async fn waiting_calls_end_with_an_answer_when_the_server_stops() {
    let shutdown = CancellationToken::new();
    let client = Client::with_config(TestQueue::new(), McpConfig::default().with_shutdown(shutdown.clone()));
    let request = wait(&client).await;
    let mut pending = pin!(client.legacy(&request));
    client.until_held(&mut pending).await;
    shutdown.cancel();
    let answer = pending.await.result()["structuredContent"].clone();
    assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!("shutting_down")));
}

#[tokio::test]
async fn what_may_have_taken_effect_before_it_waited_is_not_said_to_be_undone_when_the_server_stops() {
    let next = json!({ "claim_next": { "worker_id": "w", "wait_s": 60 } });
    let cases = [
        ("p2p_taskqueue_complete_task", next, "unknown"),
        ("p2p_taskqueue_renew_task", json!({ "wait_s": 60, "lease_s": 300, "progress": 0.5 }), "unknown"),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "wait_s": 60 }), "not_applied"),
    ];
    for (tool, arguments, outcome) in cases {
        let shutdown = CancellationToken::new();
        let client = Client::with_config(TestQueue::new(), McpConfig::default().with_shutdown(shutdown.clone()));
        let lease = client.queue.start().await;
        let held = json!({ "task_id": lease.task_id, "fence": lease.fence.to_string() });
        let request = call(tool, if outcome == "unknown" { and(held, arguments) } else { arguments });
        let mut pending = pin!(client.legacy(&request));
        client.until_held(&mut pending).await;
        shutdown.cancel();
        let error = pending.await.result()["structuredContent"]["error"].clone();
        assert_eq!((&error["code"], &error["outcome"]), (&json!("shutting_down"), &json!(outcome)), "{request}");
        if tool == "p2p_taskqueue_complete_task" {
            let wait = Wait::one(lease.task_id, 60.0);
            assert!(soon(client.queue.queue.wait(&Caller::Local, wait)).await.unwrap().done, "it was done");
        }
    }
}
