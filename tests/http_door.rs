//! Access to the MCP server: which clients may ask it, and from where.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::harness::{Answered, HttpConnection, HttpReply, Node, at, skipped, taskmesh};

const SECRET: &str = "0123456789abcdef-laptop";
const OTHER: &str = "0123456789abcdef-phone";

/// A folder with files that only their owner may read.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn private(&self, name: &str, content: &str) -> Result<String> {
        self.with_mode(name, content, 0o600)
    }

    fn with_mode(&self, name: &str, content: &str, mode: u32) -> Result<String> {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path.to_str().context("a path that is no text")?.to_owned())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "every call site makes the value in place")]
fn call(tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

fn shows(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// Checks that `serve` with these arguments fails with code 2, and that its error message has all these words.
fn refused(arguments: &[&str], words: &[&str]) -> Result<Answered> {
    let folder = tempfile::tempdir()?;
    let usual = ["serve", "--json", "--p2p-listen", "/ip4/127.0.0.1/tcp/0"];
    let answered = taskmesh(folder.path(), &[&usual, arguments].concat())?;
    assert_eq!(answered.code, Some(2), "{answered:?}");
    for word in words {
        assert!(answered.stderr.contains(word), "no {word:?} in {:?}", answered.stderr);
    }
    Ok(answered)
}

#[test]
fn an_open_address_is_refused_until_names_pages_and_a_token_are_configured() -> Result<()> {
    let files = Files::new()?;
    let token = files.private("token", SECRET)?;
    let (open, host, origin) =
        (["--http", "0.0.0.0:0"], ["--allowed-host", "queue.example"], ["--allowed-origin", "none"]);
    let token = ["--http-token-file", &token];
    refused(&open, &["loopback", "--allowed-host", "--allowed-origin", "--http-token-file", "SSH"])?;
    let two = refused(&[open, host, origin].concat(), &["--http-token-file"])?;
    assert!(!two.stderr.contains("--allowed-host"), "only what is missing is named: {two:?}");
    refused(&[open, host, token].concat(), &["--allowed-origin"])?;
    refused(&[open, origin, token].concat(), &["--allowed-host"])?;

    let mut node = Node::start(&[open, host, origin, token].concat())?;
    let url = node.http()?.replace("0.0.0.0", "127.0.0.1");
    let mut http = HttpConnection::open(&url)?;
    let status = call("p2p_taskqueue_status", json!({}));
    let shown = shows(SECRET);
    assert_eq!(http.post(&["Host: queue.example", &shown], &status)?.status, 200);
    assert_eq!(http.post(&["Host: localhost", &shown], &status)?.status, 403);
    assert_eq!(http.post(&["Host: queue.example"], &status)?.status, 401);
    let page = ["Host: queue.example", "Origin: http://localhost:3000", &shown];
    assert_eq!(http.post(&page, &status)?.status, 403);
    drop(http);
    let (_, _, said) = node.stop(Signal::TERM)?;
    assert!(said.contains("plain HTTP") && said.contains("TLS"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    Ok(())
}

#[test]
fn a_token_file_that_others_can_read_or_that_is_no_token_is_refused() -> Result<()> {
    let files = Files::new()?;
    let readable = files.with_mode("readable", SECRET, 0o644)?;
    let answered = refused(&["--http-token-file", &readable], &["chmod 600", &readable])?;
    assert!(!answered.stderr.contains(SECRET), "{answered:?}");
    refused(&["--http-token-file", &files.private("short", "secret\n")?], &["16"])?;
    refused(&["--http-token-file", "/nowhere/token"], &["/nowhere/token"])?;
    refused(&["--allowed-host", "a b"], &["--allowed-host", "a b"])?;
    refused(&["--allowed-origin", "console.example"], &["--allowed-origin", "console.example"])?;
    Ok(())
}

/// Writes a configuration with two clients and returns its path.
fn two_clients(files: &Files) -> Result<String> {
    let (laptop, phone) = (files.private("laptop", SECRET)?, files.private("phone", OTHER)?);
    files.private("config.toml", &format!("[http.clients]\nlaptop = \"{laptop}\"\nphone = \"{phone}\"\n"))
}

#[test]
fn each_client_has_a_token_of_its_own() -> Result<()> {
    let files = Files::new()?;
    let config = two_clients(&files)?;
    let node = Node::start(&["--config", &config, "--worker", "wordcount=wc -w"])?;
    let mut http = HttpConnection::open(node.http()?)?;
    let status = call("p2p_taskqueue_status", json!({}));
    for (token, name) in [(SECRET, "laptop"), (OTHER, "phone")] {
        let told = http.post(&[&shows(token)], &status)?.json()?;
        assert_eq!(at(&told, "/result/structuredContent/ok"), true, "{told}");
        let submit = call("p2p_taskqueue_submit", json!({ "task_type": "later", "payload": 1 }));
        let told = http.post(&[&shows(token)], &submit)?.json()?;
        let get = json!({ "task_id": at(&told, "/result/structuredContent/task_id") });
        let told = http.post(&[&shows(token)], &call("p2p_taskqueue_get_task", get))?.json()?;
        assert_eq!(at(&told, "/result/structuredContent/task/submitter"), name, "{told}");
        let tool = call("p2p_taskqueue_call_tool", json!({ "tool_name": "wordcount", "args": "a b" }));
        let told = http.post(&[&shows(token)], &tool)?.json()?;
        assert_eq!(at(&told, "/result/structuredContent/task/submitter"), name, "{told}");
    }
    let nobody = http.post(&[], &status)?;
    assert_eq!(nobody.status, 401);
    assert!(nobody.headers.iter().any(|header| header.to_lowercase().starts_with("www-authenticate: bearer")));
    Ok(())
}

#[test]
fn a_client_may_do_what_its_grants_say() -> Result<()> {
    let files = Files::new()?;
    let (laptop, phone) = (files.private("laptop", SECRET)?, files.private("phone", OTHER)?);
    let clients =
        format!("[http.clients]\nlaptop = \"{laptop}\"\nphone = {{ token_file = \"{phone}\", grants = \"agent\" }}\n");
    let node = Node::start(&["--config", &files.private("config.toml", &clients)?])?;
    let mut http = HttpConnection::open(node.http()?)?;
    let submit = call("p2p_taskqueue_submit", json!({ "task_type": "later", "payload": 1 }));
    let told = http.post(&[&shows(SECRET)], &submit)?.json()?;
    let get = call("p2p_taskqueue_get_task", json!({ "task_id": at(&told, "/result/structuredContent/task_id") }));
    let told = http.post(&[&shows(OTHER)], &get)?.json()?;
    assert_eq!(at(&told, "/result/structuredContent/error/code"), "not_found", "{told}");
    let told = http.post(&[&shows(OTHER)], &call("p2p_taskqueue_pause", json!({})))?.json()?;
    assert_eq!(at(&told, "/result/structuredContent/error/code"), "forbidden", "{told}");
    let wrong = files.private("wrong.toml", &clients.replace("agent", "boss"))?;
    refused(&["--config", &wrong], &["http.clients.phone.grants", "boss", "admin, member, agent, worker"])?;
    Ok(())
}

#[test]
fn another_user_of_this_machine_is_refused_unless_all_may_ask() -> Result<()> {
    if !geteuid().is_root() {
        skipped("only root can start a process of another user");
        return Ok(());
    }
    for (arguments, status) in [(&[][..], "HTTP/1.1 403 "), (&["--allow-other-users"][..], "HTTP/1.1 405 ")] {
        let node = Node::start(arguments)?;
        let url = node.http()?.to_owned();
        let port = url.trim_end_matches("/mcp").rsplit(':').next().context("no port")?;
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && \
             printf 'GET /mcp HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3"
        );
        let asked = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "bash", "-c", &ask]).output();
        let said = match asked {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            other => {
                skipped(&format!("setpriv and bash cannot ask as another user: {other:?}"));
                return Ok(());
            }
        };
        assert!(said.starts_with(status), "{arguments:?}: {said}");
        assert_eq!(said.contains("--allow-other-users"), status.contains("403"), "{said}");
    }
    Ok(())
}

#[test]
fn two_clients_do_not_share_a_token() -> Result<()> {
    let files = Files::new()?;
    let token = files.private("token", SECRET)?;
    let config = files.private("config.toml", &format!("[http.clients]\na = \"{token}\"\nb = \"{token}\"\n"))?;
    refused(&["--config", &config], &["same token"])?;
    let config = files.private("config.toml", "[http.clients]\na = \"token\"\n")?;
    refused(&["--config", &config], &["http.clients.a", "absolute"])?;
    Ok(())
}

#[test]
fn probes_need_no_token_and_metrics_do() -> Result<()> {
    let files = Files::new()?;
    let config = two_clients(&files)?;
    let node = Node::start(&["--config", &config])?;
    let mut http = HttpConnection::open(node.http()?)?;
    for path in ["/healthz", "/readyz"] {
        let HttpReply { status, body, .. } = http.get(path, &["Host: whatever"])?;
        assert_eq!((status, body.as_str()), (200, "{\"ok\":true}"), "{path}");
    }
    for path in ["/health", "/ready"] {
        assert_eq!(http.get(path, &[])?.status, 404, "{path}");
    }
    assert_eq!(http.get("/metrics", &[])?.status, 401);
    http.post(&[&shows(SECRET)], &call("p2p_taskqueue_submit", json!({ "task_type": "later", "payload": 1 })))?;
    let text = http.get("/metrics", &[&shows(SECRET)])?.body;
    for line in [
        "taskmesh_queue_tasks{state=\"queued\"} 1",
        "taskmesh_queue_up 1",
        "taskmesh_client_requests_in_flight{client=\"laptop\"} 0",
        "taskmesh_bridge_inline 0",
    ] {
        assert!(text.lines().any(|told| told == line), "no {line} in {text}");
    }
    assert!(text.contains("gen_ai_tool_name=\"p2p_taskqueue_submit\""), "{text}");
    Ok(())
}

#[test]
fn a_client_that_sends_half_a_request_is_given_up() -> Result<()> {
    let files = Files::new()?;
    let config = files.private("config.toml", "[http]\nheader_timeout_s = 0.2\nbody_timeout_s = 0.2\n")?;
    let node = Node::start(&["--config", &config])?;
    let mut head = HttpConnection::open(node.http()?)?;
    head.write(b"POST /mcp HTTP/1.1\r\nHost: localho")?;
    head.closed()?;
    let mut body = HttpConnection::open(node.http()?)?;
    body.write(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    )?;
    let said = body.closed()?;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    Ok(())
}
