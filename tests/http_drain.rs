//! What clients see when the server stops.

use std::{sync::mpsc::sync_channel, thread};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{DEADLINE, HttpConnection, Node, at, until};

#[test]
fn a_waiting_call_is_answered_and_its_connection_closed() -> Result<()> {
    let mut node = Node::start(&[])?;
    let submitted = node.ask(&["submit", "later"])?;
    let mut waiting = HttpConnection::open(node.http()?)?;
    let mut idle = HttpConnection::open(node.http()?)?;
    assert_eq!(idle.get("/readyz", &[])?.status, 200);
    let arguments = json!({ "task_id": submitted["task_id"], "timeout_s": 600 });
    let wait = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "p2p_taskqueue_wait_task", "arguments": arguments } });
    let (send, answered) = sync_channel(1);
    thread::spawn(move || {
        let reply = waiting.post(&[], &wait);
        let closed = reply.as_ref().ok().map(|_| waiting.closed());
        drop(send.send((reply, closed)));
    });
    until("the wait arrives", || {
        Ok(idle.get("/metrics", &[])?.body.contains("taskmesh_waits_in_flight 1").then_some(()))
    })?;
    let (status, _, stderr) = node.stop(Signal::TERM)?;
    assert_eq!(status.code(), Some(0), "{stderr}");
    let (reply, closed) = answered.recv_timeout(DEADLINE)?;
    let reply = reply?;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(at(&reply.json()?, "/result/structuredContent/error/code"), "shutting_down", "{reply:?}");
    closed.context("no answer")??;
    assert_eq!(idle.closed()?, "");
    Ok(())
}
