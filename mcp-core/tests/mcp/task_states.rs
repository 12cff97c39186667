//! How each state of a record looks to a client that follows tasks.

use std::time::{SystemTime, UNIX_EPOCH};

use p2p_taskqueue::{FailedBy, Json, Task, TaskId, TaskStatus};
use serde_json::{Value, json};

use crate::{
    client::{Client, call, modern},
    queue::FakeQueue,
    task_methods::get,
};

/// A question that the protocol has a form for.
pub(crate) fn form(message: &str) -> Json {
    let schema = json!({ "type": "object", "properties": { "sure": { "type": "boolean" } } });
    let params = json!({ "message": message, "requestedSchema": schema });
    Json::from_value(&json!({ "method": "elicitation/create", "params": params })).unwrap()
}

/// A task in the given state, and what is answered of it.
async fn state(change: impl FnOnce(&mut Task)) -> Value {
    let client = Client::new(FakeQueue::new());
    let id = client.queue.put_as(|task| {
        task.progress = None;
        task.result = None;
        change(task);
    });
    get(&client, id).await
}

/// Checks what the protocol demands of every state, and what only one that has ended has.
fn check_shape(state: &Value) {
    let ended = ["completed", "failed", "cancelled"].contains(&state["status"].as_str().unwrap());
    assert_eq!(state["resultType"], "complete", "{state}");
    assert!(state["taskId"].as_str().is_some_and(|id| id.parse::<TaskId>().is_ok()), "{state}");
    assert!(state["createdAt"].is_string() && state["lastUpdatedAt"].is_string(), "{state}");
    assert_eq!(state["ttlMs"].is_null(), !ended, "{state}");
    assert_eq!(state["pollIntervalMs"].as_u64().is_some(), !ended, "{state}");
    assert_eq!(state.get("task"), None, "{state}");
    for (field, of) in [("result", "completed"), ("error", "failed"), ("inputRequests", "input_required")] {
        assert_eq!(state.get(field).is_some(), state["status"] == of, "{field}: {state}");
    }
}

#[tokio::test]
async fn a_queued_task_works_and_says_that_it_is_queued() {
    let queued = state(|task| (task.status, task.attempt) = (TaskStatus::Queued, 0)).await;
    check_shape(&queued);
    assert_eq!((&queued["status"], &queued["statusMessage"]), (&json!("working"), &json!("queued")));
    let again = state(|task| {
        (task.status, task.attempt) = (TaskStatus::Queued, 1);
        task.error = Some("exit code 1".to_owned());
    })
    .await;
    check_shape(&again);
    assert_eq!(again["statusMessage"], "queued again after a failed attempt: exit code 1");
}

#[tokio::test]
async fn a_running_task_says_what_its_worker_says() {
    for (progress, message, told) in [
        (None, None, "running"),
        (Some(0.5), None, "running (50 %)"),
        (None, Some("reading"), "reading"),
        (Some(0.25), Some("reading"), "reading (25 %)"),
        (Some(1.0), Some(""), "running (100 %)"),
    ] {
        let state = state(|task| {
            task.status = TaskStatus::Running;
            (task.progress, task.status_message) = (progress, message.map(str::to_owned));
        })
        .await;
        check_shape(&state);
        assert_eq!((&state["status"], &state["statusMessage"]), (&json!("working"), &json!(told)));
    }
}

#[tokio::test]
async fn a_worker_that_asks_makes_its_task_ask() {
    let asking = state(|task| {
        task.status = TaskStatus::Running;
        task.input_requests = [("a", form("One?")), ("b", form("Two?"))].map(|(k, v)| (k.to_owned(), v)).into();
    })
    .await;
    check_shape(&asking);
    let requests = asking["inputRequests"].as_object().unwrap();
    assert_eq!((requests.len(), &requests["a"]["method"]), (2, &json!("elicitation/create")));
    assert_eq!(requests["b"]["params"]["message"], "Two?");
    assert_eq!(requests["b"]["params"]["requestedSchema"]["properties"]["sure"]["type"], "boolean");
}

#[tokio::test]
async fn what_the_protocol_has_no_form_for_is_named_and_not_asked() {
    let odd = [json!(null), json!("?"), json!({ "method": "dance" }), json!({ "method": "elicitation/create" })];
    let odd = odd.map(|request| Json::from_value(&request).unwrap());
    let keys = || (0..).map(|n: u32| n.to_string());
    let only_odd = state(|task| {
        task.status = TaskStatus::Running;
        task.input_requests = keys().zip(odd.clone()).collect();
    })
    .await;
    check_shape(&only_odd);
    let told = only_odd["statusMessage"].as_str().unwrap();
    assert!(only_odd["status"] == "working" && told.contains("p2p_taskqueue_answer_task"), "{only_odd}");
    let mixed = state(|task| {
        task.status = TaskStatus::Running;
        task.input_requests = keys().zip(odd).collect();
        task.input_requests.insert("go-on".to_owned(), form("Go on?"));
    })
    .await;
    assert_eq!(mixed["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["go-on"]);
}

#[tokio::test]
async fn a_client_is_asked_only_what_it_says_that_it_can_be_asked() {
    let client = Client::new(FakeQueue::new());
    let page = json!({ "mode": "url", "message": "Log in", "url": "https://machine.example/login" });
    let words = json!({ "messages": [], "maxTokens": 10 });
    let id = client.queue.put_as(|task| {
        task.status = TaskStatus::Running;
        task.input_requests.insert("form".to_owned(), form("Go on?"));
        for (key, method, params) in [("page", "elicitation/create", page), ("words", "sampling/createMessage", words)]
        {
            let request = json!({ "method": method, "params": params });
            task.input_requests.insert(key.to_owned(), Json::from_value(&request).unwrap());
        }
    });
    let id = id.to_string();
    for (mut declared, asked) in [
        (json!({}), vec![]),
        (json!({ "elicitation": {} }), vec!["form"]),
        (json!({ "elicitation": { "form": {} } }), vec!["form"]),
        (json!({ "elicitation": { "url": {} } }), vec!["page"]),
        (json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {} }), vec!["form", "page", "words"]),
    ] {
        declared["extensions"] = json!({ "io.modelcontextprotocol/tasks": {} });
        let request = modern("tasks/get", Some(&id), json!({ "taskId": id }), &declared);
        let state = client.send(request).await.result();
        check_shape(&state);
        assert_eq!(state["status"], if asked.is_empty() { "working" } else { "input_required" }, "{declared}");
        let keys = state["inputRequests"].as_object().into_iter().flat_map(|requests| requests.keys());
        assert_eq!(keys.collect::<Vec<_>>(), asked, "{declared}");
    }
}

#[tokio::test]
async fn a_completed_task_has_the_result_of_the_plain_call() {
    let completed = state(|task| task.result = Some(Json::from_value(&json!({ "words": 3 })).unwrap())).await;
    check_shape(&completed);
    let result = &completed["result"];
    assert_eq!((&completed["status"], &result["isError"]), (&json!("completed"), &json!(false)));
    let answer = &result["structuredContent"];
    assert_eq!((&answer["ok"], &answer["done"]), (&json!(true), &json!(true)));
    assert_eq!(answer["task"]["result"], json!({ "words": 3 }));
    assert_eq!(result["content"][0]["text"], answer.to_string());
    // 1 s of work and a day of keeping.
    assert_eq!(completed["ttlMs"], 86_401_000);
    assert_eq!(completed.get("statusMessage"), None);
}

/// The result of the plain call for a task that ends as given.
async fn plain(change: impl FnOnce(&mut Task)) -> Value {
    let client = Client::new(FakeQueue::holding());
    let message = call("run_task", json!({ "task_type": "wordcount" }));
    let end = async {
        client.queue.held.notified().await;
        client.queue.change(client.queue.only(), change);
        client.queue.let_go.notify_one();
    };
    tokio::join!(client.legacy(&message), end).0.result()
}

/// As a worker's own failure stands in the record.
fn fail(task: &mut Task, by: Option<FailedBy>) {
    (task.status, task.failed_by, task.result) = (TaskStatus::Failed, by, None);
    task.error = Some("exit code 1".to_owned());
}

#[tokio::test]
async fn a_task_that_its_worker_failed_is_completed_with_an_error_as_in_the_plain_call() {
    for by in [Some(FailedBy::Worker), None] {
        let failed = state(|task| fail(task, by)).await;
        check_shape(&failed);
        assert_eq!(failed["status"], "completed", "{by:?}");
        let plain = plain(|task| fail(task, by)).await;
        for result in [&failed["result"], &plain] {
            assert_eq!(result["isError"], true, "{result}");
            let answer = &result["structuredContent"];
            assert_eq!((&answer["ok"], &answer["done"]), (&json!(true), &json!(true)));
            assert_eq!(
                (&answer["task"]["status"], &answer["task"]["error"]),
                (&json!("failed"), &json!("exit code 1"))
            );
            assert_eq!(result["content"][0]["text"], answer.to_string());
        }
    }
}

#[tokio::test]
async fn a_task_that_the_queue_gave_up_has_failed() {
    let failed = state(|task| {
        (task.status, task.failed_by) = (TaskStatus::Failed, Some(FailedBy::Queue));
        task.error = Some("the deadline passed".to_owned());
    })
    .await;
    check_shape(&failed);
    let error = &failed["error"];
    assert_eq!((&error["code"], &error["message"]), (&json!(-32603), &json!("the deadline passed")));
    assert_eq!((&error["data"]["task_id"], &error["data"]["attempt"]), (&failed["taskId"], &json!(1)));
    let plain = plain(|task| fail(task, Some(FailedBy::Queue))).await;
    assert_eq!((&plain["isError"], &plain["structuredContent"]["ok"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn a_task_that_was_called_off_is_cancelled() {
    let cancelled = state(|task| {
        task.status = TaskStatus::Cancelled;
        task.error = Some("not needed".to_owned());
    })
    .await;
    check_shape(&cancelled);
    assert_eq!((&cancelled["status"], &cancelled["statusMessage"]), (&json!("cancelled"), &json!("not needed")));
    let plain = plain(|task| task.status = TaskStatus::Cancelled).await;
    assert_eq!((&plain["isError"], &plain["structuredContent"]["task"]["status"]), (&json!(true), &json!("cancelled")));
}

#[tokio::test]
async fn an_old_task_is_asked_for_less_often_than_a_young_one() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let poll = async |age_s: f64| {
        let state = state(|task| (task.status, task.created_at) = (TaskStatus::Running, now - age_s)).await;
        state["pollIntervalMs"].as_u64().unwrap()
    };
    // The clocks of two machines may disagree.
    assert_eq!((poll(0.0).await, poll(-3_600.0).await), (200, 200));
    assert!((2_000..3_000).contains(&poll(20.0).await));
    assert_eq!(poll(86_400.0).await, 5_000);
}

#[tokio::test]
async fn the_time_to_live_ends_a_minute_after_the_end_at_the_earliest() {
    for (result_ttl_s, ttl_ms) in [(0.0, 61_000), (59.0, 61_000), (61.0, 62_000)] {
        let ended = |task: &mut Task| {
            (task.created_at, task.updated_at, task.result_ttl_s) = (1_000.0, 1_001.0, result_ttl_s);
        };
        assert_eq!(state(ended).await["ttlMs"], ttl_ms, "{result_ttl_s}");
    }
}

#[tokio::test]
async fn a_peers_record_with_impossible_times_is_shown_all_the_same() {
    let odd = state(|task| (task.created_at, task.updated_at, task.result_ttl_s) = (1e300, -1e300, -1e300)).await;
    check_shape(&odd);
    assert_eq!((&odd["createdAt"], &odd["ttlMs"]), (&json!("1970-01-01T00:00:00.000Z"), &json!(1)));
}
