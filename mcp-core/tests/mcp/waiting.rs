//! Why a task waits, as each tool and each way of following a task says it.

use std::time::Duration;

use p2p_taskqueue::{
    Json, PeerId,
    api::{Lacking, WaitReason, WaitingFor},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, modern, soon},
    nodes::offer,
    progress::{events, pass, run},
    queue::{TestQueue, worker},
    schema,
    task_methods::{follower, get},
};

const MESSAGE: &str = "no machine takes 'wordcuont'; did you mean 'wordcount'?";
const SENTENCE: &str = "queued: no machine takes 'wordcuont'; did you mean 'wordcount'?";

fn waiting_for() -> WaitingFor {
    WaitingFor {
        lacking: Some(Lacking::Type),
        nearest: Some("wordcount".to_owned()),
        machines: vec!["gpu-box".to_owned()],
        ..WaitingFor::new(WaitReason::WorkerAbsent, MESSAGE)
    }
}

fn told() -> Value {
    json!({
        "reason": "worker_absent", "message": MESSAGE, "lacking": "type", "nearest": "wordcount",
        "machines": ["gpu-box"],
    })
}

fn client() -> Client {
    let workers = vec![worker(PeerId::random(), vec![offer("scan", Json::null())])];
    Client::new(TestQueue::new().with_workers(workers).waiting_for(waiting_for()))
}

/// Returns the texts of a result.
fn texts(result: &Value) -> Vec<&str> {
    result["content"].as_array().unwrap().iter().map(|block| block["text"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_answer_about_a_queued_task_says_why_it_waits() {
    let client = client();
    let id = client.queue.put(Json::null()).await;
    let tools = client.tools().await;
    for (tool, arguments, place) in [
        ("p2p_taskqueue_submit", json!({ "task_type": "wordcuont" }), "/waiting_for"),
        ("run_task", json!({ "task_type": "wordcuont", "timeout_s": 0 }), "/task/waiting_for"),
        ("p2p_taskqueue_get_task", json!({ "task_id": id }), "/task/waiting_for"),
        ("p2p_taskqueue_wait_task", json!({ "task_id": id, "timeout_s": 1 }), "/task/waiting_for"),
        ("p2p_taskqueue_call_tool", json!({ "tool_name": "wordcuont", "timeout_s": 0 }), "/task/waiting_for"),
        ("p2p_taskqueue_submit_docker_hub", json!({ "image": "alpine:3" }), "/waiting_for"),
        ("p2p_taskqueue_submit_docker_github", json!({ "repo_url": "https://example.com/a" }), "/waiting_for"),
        ("scan", json!({ "payload": 1 }), "/task/waiting_for"),
    ] {
        let result = client.call(tool, arguments).await;
        assert_eq!(result["isError"], false, "{tool}: {result}");
        let answer = &result["structuredContent"];
        assert_eq!(answer.pointer(place), Some(&told()), "{tool}: {answer}");
        let declared = tools.iter().find(|known| known["name"] == tool).unwrap();
        let property = place.replace('/', "/properties/");
        assert!(declared["outputSchema"].pointer(&property).is_some(), "{tool} does not declare {place}");
        schema::check(&declared["outputSchema"], answer, tool).unwrap();
        let texts = texts(&result);
        assert_eq!(serde_json::from_str::<Value>(texts[0]).unwrap(), *answer, "{tool}");
        assert_eq!(texts[1..], [SENTENCE], "{tool}");
    }
}

#[tokio::test]
async fn an_answer_about_any_other_task_is_one_text() {
    let client = client();
    let lease = client.queue.start().await;
    let get = json!({ "task_id": lease.task_id });
    assert_eq!(texts(&client.call("p2p_taskqueue_get_task", get.clone()).await).len(), 1, "it runs");
    lease.complete(Json::null()).await;
    assert_eq!(texts(&client.call("p2p_taskqueue_get_task", get).await).len(), 1, "it has ended");
    let free = Client::new(TestQueue::new());
    let result = free.call("p2p_taskqueue_submit", json!({ "task_type": "t" })).await;
    assert_eq!((texts(&result).len(), result["structuredContent"].get("waiting_for")), (1, None), "a worker is free");
}

#[tokio::test]
async fn the_lists_have_it_in_each_record() {
    let client = client();
    let ids = [client.queue.put(Json::null()).await, client.queue.put(Json::null()).await];
    let waited = client.done("p2p_taskqueue_wait_task", json!({ "task_ids": ids, "timeout_s": 0 })).await;
    let tasks = waited["tasks"].as_array().unwrap();
    assert!(tasks.len() == 2 && tasks.iter().all(|task| task["waiting_for"] == told()), "{waited}");
}

#[tokio::test]
async fn a_client_that_follows_tasks_reads_it_in_the_handle_and_in_each_state() {
    let client = client();
    let params = json!({ "name": "run_task", "arguments": { "task_type": "wordcuont" } });
    let handle = client.send(modern("tools/call", Some("run_task"), params, &follower())).await.result();
    assert_eq!((&handle["resultType"], &handle["statusMessage"]), (&json!("task"), &json!(SENTENCE)), "{handle}");
    let id = client.queue.only().await;
    assert_eq!(get(&client, id).await["statusMessage"], SENTENCE);
    let lease = client.queue.claim().await;
    assert_eq!(get(&client, id).await["statusMessage"], "running");
    lease.fail("exit code 1", true).await;
    let again = format!("queued again after a failed attempt: exit code 1; {MESSAGE}");
    assert_eq!(get(&client, id).await["statusMessage"], again);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_is_told_while_the_task_is_queued_and_when_it_is_not_any_more() {
    for modern_era in [false, true] {
        let client = client();
        let work = async {
            pass(Duration::from_millis(3_500)).await;
            let lease = client.queue.claim().await;
            pass(Duration::from_secs(2)).await;
            lease.say(Some(0.5), Some("half")).await;
            pass(Duration::from_secs(2)).await;
            lease.complete(Json::null()).await;
        };
        let (reply, ()) = soon(async { tokio::join!(client.send(run(modern_era, &json!("t"))), work) }).await;
        let mut events = events(&reply.text);
        let end = events.pop().unwrap();
        assert_eq!(end["result"]["structuredContent"]["done"], true, "{end}");
        let told: Vec<_> = events.iter().map(|event| event["params"]["message"].as_str().unwrap()).collect();
        assert_eq!(told, [SENTENCE, "running", "half"]);
        let progress: Vec<_> = events.iter().map(|event| event["params"]["progress"].as_f64().unwrap()).collect();
        assert!(progress.is_sorted_by(|before, after| before < after), "{progress:?}");
    }
}
