//! Requests that are refused before their body is read. A client that sends its whole request before it reads still
//! gets the answer.

use std::{fs, io::Write as _, net::TcpStream, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Era, HttpConnection, HttpReply, Node, at, until_metric};

/// More than all buffers on the way hold, and more than a body may have.
const SENT_BYTES: usize = 24 * 1024 * 1024;

/// Far more than the server reads of a request that it refuses.
const FOR_EVER_BYTES: usize = 1024 * 1024 * 1024;

const PIECE: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Length,
    Chunked,
}

/// Sends a request to its last byte, then reads the answer.
fn send_then_read(node: &Node, headers: &[&str], form: Form) -> Result<HttpReply> {
    let mut http = HttpConnection::open(node.http()?)?;
    let host = if headers.iter().any(|header| header.starts_with("Host")) { "" } else { "Host: localhost\r\n" };
    let mut head = format!("POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\n{host}");
    head.extend(headers.iter().map(|header| format!("{header}\r\n")));
    let (before, after, end) = match form {
        Form::Length => (String::new(), "", ""),
        Form::Chunked => (format!("{PIECE:x}\r\n"), "\r\n", "0\r\n\r\n"),
    };
    head += &match form {
        Form::Length => format!("Content-Length: {SENT_BYTES}\r\n\r\n"),
        Form::Chunked => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    http.write(head.as_bytes())?;
    let piece = [before.as_bytes(), &vec![b'x'; PIECE], after.as_bytes()].concat();
    for _ in 0..SENT_BYTES / PIECE {
        http.write(&piece).context("the server hung up while the request was sent")?;
    }
    http.write(end.as_bytes())?;
    http.reply()
}

fn is_refused(node: &Node, headers: &[&str], status: u16, code: &str) -> Result<()> {
    for form in [Form::Length, Form::Chunked] {
        let reply = send_then_read(node, headers, form).with_context(|| format!("{status} {form:?}"))?;
        assert_eq!(reply.status, status, "{form:?}: {reply:?}");
        assert_eq!(at(&reply.json()?, "/error/data/code"), code, "{form:?}: {reply:?}");
    }
    Ok(())
}

fn config(folder: &Path, text: &str) -> Result<String> {
    let path = folder.join("config.toml");
    fs::write(&path, text)?;
    Ok(path.to_str().context("a path that is no text")?.to_owned())
}

#[test]
fn a_body_that_is_too_long_is_refused_to_who_sends_it_whole_before_it_reads() -> Result<()> {
    let node = Node::start(&[])?;
    is_refused(&node, &[], 413, "limit_exceeded")
}

#[test]
fn so_is_every_refusal_that_comes_before_the_body() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    fs::write(&token, "0123456789abcdef-laptop")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    let file = config(folder.path(), "[http]\nrequests_max = 1\nbody_timeout_s = 1\n")?;
    let guarded = Node::start(&["--http-token-file", token.to_str().context("no text")?])?;
    is_refused(&guarded, &[], 401, "unauthorized")?;
    is_refused(&guarded, &["Host: evil.example"], 403, "forbidden")?;
    is_refused(&guarded, &["Origin: https://evil.example"], 403, "forbidden")?;

    let small = Node::start(&["--config", &file])?;
    let task = small.ask(&["submit", "later"])?["task_id"].clone();
    let wait = Era::Modern.call("p2p_taskqueue_wait_task", json!({ "task_id": task, "timeout_s": 600 }));
    let waiting = wait.send(small.http()?)?;
    until_metric(small.http()?, "taskmesh_waits_in_flight 1\n")?;
    is_refused(&small, &[], 503, "overloaded")?;
    drop(waiting);
    Ok(())
}

/// The answer comes at once, although the client has not begun to send the announced body.
#[test]
fn a_client_that_asks_first_is_told_no_at_once() -> Result<()> {
    let node = Node::start(&[])?;
    let mut http = HttpConnection::open(node.http()?)?;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
         Content-Length: {SENT_BYTES}\r\n\r\n"
    );
    http.write(head.as_bytes())?;
    let reply = http.reply()?;
    assert_eq!(reply.status, 413, "{reply:?}");
    Ok(())
}

#[test]
fn a_body_that_does_not_come_in_time_is_answered_though_the_rest_comes_later() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Node::start(&["--config", &config(folder.path(), "[http]\nbody_timeout_s = 0.5\n")?])?;
    let mut http = HttpConnection::open(node.http()?)?;
    http.write(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
    )?;
    let reply = http.reply()?;
    assert_eq!((reply.status, at(&reply.json()?, "/error/data/code")), (408, &json!("timeout")), "{reply:?}");
    http.write(&[b' '; 50_000]).context("what comes late is still read")?;
    Ok(())
}

#[test]
fn a_client_that_sends_for_ever_is_cut_and_the_server_goes_on() -> Result<()> {
    let node = Node::start(&[])?;
    let place = node.http()?.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let mut stream = TcpStream::connect(place)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let piece = [format!("{PIECE:x}\r\n").as_bytes(), &vec![b'x'; PIECE], b"\r\n"].concat();
    let mut sent = 0;
    while sent < FOR_EVER_BYTES && stream.write_all(&piece).is_ok() {
        sent += PIECE;
    }
    ensure!(sent < FOR_EVER_BYTES, "{sent} bytes were read of a request that is not taken");
    let status = Era::Modern.call("p2p_taskqueue_status", json!({})).ask(node.http()?)?.structured()?;
    assert_eq!(status["ok"], Value::Bool(true), "{status}");
    Ok(())
}
