//! Mistakes of agents, as clients of both revisions, with the built program. Each mistake has its answer, and the node
//! goes on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use p2p_taskqueue::{PeerId, TaskId};
use serde_json::{Value, json};

use crate::harness::{Era, HttpConnection, HttpReply, ID, Node, Request, at};

const SUBMIT: &str = "p2p_taskqueue_submit";
const GET: &str = "p2p_taskqueue_get_task";
const WAIT: &str = "p2p_taskqueue_wait_task";
const STATUS: &str = "p2p_taskqueue_status";

/// One more than docs/reference.md allows for a payload.
const TOO_MANY_BYTES: usize = 1024 * 1024 + 1;

/// One more than docs/reference.md allows for a request's body.
const TOO_LONG_BODY: usize = 8 * 1024 * 1024 + 1;

/// Returns mistakes that a tool answers: the tool, its arguments, the code of the answer, and a word in it.
fn mistakes() -> Result<Vec<(&'static str, Value, &'static str, &'static str)>> {
    let unknown = TaskId::random()?;
    Ok(vec![
        (SUBMIT, json!({ "task_type": 5 }), "invalid_argument", "task_type"),
        (SUBMIT, json!({ "payload": 1 }), "invalid_argument", "task_type"),
        (SUBMIT, json!({ "task_type": "t", "payload": 1, "priorty": 3 }), "invalid_argument", "priority"),
        (SUBMIT, json!({ "task_type": "t", "payload": 1, "priority": 11 }), "invalid_argument", "priority"),
        (SUBMIT, json!({ "task_type": "t", "payload": 1, "delay_s": "soon" }), "invalid_argument", "delay_s"),
        (SUBMIT, json!({ "task_type": "t", "payload": "x".repeat(TOO_MANY_BYTES) }), "limit_exceeded", "payload"),
        (SUBMIT, json!({ "task_type": "t".repeat(100_000), "payload": 1 }), "limit_exceeded", "task_type"),
        ("run_task", json!({ "task_type": "t", "payload": 1, "timeout_s": -1 }), "invalid_argument", "timeout_s"),
        (GET, json!({ "task_id": "the last one" }), "invalid_argument", "task_id"),
        (GET, json!({ "task_id": unknown }), "not_found", "task"),
        (WAIT, json!({ "task_id": unknown, "timeout_s": 60 }), "not_found", "task"),
        (WAIT, json!({ "task_ids": "all" }), "invalid_argument", "task_ids"),
        ("p2p_taskqueue_complete_task", json!({ "task_id": unknown }), "invalid_argument", "fence"),
        (STATUS, json!({ "remote_multiaddr": "my other machine" }), "invalid_argument", "remote_multiaddr"),
        (STATUS, json!({ "remote_peer_id": "laptop" }), "not_found", "remote_peer_id"),
    ])
}

fn is_well(node: &Node) -> Result<()> {
    let answer = Era::Modern.call(STATUS, json!({})).ask(node.http()?)?.structured()?;
    ensure!(answer.get("ok") == Some(&Value::Bool(true)), "{answer}");
    Ok(())
}

#[test]
fn a_wrong_argument_is_answered_with_what_is_wrong_about_it() -> Result<()> {
    let node = Node::start(&[])?;
    for era in Era::BOTH {
        for (tool, arguments, code, word) in mistakes()? {
            let reply = era.call(tool, arguments).ask(node.http()?)?;
            let (message, answer) = (reply.message()?, reply.structured()?);
            assert_eq!((reply.status, at(&message, "/result/isError")), (200, &json!(true)), "{tool}: {answer}");
            assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!(code)), "{tool}: {answer}");
            assert_eq!(answer["error"]["outcome"], "not_applied", "{tool}: {answer}");
            assert!(answer["error"].to_string().contains(word), "{tool} says nothing of {word}: {answer}");
        }
    }
    is_well(&node)
}

#[test]
fn a_machine_that_is_not_there_is_said_to_be_unknown_or_unreachable_and_soon() -> Result<()> {
    let node = Node::start(&[])?;
    for era in Era::BOTH {
        // A node remembers the id of a peer whose address it was given, so the two peers must differ.
        let (stranger, nowhere) = (PeerId::random(), format!("/ip4/127.0.0.1/tcp/1/p2p/{}", PeerId::random()));
        for (target, code, retryable) in [
            (json!({ "remote_peer_id": stranger.to_string() }), "not_found", false),
            (json!({ "remote_multiaddr": nowhere }), "unreachable", true),
        ] {
            for tool in [STATUS, "p2p_taskqueue_stats", "p2p_taskqueue_list_tools"] {
                let since = Instant::now();
                let answer = era.call(tool, target.clone()).ask(node.http()?)?.structured()?;
                let error = &answer["error"];
                assert_eq!(
                    (&error["code"], &error["retryable"]),
                    (&json!(code), &json!(retryable)),
                    "{tool}: {answer}"
                );
                assert_eq!(error["outcome"], "not_applied", "{tool}: {answer}");
                assert!(since.elapsed() < UNREACHABLE_WITHIN, "{tool} took {:?}", since.elapsed());
            }
        }
    }
    is_well(&node)
}

#[test]
fn what_is_no_tool_and_no_method_is_refused_by_name() -> Result<()> {
    let node = Node::start(&[])?;
    for era in Era::BOTH {
        let reply = era.call("p2p_taskqueue_summit", json!({})).ask(node.http()?)?.message()?;
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(ID), &json!(-32602)), "{reply}");
        assert!(at(&reply, "/error/message").to_string().contains("p2p_taskqueue_summit"), "{reply}");
        for method in ["tools/cal", "prompts/list", "tasks/list", "tasks/result"] {
            let reply = era.request(method, json!({ "taskId": "x" })).ask(node.http()?)?;
            assert_eq!(reply.message()?["error"]["code"], -32601, "{era:?} {method}: {reply:?}");
        }
        let reply = era.request("tools/call", json!({ "name": GET, "arguments": [1] })).ask(node.http()?)?;
        assert_eq!(reply.message()?["error"]["code"], -32602, "{reply:?}");
    }
    is_well(&node)
}

#[test]
fn what_is_no_request_is_refused_before_it_is_read() -> Result<()> {
    let node = Node::start(&[])?;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#;
    for era in Era::BOTH {
        let with = |body: &str| era.request("tools/list", json!({})).with_body(body);
        for (body, code) in [("{\"jsonrpc\":", -32700), ("please list", -32700), (batch, -32600), ("7", -32600)] {
            let reply = with(body).ask(node.http()?)?;
            assert_eq!((reply.status, &reply.message()?["error"]["code"]), (400, &json!(code)), "{body}: {reply:?}");
        }
        let huge = with(&" ".repeat(TOO_LONG_BODY)).ask(node.http()?)?;
        assert_eq!(
            (huge.status, &huge.message()?["error"]["data"]["code"]),
            (413, &json!("limit_exceeded")),
            "{huge:?}"
        );
        for kind in ["text/plain", "application/x-www-form-urlencoded"] {
            let reply = era.call(STATUS, json!({})).with("content-type", kind).ask(node.http()?)?;
            assert_eq!(reply.status, 415, "{kind}: {reply:?}");
        }
        let reply = era.call(STATUS, json!({})).with("accept", "text/html").ask(node.http()?)?;
        assert_eq!(reply.status, 406, "{reply:?}");
        for method in ["GET", "DELETE", "PUT"] {
            let reply = era.call(STATUS, json!({})).by(method).ask(node.http()?)?;
            assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{method}: {reply:?}");
        }
    }
    is_well(&node)
}

/// A payload of any depth is either kept as given or refused; the program's stack is not the limit.
#[test]
fn deep_nesting_is_refused_and_kept_out_of_the_queue() -> Result<()> {
    let node = Node::start(&[])?;
    for era in Era::BOTH {
        for depth in [200, 100_000] {
            let request = era.call(SUBMIT, json!({ "task_type": "t", "payload": "DEEP" }));
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let reply = request.replacing("\"DEEP\"", &deep).ask(node.http()?)?;
            let message = reply.message()?;
            let refused = message.get("error").is_some() || at(&message, "/result/isError") == true;
            assert!(refused, "{depth} deep: {message}");
        }
    }
    let stats = Era::Modern.call("p2p_taskqueue_stats", json!({})).ask(node.http()?)?.structured()?;
    assert_eq!(at(&stats, "/totals/queued"), &json!(0), "{stats}");
    is_well(&node)
}

/// Reads a gauge of the node.
fn gauge(node: &Node, name: &str) -> Result<u64> {
    let metrics = HttpConnection::open(node.http()?)?.get("/metrics", &[])?;
    let line = metrics.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name}: {metrics:?}"))?.parse()?)
}

/// Polls until a gauge has a wanted value.
fn until(node: &Node, name: &str, wanted: impl Fn(u64) -> bool) -> Result<()> {
    crate::harness::until(name, || Ok(wanted(gauge(node, name)?).then_some(())))
}

/// Without sessions nothing ties a cancellation of revision 2025-11-25 to its request: it is accepted and has no
/// effect.
#[test]
fn a_client_that_goes_away_while_it_waits_is_not_waited_for() -> Result<()> {
    let node = Node::start(&[])?;
    let submitted = Era::Modern.call(SUBMIT, json!({ "task_type": "nobody", "payload": 1 })).ask(node.http()?)?;
    let task = submitted.structured()?["task_id"].clone();
    for era in Era::BOTH {
        let wait = |_| era.call(WAIT, json!({ "task_id": task, "timeout_s": 3_600 })).send(node.http()?);
        let waiting = (0..WAITING).map(wait).collect::<Result<Vec<_>>>()?;
        until(&node, WAITS, |waits| waits == WAITING)?;
        until(&node, IN_FLIGHT, |calls| calls >= WAITING)?;
        if era == Era::Legacy {
            let params = json!({ "requestId": ID, "reason": "changed my mind" });
            let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
            let reply = Request::post(&cancelled.to_string()).ask(node.http()?)?;
            assert_eq!((reply.status, reply.body.as_str()), (202, ""), "{reply:?}");
            assert_eq!(gauge(&node, WAITS)?, WAITING, "one client's id is not another's");
        }
        drop(waiting);
        until(&node, WAITS, |waits| waits == 0)?;
        // The calls that read the gauge are counted, too.
        until(&node, IN_FLIGHT, |calls| calls < WAITING)?;
    }
    is_well(&node)
}

#[test]
fn a_page_of_another_site_is_served_nothing() -> Result<()> {
    let node = Node::start(&[])?;
    let evil = "https://evil.example";
    let from = |request: Request, origin: &str| -> Result<HttpReply> {
        let request =
            request.with("origin", origin).with("sec-fetch-mode", "cors").with("sec-fetch-site", "cross-site");
        let reply = request.ask(node.http()?)?;
        let allowed = reply.headers.iter().any(|line| line.to_ascii_lowercase().starts_with("access-control-"));
        assert!(!allowed, "{reply:?}");
        Ok(reply)
    };
    for era in Era::BOTH {
        let call = era.call(SUBMIT, json!({ "task_type": "t", "payload": 1 }));
        // A page can send the first request without a preflight. The second one is a preflight.
        assert_eq!(from(call.clone().with("content-type", "text/plain"), evil)?.status, 403);
        let asks = Request::preflight("POST", "content-type,mcp-protocol-version");
        assert_eq!(from(asks.clone(), evil)?.status, 403);
        assert_eq!(from(call.clone(), evil)?.status, 403);
        assert_eq!(from(call.clone(), "null")?.status, 403);
        let rebound = call.clone().with("host", "evil.example").ask(node.http()?)?;
        assert_eq!(rebound.status, 403, "{rebound:?}");
        // A page of this machine itself is served, but no page may read the answer.
        assert_eq!(from(call, "http://localhost:3000")?.status, 200);
        assert_eq!(from(asks, "http://localhost:3000")?.status, 405);
    }
    let stats = Era::Modern.call("p2p_taskqueue_stats", json!({})).ask(node.http()?)?.structured()?;
    assert_eq!(at(&stats, "/totals/queued"), &json!(Era::BOTH.len()), "{stats}");
    Ok(())
}

/// The longest time for such an answer: above the 10 s after which a search ends by itself, for a busy machine.
const UNREACHABLE_WITHIN: Duration = Duration::from_secs(30);

const WAITS: &str = "taskmesh_waits_in_flight";

const IN_FLIGHT: &str = "taskmesh_bridge_in_flight";

/// The number of calls that wait at the same time.
const WAITING: u64 = 20;
