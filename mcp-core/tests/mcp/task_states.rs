//! How each state of a record looks to a client that follows tasks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use p2p_taskqueue::{
    Caller, Json, TaskId, TaskQueueExt as _,
    api::{Cancel, Submit},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, call, modern},
    queue::{BEGAN_S, TestQueue, clock},
    task_methods::get,
};

/// Makes a question that the protocol has a form for.
pub(crate) fn form(message: &str) -> Json {
    let schema = json!({ "type": "object", "properties": { "sure": { "type": "boolean" } } });
    let params = json!({ "message": message, "requestedSchema": schema });
    Json::from_value(&json!({ "method": "elicitation/create", "params": params })).unwrap()
}

/// Checks what the protocol demands of every state, and the members that only the state of an ended task has.
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
    let client = Client::new(TestQueue::new());
    let queued = get(&client, client.queue.put(Json::null()).await).await;
    check_shape(&queued);
    assert_eq!((&queued["status"], &queued["statusMessage"]), (&json!("working"), &json!("queued")));
    let again = client.queue.claim().await.fail("exit code 1", true).await;
    let again = get(&client, again).await;
    check_shape(&again);
    let message = again["statusMessage"].as_str().unwrap();
    assert!(
        message.starts_with("queued again after a failed attempt: exit code 1; its next attempt is due in "),
        "{message}"
    );
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
        let client = Client::new(TestQueue::new());
        let lease = client.queue.start().await;
        lease.say(progress, message).await;
        let state = get(&client, lease.task_id).await;
        check_shape(&state);
        assert_eq!((&state["status"], &state["statusMessage"]), (&json!("working"), &json!(told)));
    }
}

/// Returns the state of a task whose worker asks these questions.
async fn asked(questions: impl IntoIterator<Item = (String, Json)>) -> Value {
    let client = Client::new(TestQueue::new());
    let lease = client.queue.start().await;
    lease.ask(questions).await;
    get(&client, lease.task_id).await
}

#[tokio::test]
async fn a_worker_that_asks_makes_its_task_ask() {
    let asking = asked([("a".to_owned(), form("One?")), ("b".to_owned(), form("Two?"))]).await;
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
    let only_odd = asked(keys().zip(odd.clone())).await;
    check_shape(&only_odd);
    let told = only_odd["statusMessage"].as_str().unwrap();
    assert!(only_odd["status"] == "working" && told.contains("p2p_taskqueue_answer_task"), "{only_odd}");
    let mixed = asked(keys().zip(odd).chain([("go-on".to_owned(), form("Go on?"))])).await;
    assert_eq!(mixed["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["go-on"]);
}

#[tokio::test]
async fn a_client_is_asked_only_what_it_says_that_it_can_be_asked() {
    let client = Client::new(TestQueue::new());
    let page = json!({ "mode": "url", "message": "Log in", "url": "https://machine.example/login" });
    let words = json!({ "messages": [], "maxTokens": 10 });
    let question = |method: &str, params: &Value| json!({ "method": method, "params": params });
    let lease = client.queue.start().await;
    let (page, words) = (question("elicitation/create", &page), question("sampling/createMessage", &words));
    let questions = [
        ("form", form("Go on?")),
        ("page", Json::from_value(&page).unwrap()),
        ("words", Json::from_value(&words).unwrap()),
    ];
    lease.ask(questions).await;
    let id = lease.task_id.to_string();
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
    let clock = clock(BEGAN_S);
    let client = Client::new(TestQueue::at(&clock));
    let lease = client.queue.start().await;
    clock.advance(Duration::from_secs(1));
    let completed = lease.complete(Json::from_value(&json!({ "words": 3 })).unwrap()).await;
    let completed = get(&client, completed).await;
    check_shape(&completed);
    let result = &completed["result"];
    assert_eq!((&completed["status"], &result["isError"]), (&json!("completed"), &json!(false)));
    let answer = &result["structuredContent"];
    assert_eq!((&answer["ok"], &answer["done"]), (&json!(true), &json!(true)));
    assert_eq!(answer["task"]["result"], json!({ "words": 3 }));
    assert_eq!(result["content"][0]["text"], answer.to_string());
    // The work took 1 s, and the record is kept for a day.
    assert_eq!(completed["ttlMs"], 86_401_000);
    assert_eq!(completed.get("statusMessage"), None);
}

/// Ends a task as given, and returns its state and the answer to the plain call.
async fn both(queue: TestQueue, end: impl AsyncFn(&TestQueue) -> TaskId) -> (Value, Value) {
    let client = Client::new(queue);
    let message = call("run_task", json!({ "task_type": "wordcount", "deadline_s": DEADLINE_S }));
    let (plain, id) = tokio::join!(client.legacy(&message), end(&client.queue));
    (get(&client, id).await, plain.result())
}

#[tokio::test]
async fn a_task_that_its_worker_failed_is_completed_with_an_error_as_in_the_plain_call() {
    // An earlier version did not note who failed a task.
    let earlier = TestQueue::new().showing(|task| task.failed_by = None);
    for queue in [TestQueue::new(), earlier] {
        let (failed, plain) = both(queue, async |queue| queue.claim().await.fail("exit code 1", false).await).await;
        check_shape(&failed);
        assert_eq!(failed["status"], "completed");
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
    let clock = clock(BEGAN_S);
    let (failed, plain) = both(TestQueue::at(&clock), async |queue| {
        let lease = queue.claim().await;
        clock.advance(Duration::from_secs(DEADLINE_S));
        lease.task_id
    })
    .await;
    check_shape(&failed);
    let error = &failed["error"];
    assert_eq!((&error["code"], &error["message"]), (&json!(-32603), &json!("the deadline has passed")));
    assert_eq!((&error["data"]["task_id"], &error["data"]["attempt"]), (&failed["taskId"], &json!(1)));
    assert_eq!((&plain["isError"], &plain["structuredContent"]["ok"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn a_task_that_was_called_off_is_cancelled() {
    let (cancelled, plain) = both(TestQueue::new(), async |queue| {
        let lease = queue.claim().await;
        let reason = "not needed".to_owned();
        queue.queue.cancel(&Caller::Local, Cancel { task_id: lease.task_id, reason }).await.unwrap();
        lease.fail("stopped", false).await
    })
    .await;
    check_shape(&cancelled);
    assert_eq!((&cancelled["status"], &cancelled["statusMessage"]), (&json!("cancelled"), &json!("not needed")));
    assert_eq!((&plain["isError"], &plain["structuredContent"]["task"]["status"]), (&json!(true), &json!("cancelled")));
}

#[tokio::test]
async fn an_old_task_is_asked_for_less_often_than_a_young_one() {
    /// Returns the polling interval of a task that began so long ago, and a tenth of its age afterwards, in
    /// milliseconds.
    async fn poll(age_s: f64) -> (u64, f64) {
        let began_s = now_s() - age_s;
        let client = Client::new(TestQueue::at(&clock(began_s)));
        let state = get(&client, client.queue.start().await.task_id).await;
        (state["pollIntervalMs"].as_u64().unwrap(), (now_s() - began_s) * 100.0)
    }
    // The clocks of two machines may disagree.
    assert_eq!(poll(-3_600.0).await.0, 200);
    for (age_s, at_least) in [(0.0, 200), (20.0, 2_000)] {
        let (millis, tenth) = poll(age_s).await;
        assert!(millis >= at_least && millis as f64 <= tenth.round().max(200.0), "{age_s} s: {millis} ms");
    }
    assert_eq!(poll(86_400.0).await.0, 5_000);
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test]
async fn the_time_to_live_ends_a_minute_after_the_end_at_the_earliest() {
    for (result_ttl_s, ttl_ms) in [(0.0, 61_000), (59.0, 61_000), (61.0, 62_000)] {
        let clock = clock(BEGAN_S);
        let client = Client::new(TestQueue::at(&clock));
        client.queue.submit(Submit { result_ttl_s, ..Submit::new("t", Json::null()) }).await;
        clock.advance(Duration::from_secs(1));
        let ended = client.queue.claim().await.complete(Json::null()).await;
        assert_eq!(get(&client, ended).await["ttlMs"], ttl_ms, "{result_ttl_s}");
        // The time to live is true: the result is still there shortly before the end of it.
        clock.advance(Duration::from_millis(ttl_ms - 1_001));
        assert_eq!(get(&client, ended).await["status"], "completed", "{result_ttl_s}");
    }
}

#[tokio::test]
async fn a_peers_record_with_impossible_times_is_shown_all_the_same() {
    let queue = TestQueue::new()
        .showing(|task| (task.created_at, task.updated_at, task.result_ttl_s) = (1e300, -1e300, -1e300));
    let client = Client::new(queue);
    client.queue.put(Json::null()).await;
    let odd = client.queue.claim().await.complete(Json::null()).await;
    let odd = get(&client, odd).await;
    check_shape(&odd);
    assert_eq!((&odd["createdAt"], &odd["ttlMs"]), (&json!("1970-01-01T00:00:00.000Z"), &json!(1)));
}

/// The deadline of a task that is run, in seconds.
const DEADLINE_S: u64 = 10;
