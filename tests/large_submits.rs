//! The largest submits that the reference promises, over every way that an agent's call can take.

use anyhow::Result;
use serde_json::{Value, json};

use crate::harness::{Era, Front, Node, at};

const MIB: usize = 1024 * 1024;

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 8 * MIB;

/// Returns tasks whose payloads have `payload_bytes` bytes in all.
fn tasks(payload_bytes: usize) -> Value {
    let task = |bytes: usize| match bytes {
        1 => json!({ "task_type": "t", "payload": 1 }),
        bytes => json!({ "task_type": "t", "payload": "x".repeat(bytes - 2) }),
    };
    let whole = vec![task(MIB); payload_bytes / MIB];
    let rest = (!payload_bytes.is_multiple_of(MIB)).then(|| task(payload_bytes % MIB));
    whole.into_iter().chain(rest).collect()
}

fn submit(url: &str, target: Option<&str>, payload_bytes: usize) -> Result<Value> {
    let arguments = json!({ "tasks": tasks(payload_bytes), "remote_peer_id": target });
    Era::Modern.call("p2p_taskqueue_submit_many", arguments).ask(url)?.structured()
}

fn takes_four_mebibytes(url: &str, target: Option<&str>) -> Result<()> {
    let taken = submit(url, target, 4 * MIB)?;
    assert_eq!(at(&taken, "/ok"), true, "{taken}");
    assert_eq!(
        at(&taken, "/results").as_array().map(|all| all.iter().filter(|one| at(one, "/ok") == true).count()),
        Some(4)
    );
    let over = submit(url, target, 4 * MIB + 1)?;
    let error = at(&over, "/error");
    assert_eq!((at(error, "/code"), at(error, "/field")), (&json!("limit_exceeded"), &json!("tasks")), "{over}");
    assert_eq!((at(error, "/limit"), at(error, "/value")), (&json!(4 * MIB), &json!(4 * MIB + 1)), "{over}");
    Ok(())
}

#[test]
fn four_mebibytes_of_payloads_are_taken_here_through_a_daemon_and_by_a_peer() -> Result<()> {
    let (node, peer) = (Node::start(&[])?, Node::start(&[])?);
    takes_four_mebibytes(node.http()?, None)?;
    peer.join(&node)?;
    node.sees(&peer)?;
    takes_four_mebibytes(node.http()?, Some(&peer.peer_id()?))?;
    let daemon = Node::daemon(&[])?;
    takes_four_mebibytes(Front::of(&daemon)?.http()?, None)
}

#[test]
fn a_body_of_its_largest_size_is_read_and_one_byte_more_is_refused() -> Result<()> {
    let node = Node::start(&[])?;
    let call = Era::Legacy.call("p2p_taskqueue_status", json!({}));
    let message =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "p2p_taskqueue_status" } });
    // White space after a message counts as a part of the body.
    let message = message.to_string();
    let body = |bytes: usize| message.clone() + &" ".repeat(bytes - message.len());
    let taken = call.clone().with_body(&body(BODY_BYTES_MAX)).ask(node.http()?)?;
    assert_eq!((taken.status, &taken.structured()?["ok"]), (200, &json!(true)));
    let over = call.with_body(&body(BODY_BYTES_MAX + 1)).ask(node.http()?)?;
    let data = at(&over.json()?, "/error/data").clone();
    assert_eq!((over.status, &data["code"], &data["field"]), (413, &json!("limit_exceeded"), &json!("body")), "{data}");
    assert_eq!((&data["limit"], &data["value"]), (&json!(BODY_BYTES_MAX), &json!(BODY_BYTES_MAX + 1)), "{data}");
    Ok(())
}
