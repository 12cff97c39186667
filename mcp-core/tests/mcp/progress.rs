//! What a client is told while it waits.

use std::{future::pending, pin::pin, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Request, header},
    response::Response,
};
use futures::{FutureExt, StreamExt};
use p2p_taskqueue::{Json, Request as Asked};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use crate::{
    client::{Client, legacy, modern, soon},
    queue::TestQueue,
    work::Lease,
};

/// Makes a call of `run_task` of a client of either era.
pub(crate) fn run(modern_era: bool, token: &Value) -> Request<Body> {
    let arguments = json!({ "task_type": "wordcount", "timeout_s": 60 });
    let mut params = json!({ "name": "run_task", "arguments": arguments });
    if !token.is_null() {
        params["_meta"] = json!({ "progressToken": token });
    }
    if modern_era {
        return modern("tools/call", Some("run_task"), params, &json!({}));
    }
    let message = json!({ "jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": params });
    legacy().body(Body::from(message.to_string())).unwrap()
}

/// Returns the answer to a run as soon as it begins, and the lease of the worker, which has reported progress.
async fn begun(client: &Client, run: Request<Body>) -> (Response, Lease) {
    let work = async {
        let lease = client.queue.claim().await;
        lease.say(Some(0.001), None).await;
        lease
    };
    let (response, lease) = tokio::join!(client.router.clone().oneshot(run), work);
    (response.unwrap(), lease)
}

/// Lets this time pass on the stopped clock.
pub(crate) async fn pass(span: Duration) {
    timeout(span, pending::<()>()).await.unwrap_err();
}

/// Reads the messages of an event stream.
pub(crate) fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|data| serde_json::from_str(data.trim()).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_is_told_of_each_change_and_of_the_end_at_once() {
    for (modern_era, token) in [(false, json!("t")), (true, json!(7))] {
        let client = Client::new(TestQueue::new());
        let began = Instant::now();
        let work = async {
            let lease = client.queue.claim().await;
            lease.say(Some(0.5), Some("half")).await;
            pass(Duration::from_millis(3_500)).await;
            lease.say(Some(0.5), Some("still half")).await;
            pass(Duration::from_secs(1)).await;
            lease.say(Some(0.0), Some("once more")).await;
            pass(Duration::from_secs(1)).await;
            lease.say(Some(0.9), Some("nearly")).await;
            pass(Duration::from_secs(1)).await;
            lease.complete(Json::null()).await;
        };
        let (reply, ()) = tokio::join!(client.send(run(modern_era, &token)), work);
        assert_eq!(began.elapsed().as_millis(), 6_500, "the end comes when it is there");
        assert_eq!(reply.headers[header::CONTENT_TYPE], "text/event-stream");
        let mut events = events(&reply.text);
        let end = events.pop().unwrap();
        assert_eq!((&end["id"], &end["result"]["structuredContent"]["done"]), (&json!("a"), &json!(true)));
        let told: Vec<_> = events.iter().map(|event| event["params"]["message"].as_str().unwrap()).collect();
        assert_eq!(told, ["half", "still half", "once more", "nearly"]);
        let progress: Vec<_> = events.iter().map(|event| event["params"]["progress"].as_f64().unwrap()).collect();
        assert!(progress.is_sorted_by(|before, after| before < after), "{progress:?}");
        assert_eq!((progress[0], progress[3]), (0.5, 0.9));
        for event in &events {
            assert_eq!(event["method"], "notifications/progress");
            assert_eq!((&event["params"]["progressToken"], &event["params"]["total"]), (&token, &json!(1.0)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_ask_for_it_is_not_told() {
    for modern_era in [false, true] {
        let client = Client::new(TestQueue::new());
        let work = async {
            let lease = client.queue.claim().await;
            lease.say(Some(0.5), None).await;
            pass(Duration::from_secs(5)).await;
            lease.complete(Json::null()).await;
        };
        let (reply, ()) = tokio::join!(client.send(run(modern_era, &Value::Null)), work);
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(reply.result()["structuredContent"]["done"], true);
        assert_eq!(client.queue.asked(), 2, "a submit and one wait");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_says_nothing_new_is_answered_plainly() {
    let client = Client::new(TestQueue::new());
    let work = async {
        let lease = client.queue.claim().await;
        pass(Duration::from_secs(5)).await;
        lease.complete(Json::null()).await;
    };
    let (reply, ()) = tokio::join!(client.send(run(true, &json!("t"))), work);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_between_the_events_frees_its_wait() {
    for modern_era in [false, true] {
        let client = Client::new(TestQueue::new());
        let (response, _lease) = begun(&client, run(modern_era, &json!("t"))).await;
        let mut stream = pin!(response.into_body().into_data_stream());
        let first = stream.next().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("notifications/progress"), "{first:?}");
        stream.set(Body::empty().into_data_stream());
        soon(client.queue.dropped.notified()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_no_wait_beyond_its_time() {
    let client = Client::new(TestQueue::new().silent_if(|request| matches!(request, Asked::Wait(_))));
    let (response, lease) = begun(&client, run(true, &json!("t"))).await;
    for step in 1..200 {
        lease.say(Some(f64::from(step) / 200.0), None).await;
        pass(Duration::from_secs(1)).await;
        if client.queue.dropped.notified().now_or_never().is_some() {
            let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let last = events(&String::from_utf8_lossy(&bytes)).pop().unwrap();
            assert_eq!(last["result"]["structuredContent"]["error"]["code"], "timeout", "{last}");
            return;
        }
    }
    panic!("the wait is still held");
}
