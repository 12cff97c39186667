use p2p_taskqueue::{Json, PeerId, Request};
use serde_json::{Value, json};

use crate::{
    client::{Client, call, call_with},
    queue::TestQueue,
};

fn submitted(client: &Client) -> p2p_taskqueue::api::Submit {
    match client.queue.last() {
        Request::Submit(submit) => submit,
        other => panic!("not a submit: {other:?}"),
    }
}

async fn invalid(client: &Client, tool: &str, arguments: Value) -> (String, String) {
    let error = client.refused(tool, arguments).await;
    assert_eq!(error["code"], "invalid_argument", "{error}");
    assert_eq!(error["outcome"], "not_applied", "{error}");
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (text("field"), text("message"))
}

#[tokio::test]
async fn an_unknown_argument_is_named_with_its_neighbour() {
    let client = Client::new(TestQueue::new());
    let (field, message) = invalid(&client, "p2p_taskqueue_submit", json!({ "task_type": "t", "priorty": 9 })).await;
    assert_eq!((field.as_str(), message.as_str()), ("priorty", "priorty: unknown argument; did you mean priority?"));
    let (field, message) = invalid(&client, "p2p_taskqueue_get_task", json!({ "colour": "red" })).await;
    assert_eq!(field, "colour");
    assert!(message.ends_with("known are task_id, remote_multiaddr, remote_peer_id"), "{message}");
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn a_missing_argument_is_named() {
    let client = Client::new(TestQueue::new());
    for (tool, arguments, missing) in [
        ("p2p_taskqueue_submit", json!({}), "task_type"),
        ("p2p_taskqueue_complete_task", json!({ "task_id": "0".repeat(32) }), "fence"),
    ] {
        let (field, message) = invalid(&client, tool, arguments).await;
        assert_eq!((field.as_str(), message), (missing, format!("{missing}: is required")));
    }
}

#[tokio::test]
async fn an_argument_of_a_wrong_type_is_named() {
    let client = Client::new(TestQueue::new());
    let id = "0".repeat(32);
    for (tool, arguments, wrong, says) in [
        ("p2p_taskqueue_submit", json!({ "task_type": 7 }), "task_type", "expected a string"),
        ("p2p_taskqueue_submit", json!({ "task_type": null }), "task_type", "expected a string"),
        ("p2p_taskqueue_submit", json!({ "task_type": "t", "priority": "high" }), "priority", "expected u8"),
        ("p2p_taskqueue_submit", json!({ "task_type": "t", "priority": 300 }), "priority", "300"),
        ("p2p_taskqueue_submit", json!({ "task_type": "t", "labels": ["a", 7] }), "labels", "(at labels[1])"),
        ("p2p_taskqueue_submit", json!({ "task_type": "t", "pin_to": 7 }), "pin_to", "expected a"),
        ("p2p_taskqueue_get_task", json!({ "task_id": "xyz" }), "task_id", "32 lower-case hex digits"),
        ("p2p_taskqueue_list_tasks", json!({ "status": "asleep" }), "status", "asleep"),
        ("p2p_taskqueue_fail_task", json!({ "task_id": id, "fence": 3.5, "error": "" }), "fence", "expected a string"),
        ("p2p_taskqueue_status", json!({ "remote_peer_id": 7 }), "remote_peer_id", "expected a string"),
        ("p2p_taskqueue_status", json!({ "remote_multiaddr": "here" }), "remote_multiaddr", ""),
    ] {
        let (field, message) = invalid(&client, tool, arguments.clone()).await;
        assert_eq!(field, wrong, "{arguments}");
        assert!(message.contains(says) && !message.contains(" at line "), "{arguments}: {message}");
    }
    assert_eq!(client.queue.asked(), 0);
}

#[tokio::test]
async fn the_queue_checks_what_types_do_not() {
    let client = Client::new(TestQueue::new());
    for (tool, arguments, field) in [
        ("p2p_taskqueue_submit", json!({ "task_type": "t", "priority": 11 }), "priority"),
        ("p2p_taskqueue_wait_task", json!({}), "task_id"),
        ("p2p_taskqueue_status", json!({ "remote_multiaddr": "/ip4/192.0.2.7/tcp/1" }), "remote_multiaddr"),
    ] {
        assert_eq!(invalid(&client, tool, arguments).await.0, field);
    }
}

#[tokio::test]
async fn empty_texts_and_nulls_mean_none() {
    let client = Client::new(TestQueue::new());
    let arguments = json!({
        "task_type": "t", "idempotency_key": "", "session": "", "pin_to": "", "labels": null, "priority": null,
        "delay_s": null, "remote_peer_id": "", "peer_id": null, "requires": "gpu, large,",
    });
    client.done("p2p_taskqueue_submit", arguments).await;
    let submit = submitted(&client);
    assert_eq!((submit.idempotency_key, submit.session, submit.pin_to, submit.priority), (None, None, None, 5));
    assert_eq!((submit.labels, submit.requires), (vec![], vec!["gpu".to_owned(), "large".to_owned()]));
}

/// This holds for every type of argument, not only for texts.
#[tokio::test]
async fn an_empty_text_stands_for_any_optional_argument_that_is_not_given() {
    let client = Client::new(TestQueue::new());
    for tool in client.tools().await {
        let name = tool["name"].as_str().unwrap();
        let schema = &tool["inputSchema"];
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (argument, property) in schema["properties"].as_object().unwrap() {
            if required.contains(&argument.as_str()) || property.get("type").is_none() {
                continue;
            }
            let reply = client.legacy(&call(name, json!({ argument: "" }))).await.result();
            // No other argument is given, so one may be missing, or the call may succeed. But the empty text is never
            // to blame.
            let error = &reply["structuredContent"]["error"];
            let said = error["message"].as_str().unwrap_or_default();
            let is_missed = said.ends_with("is required") || said.contains("give ");
            assert!(error.is_null() || is_missed, "{name} {argument}: {error}");
        }
    }
    let submit = json!({ "task_type": "t", "priority": "", "max_attempts": "", "delay_s": "", "on_parent_failure": "", "after": "" });
    client.done("p2p_taskqueue_submit", submit).await;
    let submit = submitted(&client);
    assert_eq!((submit.priority, submit.max_attempts, submit.delay_s), (5, 3, None));
}

#[tokio::test]
async fn an_error_names_the_argument_as_the_caller_wrote_it() {
    let client = Client::new(TestQueue::new());
    let long = "x".repeat(257);
    for (tool, arguments, field) in [
        ("list_peers", json!({ "discovery_timeout_s": -1 }), "discovery_timeout_s"),
        ("list_peers", json!({ "discovery_timeout_s": "long" }), "discovery_timeout_s"),
        ("list_peers", json!({ "discovery_methods": ["smoke"] }), "discovery_methods"),
        ("p2p_taskqueue_submit_docker_hub", json!({ "image": "a", "volumes": 7 }), "volumes"),
        ("p2p_taskqueue_submit_docker_hub", json!({ "image": "a", "command": 7 }), "command"),
        ("p2p_taskqueue_submit_docker_github", json!({ "repo_url": "a", "environment": { "A": 7 } }), "environment"),
        ("p2p_taskqueue_submit_docker_github", json!({ "repo_url": "a", "branch": 7, "extra": {} }), "branch"),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "task_types": [7] }), "task_types"),
    ] {
        assert_eq!(invalid(&client, tool, arguments.clone()).await.0, field, "{arguments}");
    }
    for (tool, arguments, field) in [
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w", "task_types": [long] }), "task_types"),
        ("list_peers", json!({ "discovery_methods": vec!["mdns"; 33] }), "discovery_methods"),
        (
            "p2p_taskqueue_submit_docker_hub",
            json!({ "image": "a", "volumes": { "/a": "x".repeat(1024 * 1024) } }),
            "volumes",
        ),
    ] {
        let error = client.refused(tool, arguments).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("limit_exceeded"), &json!(field)), "{error}");
        assert!(error["message"].as_str().unwrap().starts_with(field), "{error}");
    }
}

#[tokio::test]
async fn what_a_container_is_given_is_passed_on_as_given() {
    let client = Client::new(TestQueue::new());
    let arguments = json!({ "image": "a", "command": "", "environment": { "A": "b" }, "extra": { "limit": "PAYLOAD", "image": "b" } });
    client.send(call_with("p2p_taskqueue_submit_docker_hub", arguments, "1.10e400")).await;
    let payload = submitted(&client).payload;
    assert_eq!(payload.get(), r#"{"environment":{"A":"b"},"image":"a","limit":1.10e400}"#);
}

#[tokio::test]
async fn an_empty_text_is_a_payload() {
    let client = Client::new(TestQueue::new());
    for payload in [json!(""), json!(null), json!([]), json!(false)] {
        client.done("p2p_taskqueue_submit", json!({ "task_type": "t", "payload": payload })).await;
        assert_eq!(submitted(&client).payload.to::<Value>().unwrap(), payload);
    }
}

#[tokio::test]
async fn a_payload_is_passed_on_as_given_in_both_directions() {
    let client = Client::new(TestQueue::new());
    let payload = r#"{"b":1.0,"a":[18446744073709551616,1e3],"b2":"\u00e9"}"#;
    let run = call_with("run_task", json!({ "task_type": "t", "payload": "PAYLOAD" }), payload);
    let work = async {
        let lease = client.queue.claim().await;
        assert_eq!(client.queue.record(lease.task_id).await.payload.get(), payload);
        lease.complete(Json::parse(payload.to_owned()).unwrap()).await
    };
    let result = tokio::join!(client.send(run), work).0.result();
    let text = result["content"][0]["text"].as_str().unwrap();
    assert_eq!(text.matches(payload).count(), 2, "{text}");
}

#[tokio::test]
async fn nesting_is_bounded_and_the_argument_named() {
    let client = Client::new(TestQueue::new());
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let send = async |levels| {
        let submit =
            call_with("p2p_taskqueue_submit", json!({ "task_type": "t", "payload": "PAYLOAD" }), &nested(levels));
        client.send(submit).await.result()["structuredContent"].clone()
    };
    assert_eq!(send(100).await["ok"], true);
    assert_eq!(send(101).await["error"]["field"], "payload");
    assert_eq!(send(100_000).await["error"]["field"], "payload");
}

#[tokio::test]
async fn the_reference_names_are_taken() {
    let client = Client::new(TestQueue::new());
    let peer = PeerId::random().to_string();
    for (tool, mut arguments) in [
        ("p2p_taskqueue_status", json!({})),
        ("p2p_taskqueue_submit", json!({ "task_type": "t" })),
        ("run_task", json!({ "task_type": "t" })),
        ("p2p_taskqueue_claim_next", json!({ "worker_id": "w" })),
        ("p2p_taskqueue_claim_many", json!({ "worker_id": "w" })),
    ] {
        arguments["peer_id"] = json!(peer);
        if tool == "run_task" {
            arguments["timeout_s"] = json!(0);
        }
        client.done(tool, arguments.clone()).await;
        assert!(
            matches!(client.queue.last(), Request::At(at) if at.target.remote_peer_id.unwrap().to_string() == peer)
        );
        arguments["remote_peer_id"] = json!(PeerId::random().to_string());
        assert_eq!(invalid(&client, tool, arguments).await.0, "peer_id");
    }
    // A claim is made at the named peer or nowhere.
    let elsewhere = json!({ "worker_id": "w", "peer_id": "anyone" });
    let error = client.refused("p2p_taskqueue_claim_next", elsewhere.clone()).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("not_found"), &json!("peer_id")), "{error}");
    let id = p2p_taskqueue::TaskId::from_bytes([1; 16]).to_string();
    let complete = json!({ "task_id": id, "fence": "1.1", "claim_next": elsewhere });
    assert_eq!(invalid(&client, "p2p_taskqueue_complete_task", complete).await.0, "claim_next.peer_id");
    let claim = json!({ "worker_id": "w", "task_types": "a,b", "clock": { "vector": {} } });
    client.done("p2p_taskqueue_claim_next", claim).await;
    let Request::Claim(claim) = client.queue.last() else { panic!("not a claim") };
    assert_eq!(claim.supported_task_types, ["a", "b"]);
    let twice = json!({ "worker_id": "w", "task_types": "a", "supported_task_types": ["b"] });
    assert_eq!(invalid(&client, "p2p_taskqueue_claim_next", twice).await.0, "task_types");
    let peers = json!({ "discover": true, "discovery_methods": ["mdns"], "discovery_timeout_s": 1.5 });
    client.done("list_peers", peers).await;
}

#[tokio::test]
async fn two_addresses_that_contradict_are_refused() {
    let client = Client::new(TestQueue::new());
    let address = format!("/ip4/192.0.2.7/tcp/1/p2p/{}", PeerId::random());
    let arguments = json!({ "remote_multiaddr": address, "remote_peer_id": PeerId::random().to_string() });
    assert_eq!(invalid(&client, "list_peers", arguments).await.0, "remote_peer_id");
}

/// A state that the schema offers is accepted. Any other is refused by the name of the argument.
#[tokio::test]
async fn the_states_that_a_retry_and_a_purge_offer_are_those_that_they_take() {
    let client = Client::new(TestQueue::new());
    let tools = client.tools().await;
    for (name, expected) in [
        ("p2p_taskqueue_retry_task", &["failed", "cancelled"][..]),
        ("p2p_taskqueue_purge", &["completed", "failed", "cancelled"]),
    ] {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        let status = &tool["inputSchema"]["properties"]["status"];
        assert_eq!((&status["type"], &status["enum"]), (&json!("string"), &json!(expected)), "{name}");
        for state in ["queued", "running", "completed", "failed", "cancelled"] {
            let arguments = json!({ "status": state });
            if expected.contains(&state) {
                client.done(name, arguments).await;
            } else {
                assert_eq!(invalid(&client, name, arguments).await.0, "status", "{name} {state}");
            }
        }
    }
}

#[tokio::test]
async fn a_list_begins_with_what_is_new() {
    let client = Client::new(TestQueue::new());
    let tools = client.tools().await;
    let list = tools.iter().find(|tool| tool["name"] == "p2p_taskqueue_list_tasks").unwrap();
    assert_eq!(list["inputSchema"]["properties"]["order"]["default"], "newest");
    client.done("p2p_taskqueue_list_tasks", json!({})).await;
    let Request::List(list) = client.queue.last() else { panic!("not a list") };
    assert_eq!(list.order, p2p_taskqueue::api::Order::Newest);
}
