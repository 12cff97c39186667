//! The server is ready when its queue answers, however many clients it has.

use std::{
    fs,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{DEADLINE, Front, HttpConnection, HttpReply, Node, at, until, until_metric};

/// The requests that there is room for, and how many of them may wait.
const REQUESTS: usize = 6;
const WAITS: usize = 4;

fn few_places() -> Result<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("few.toml");
    fs::write(&path, format!("[http]\nrequests_max = {REQUESTS}\nwaits_max = {WAITS}\n"))?;
    let path = path.to_str().context("a path that is no text")?.to_owned();
    Ok((folder, path))
}

fn call(tool: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// Sends a request from a thread, which sends the answer to the receiver.
fn ask(http: &str, message: Value) -> Result<Receiver<Result<HttpReply>>> {
    let mut connection = HttpConnection::open(http)?;
    let (send, answered) = sync_channel(1);
    thread::spawn(move || drop(send.send(connection.post(&[], &message))));
    Ok(answered)
}

fn probe(http: &str) -> Result<HttpReply> {
    HttpConnection::open(http)?.get("/readyz", &[])
}

/// Takes every place, and checks that the server calls itself ready all the while.
fn fill_and_probe(node: &Node, http: &str) -> Result<()> {
    let task_id = at(&node.ask(&["submit", "later"])?, "/task_id").clone();
    let wait = call("p2p_taskqueue_wait_task", &json!({ "task_id": task_id, "timeout_s": 600 }));
    let waits: Vec<_> = (0..WAITS).map(|_| ask(http, wait.clone())).collect::<Result<_>>()?;
    until_metric(http, &format!("taskmesh_waits_in_flight {WAITS}\n"))?;
    let refused = HttpConnection::open(http)?.post(&[], &wait)?.structured()?;
    assert_eq!(at(&refused, "/error/code"), "overloaded", "{refused}");
    assert_eq!(probe(http)?.status, 200, "all waits are taken");
    // The other places are taken by requests whose body has not arrived yet.
    let mut bodies = Vec::new();
    for _ in WAITS..REQUESTS {
        let mut begun = HttpConnection::open(http)?;
        begun.write(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
        )?;
        bodies.push(begun);
    }
    until_metric(http, &format!("taskmesh_http_requests_in_flight {REQUESTS}\n"))?;
    assert_eq!(HttpConnection::open(http)?.post(&[], &wait)?.status, 503, "all requests are taken");
    let probes: Vec<_> = (0..50).map(|_| HttpConnection::open(http)).collect::<Result<_>>()?;
    for mut connection in probes {
        let reply = connection.get("/readyz", &[])?;
        assert_eq!((reply.status, reply.json()?), (200, json!({ "ok": true })));
    }
    drop(bodies);
    node.ask(&["cancel", task_id.as_str().context("no id")?])?;
    for wait in waits {
        assert_eq!(wait.recv_timeout(DEADLINE)??.status, 200);
    }
    Ok(())
}

#[test]
fn a_full_server_is_ready_while_its_queue_answers() -> Result<()> {
    let (_kept, config) = few_places()?;
    let node = Node::start(&["--config", &config])?;
    fill_and_probe(&node, node.http()?)
}

#[test]
fn a_full_front_is_ready_while_its_daemon_answers_and_no_longer() -> Result<()> {
    let (_kept, config) = few_places()?;
    let mut node = Node::daemon(&[])?;
    let rpc = node.ready("rpc")?[0].as_str().context("no RPC address")?.to_owned();
    let front = Front::start(&["--daemon", &rpc, "--config", &config])?;
    let http = front.http()?.to_owned();
    fill_and_probe(&node, &http)?;
    // A stopped daemon still accepts connections, but answers nothing.
    let process = Pid::from_raw(node.pid()?.try_into()?).context("no process")?;
    kill_process(process, Signal::STOP)?;
    let began = Instant::now();
    let silent = probe(&http)?;
    assert_eq!((silent.status, &silent.json()?["error"]["code"]), (503, &json!("timeout")), "{silent:?}");
    assert!(began.elapsed() >= Duration::from_secs(4), "it was given its time");
    kill_process(process, Signal::CONT)?;
    until("it is ready again", || Ok((probe(&http)?.status == 200).then_some(())))?;
    node.stop(Signal::TERM)?;
    let gone = probe(&http)?;
    assert_eq!((gone.status, &gone.json()?["error"]["code"]), (503, &json!("unreachable")), "{gone:?}");
    Ok(())
}
