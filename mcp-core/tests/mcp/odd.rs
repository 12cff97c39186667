//! Values that many programs alter or fail on, over a real queue. They are answered to the last byte, or refused by
//! name.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    http::{Request, header},
};
use p2p_taskqueue::{
    Caller, Json, PeerId, TaskQueue, TaskQueueExt as _,
    api::{CacheSet, Claim, Complete, List, Submit},
    store::{MemoryStore, StoreOptions},
};
use serde_json::{Value, json, value::RawValue};
use taskqueue_api::testing::odd_json;
use tower::ServiceExt as _;

use crate::{
    client::{Client, legacy, modern},
    progress::pass,
    queue::TestQueue,
    steady::Steady,
    task_methods::follower,
    work::Lease,
};

/// A client of a server over a queue of its own, and the store behind it. The store itself accepts every value.
struct Server {
    store: Arc<dyn TaskQueue>,
    client: Client,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Era {
    Legacy,
    Modern,
}

const BOTH: [Era; 2] = [Era::Legacy, Era::Modern];

/// Stands for a text that no value can hold.
const ODD: &str = "the odd one";

impl Server {
    fn new() -> Self {
        let owner = PeerId::random();
        let store = Arc::new(Steady::new(MemoryStore::new(StoreOptions::new(owner)).unwrap()));
        let queue = TestQueue::over(Arc::<Steady<_>>::clone(&store), owner);
        Self { store, client: Client::new(queue) }
    }

    /// Sends a message in which the text takes the place of [`ODD`], and returns the body of the answer.
    async fn say(&self, era: Era, method: &str, params: Value, odd: &str) -> String {
        let name = ["name", "taskId", "uri"].into_iter().find_map(|key| params.get(key)?.as_str()).map(str::to_owned);
        let request = match era {
            Era::Modern => modern(method, name.as_deref(), params, &follower()),
            Era::Legacy => {
                let message = json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": params });
                legacy().body(Body::from(message.to_string())).unwrap()
            }
        };
        let response = self.client.router.clone().oneshot(with(request, odd).await).await.unwrap();
        let length = response.headers().get(header::CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
        let body = body_of(response.into_body()).await;
        assert_eq!(length.unwrap_or_else(|| body.len().to_string()), body.len().to_string(), "{body}");
        body
    }

    /// Calls a tool and returns its structured content, which the text block repeats.
    async fn call(&self, era: Era, tool: &str, arguments: Value, odd: &str) -> String {
        let body = self.say(era, "tools/call", json!({ "name": tool, "arguments": arguments }), odd).await;
        let structured = raw(&body, &["result", "structuredContent"]).to_owned();
        let text: String = serde_json::from_str(raw(&body, &["result", "content", "0", "text"])).unwrap();
        assert_eq!(text, structured, "{tool}");
        structured
    }

    /// Calls a tool and returns its answer, which must be ok. A common JSON reader must be able to read it.
    async fn done(&self, era: Era, tool: &str, arguments: Value, odd: &str) -> String {
        let structured = self.call(era, tool, arguments, odd).await;
        // A client reads the answer within the message, so it is nested as deeply here.
        let message = format!(r#"{{"result":{{"structuredContent":{structured}}}}}"#);
        let read: Value = serde_json::from_str(&message).unwrap_or_else(|error| panic!("{tool}: {error}: {message}"));
        assert_eq!(read["result"]["structuredContent"]["ok"], true, "{tool}: {read}");
        structured
    }

    /// Puts a task into the store as an earlier version may have.
    async fn put(&self, text: &str) -> String {
        let submit = Submit::new("t", Json::parse(text.to_owned()).unwrap());
        self.store.submit(&Caller::Local, submit).await.unwrap().task_id.to_string()
    }
}

/// Returns the request with a text in place of each [`ODD`].
async fn with(request: Request<Body>, odd: &str) -> Request<Body> {
    let (parts, body) = request.into_parts();
    Request::from_parts(parts, Body::from(body_of(body).await.replace(&format!("\"{ODD}\""), odd)))
}

async fn body_of(body: Body) -> String {
    String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap()
}

/// Returns the part of a JSON text at this path.
fn raw<'a>(text: &'a str, path: &[&str]) -> &'a str {
    path.iter().fold(text, |text, step| {
        let found: Option<&RawValue> = match step.parse::<usize>() {
            Ok(at) => serde_json::from_str::<Vec<&RawValue>>(text).unwrap().get(at).copied(),
            Err(_) => serde_json::from_str::<BTreeMap<String, &RawValue>>(text).unwrap().get(*step).copied(),
        };
        found.unwrap_or_else(|| panic!("no {step} in {text}")).get()
    })
}

fn text_at(text: &str, path: &[&str]) -> String {
    serde_json::from_str(raw(text, path)).unwrap()
}

/// Takes a task through its whole life. Every value of it is this text.
async fn live(server: &Server, era: Era, odd: &str) {
    let done = async |tool: &str, arguments: Value| server.done(era, tool, arguments, odd).await;
    let submitted = done("p2p_taskqueue_submit", json!({ "task_type": "t", "payload": ODD })).await;
    let id = text_at(&submitted, &["task_id"]);
    let got = done("p2p_taskqueue_get_task", json!({ "task_id": id })).await;
    assert_eq!(raw(&got, &["task", "payload"]), odd);
    let claim = json!({ "worker_id": "w", "supported_task_types": ["t"] });
    let claimed = done("p2p_taskqueue_claim_next", claim).await;
    assert_eq!(raw(&claimed, &["task", "payload"]), odd);
    let fence = text_at(&claimed, &["task", "fence"]);
    let renew = json!({ "task_id": id, "fence": fence, "input_requests": { "q": ODD } });
    done("p2p_taskqueue_renew_task", renew.clone()).await;
    let got = done("p2p_taskqueue_get_task", json!({ "task_id": id })).await;
    assert_eq!(raw(&got, &["task", "input_requests", "q"]), odd);
    if era == Era::Modern {
        let update = json!({ "taskId": id, "inputResponses": { "q": ODD, "unasked": ODD } });
        let updated = server.say(era, "tasks/update", update, odd).await;
        assert!(updated.contains("\"result\""), "{updated}");
    } else {
        done("p2p_taskqueue_answer_task", json!({ "task_id": id, "input_responses": { "q": ODD } })).await;
    }
    let renewed = done("p2p_taskqueue_renew_task", renew).await;
    assert_eq!(raw(&renewed, &["input_responses", "q"]), odd);
    let complete = json!({
        "task_id": id, "fence": fence, "result": ODD, "submit": [{ "task_type": "child", "payload": ODD }],
        "claim_next": { "worker_id": "w", "supported_task_types": ["child"] },
    });
    let completed = done("p2p_taskqueue_complete_task", complete).await;
    assert_eq!(raw(&completed, &["next", "payload"]), odd);
    let waited = done("p2p_taskqueue_wait_task", json!({ "task_id": id })).await;
    assert_eq!((raw(&waited, &["task", "payload"]), raw(&waited, &["task", "result"])), (odd, odd));
    done("p2p_taskqueue_cache_set", json!({ "key": "k", "value": ODD })).await;
    let cached = done("p2p_taskqueue_cache_get", json!({ "key": "k" })).await;
    assert_eq!(raw(&cached, &["value"]), odd);
    read_as_resource(server, era, &id, odd).await;
    if era == Era::Modern {
        let got = server.say(era, "tasks/get", json!({ "taskId": id }), odd).await;
        assert_eq!(raw(&got, &["result", "result", "structuredContent", "task", "result"]), odd);
        assert!(serde_json::from_str::<Value>(&got).is_ok(), "{got}");
    }
}

async fn read_as_resource(server: &Server, era: Era, id: &str, odd: &str) {
    let read = async |uri: String| {
        let body = server.say(era, "resources/read", json!({ "uri": uri }), odd).await;
        text_at(&body, &["result", "contents", "0", "text"])
    };
    let record = read(format!("taskmesh://tasks/{id}")).await;
    assert_eq!((raw(&record, &["payload"]), raw(&record, &["result"])), (odd, odd));
    // A result of null counts as no result.
    if odd == "null" {
        return;
    }
    let plain = serde_json::from_str::<String>(odd).unwrap_or_else(|_| odd.to_owned());
    assert_eq!(read(format!("taskmesh://tasks/{id}/result")).await, plain);
}

#[tokio::test]
async fn what_is_taken_is_answered_to_the_last_byte() {
    for era in BOTH {
        let server = Server::new();
        for odd in odd_json::kept().into_iter().chain(odd_json::some(15)) {
            live(&server, era, &odd).await;
        }
    }
}

/// Returns each way by which a value comes in, with the name that a refusal gives it.
fn ways_in() -> Vec<(&'static str, Value, &'static str)> {
    let task = json!({ "task_type": "t", "payload": ODD });
    let fine = json!({ "task_type": "t", "payload": 1 });
    let held = json!({ "task_id": "0".repeat(32), "fence": "1.1" });
    let held = |name: &str, value: Value| {
        let mut arguments = held.clone();
        arguments[name] = value;
        arguments
    };
    vec![
        ("p2p_taskqueue_submit", task.clone(), "payload"),
        ("p2p_taskqueue_submit_many", json!({ "tasks": [fine, fine, fine, task] }), "tasks[3].payload"),
        ("run_task", json!({ "task_type": "t", "payload": ODD, "timeout_s": 1 }), "payload"),
        ("p2p_taskqueue_complete_task", held("result", json!(ODD)), "result"),
        ("p2p_taskqueue_complete_task", held("submit", json!([task])), "submit[0].payload"),
        ("p2p_taskqueue_renew_task", held("input_requests", json!({ "a": 1, "q": ODD })), "input_requests.q"),
        (
            "p2p_taskqueue_answer_task",
            json!({ "task_id": "0".repeat(32), "input_responses": { "q": ODD } }),
            "input_responses.q",
        ),
        ("p2p_taskqueue_cache_set", json!({ "key": "k", "value": ODD }), "value"),
        ("p2p_taskqueue_call_tool", json!({ "tool_name": "t", "args": ODD }), "args"),
    ]
}

#[tokio::test]
async fn what_readers_stop_at_is_refused_by_name_and_not_stored() {
    let much_too_deep = [odd_json::nested(200), odd_json::nested(100_000)];
    for era in BOTH {
        let server = Server::new();
        for odd in odd_json::refused().into_iter().chain(much_too_deep.clone()) {
            for (tool, arguments, field) in ways_in() {
                let answer = server.call(era, tool, arguments, &odd).await;
                let error: Value = serde_json::from_str(raw(&answer, &["error"])).unwrap();
                let depth = odd.matches(['[', '{']).count();
                let code = if depth > 100 { "limit_exceeded" } else { "invalid_argument" };
                let short: String = odd.chars().take(80).collect();
                assert_eq!(
                    (&error["code"], &error["outcome"]),
                    (&json!(code), &json!("not_applied")),
                    "{tool} {short}"
                );
                // If the value is too deep to be read, the refusal names the list or object around it.
                let named = error["field"].as_str().unwrap();
                assert!(field == named || depth >= 200 && field.starts_with(named), "{tool} {short}: {error}");
                if code == "limit_exceeded" {
                    assert_eq!(error["limit"], 100, "{error}");
                    assert!(error["value"].as_u64().unwrap() >= depth as u64, "{error}");
                }
            }
        }
        let listed = server.store.list(&Caller::Local, List::default()).await.unwrap();
        assert_eq!(listed.tasks, []);
        let cached = server.done(era, "p2p_taskqueue_cache_has", json!({ "key": "k" }), "").await;
        assert_eq!(raw(&cached, &["hit"]), "false");
    }
}

/// Returns the payload of each task of a list, by its id.
fn payloads(tasks: &str) -> BTreeMap<String, String> {
    let tasks: Vec<&RawValue> = serde_json::from_str(tasks).unwrap();
    let of = |task: &&RawValue| (text_at(task.get(), &["task_id"]), raw(task.get(), &["payload"]).to_owned());
    tasks.iter().map(of).collect()
}

#[tokio::test]
async fn an_odd_task_harms_no_other_in_a_list_or_a_batch() {
    for era in BOTH {
        let server = Server::new();
        let mut put = BTreeMap::new();
        // Values that are refused now may have been accepted by an earlier version.
        let texts: Vec<_> = odd_json::kept().into_iter().chain(odd_json::refused()).chain(odd_json::some(20)).collect();
        for odd in &texts {
            for text in [odd.as_str(), "1"] {
                put.insert(server.put(text).await, text.to_owned());
            }
        }
        let ids: Vec<_> = put.keys().collect();
        let call = async |tool: &str, arguments: Value| {
            let answer = server.call(era, tool, arguments, "").await;
            assert_eq!(raw(&answer, &["ok"]), "true", "{answer}");
            answer
        };
        let listed = call("p2p_taskqueue_list_tasks", json!({ "limit": 1_000 })).await;
        assert_eq!(payloads(raw(&listed, &["tasks"])), put);
        let got = call("p2p_taskqueue_get_tasks", json!({ "task_ids": ids })).await;
        assert_eq!(payloads(raw(&got, &["tasks"])), put);
        let waited = call("p2p_taskqueue_wait_task", json!({ "task_ids": ids, "timeout_s": 0 })).await;
        assert_eq!(payloads(raw(&waited, &["tasks"])), put);
        let stats = call("p2p_taskqueue_stats", json!({})).await;
        assert_eq!(raw(&stats, &["totals", "queued"]), put.len().to_string());
        let resources = server.say(era, "resources/list", json!({}), "").await;
        assert!(resources.contains("taskmesh://tasks/"), "{resources}");
        let claimed = call("p2p_taskqueue_claim_many", json!({ "worker_id": "w", "max_tasks": 20 })).await;
        let mut seen = payloads(raw(&claimed, &["tasks"]));
        assert_eq!(seen.len(), 20);
        let (mut id, mut fence) = held(raw(&claimed, &["tasks", "0"]));
        while seen.len() < put.len() {
            let complete = json!({ "task_id": id, "fence": fence, "result": 1, "claim_next": { "worker_id": "w" } });
            let completed = call("p2p_taskqueue_complete_task", complete).await;
            let next = raw(&completed, &["next"]);
            seen.extend(payloads(&format!("[{next}]")));
            (id, fence) = held(next);
        }
        assert_eq!(seen, put);
    }
}

fn held(task: &str) -> (String, String) {
    (text_at(task, &["task_id"]), text_at(task, &["fence"]))
}

#[tokio::test]
async fn what_an_earlier_version_let_in_is_answered_wherever_it_stands() {
    for era in BOTH {
        let server = Server::new();
        for odd in odd_json::refused() {
            let json = Json::parse(odd.clone()).unwrap();
            let id = server.put(&odd).await;
            let claimed = server.store.claim(&Caller::Local, Claim::new("w")).await.unwrap().task.unwrap();
            let complete = Complete::new(claimed.task_id, claimed.fence.unwrap(), Some(json.clone()));
            server.store.complete(&Caller::Local, complete).await.unwrap();
            let set = CacheSet { key: "k".to_owned(), value: json, ttl_s: None };
            server.store.cache_set(&Caller::Local, set).await.unwrap();
            let got = server.call(era, "p2p_taskqueue_get_task", json!({ "task_id": id }), "").await;
            assert_eq!((raw(&got, &["task", "payload"]), raw(&got, &["task", "result"])), (&*odd, &*odd));
            let cached = server.call(era, "p2p_taskqueue_cache_get", json!({ "key": "k" }), "").await;
            assert_eq!(raw(&cached, &["value"]), odd);
            read_as_resource(&server, era, &id, &odd).await;
            if era == Era::Modern {
                let got = server.say(era, "tasks/get", json!({ "taskId": id }), "").await;
                assert_eq!(raw(&got, &["result", "result", "structuredContent", "task", "result"]), odd);
            }
        }
    }
}

/// An answer that follows a progress notification is an event, and an event is one line.
#[tokio::test(start_paused = true)]
async fn an_event_holds_the_answer_on_one_line() {
    // A wait on a stopped clock is costly. So only texts with line ends are used, and some that an earlier version may
    // have accepted.
    let kept = odd_json::kept().into_iter().filter(|text| text.contains(['\n', '\r']));
    let texts: Vec<_> = kept.chain(odd_json::refused().into_iter().take(3)).collect();
    assert!(texts.len() > 3, "{texts:?}");
    for era in BOTH {
        for odd in texts.clone() {
            let Server { store, client } = Server::new();
            let params = json!({
                "name": "run_task", "arguments": { "task_type": "t", "timeout_s": 60 }, "_meta": { "progressToken": 1 },
            });
            let request = match era {
                Era::Modern => modern("tools/call", Some("run_task"), params, &json!({})),
                Era::Legacy => {
                    let message = json!({ "jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": params });
                    legacy().body(Body::from(message.to_string())).unwrap()
                }
            };
            let work = async {
                // The store itself accepts values that are refused now.
                let lease = Lease::claim(&store, Vec::new()).await;
                lease.say(Some(0.5), None).await;
                pass(std::time::Duration::from_millis(1_500)).await;
                lease.complete(Json::parse(odd.clone()).unwrap()).await;
            };
            let (reply, ()) = tokio::join!(client.send(request), work);
            assert_eq!(reply.headers[header::CONTENT_TYPE], "text/event-stream");
            let lines: Vec<_> = reply.text.split(['\n', '\r']).filter(|line| !["", ":"].contains(line)).collect();
            assert!(lines.len() == 2 && lines[0].contains("notifications/progress"), "{lines:?}");
            let data = lines[1].strip_prefix("data: ").unwrap();
            let result = raw(data, &["result", "structuredContent", "task", "result"]);
            assert_eq!(result, odd.replace(['\n', '\r'], " "));
            let text = text_at(data, &["result", "content", "0", "text"]);
            assert_eq!(raw(&text, &["task", "result"]), odd);
        }
    }
}
