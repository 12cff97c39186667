//! Clients that leave nothing behind in the server's memory.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{HttpConnection, Node};

/// The most memory, in KiB, that the process may keep after all the clients have gone.
const KEPT_KIB_MAX: u64 = 20 * 1024;

/// The connections that are open at once: fewer than the files that a login may have open.
const AT_ONCE: usize = 500;

/// Returns the resident memory of the node, in KiB.
fn resident(node: &Node) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid()?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_ascii_whitespace().nth(1).context("no value")?.parse()?)
}

fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "memory", "version": "1" } } })
}

/// Makes `count` calls, with a new connection for every hundred.
fn initialize_many(node: &Node, count: usize) -> Result<()> {
    let message = initialize();
    for _ in 0..count / 100 {
        let mut http = HttpConnection::open(node.http()?)?;
        for _ in 0..100 {
            let reply = http.post(&[], &message)?;
            ensure!(reply.status == 200, "{reply:?}");
        }
    }
    Ok(())
}

/// Opens `count` connections with half a request each: every second one stops in its head, the others in their body.
/// Half of all are closed by the client; the rest stay until the server gives them up.
fn abandon_many(node: &Node, count: usize) -> Result<()> {
    const HALVES: [&[u8]; 2] = [
        b"POST /mcp HTTP/1.1\r\nHost: localho",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n{\"a\":\"",
    ];
    for _ in 0..count / AT_ONCE {
        let mut left = Vec::new();
        for (number, half) in (0..AT_ONCE).zip(HALVES.iter().cycle()) {
            let mut http = HttpConnection::open(node.http()?)?;
            http.write(half)?;
            if number % 4 < 2 {
                left.push(http);
            }
        }
        left.iter_mut().try_for_each(|http| http.closed().map(drop))?;
    }
    Ok(())
}

/// Returns the memory at the start, and its growth after the initializations and after the abandoned connections, all
/// in KiB.
fn growth(count: usize) -> Result<(u64, u64, u64)> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.toml");
    fs::write(&config, "[http]\nheader_timeout_s = 0.5\nbody_timeout_s = 0.5\n")?;
    let node = Node::start(&["--config", config.to_str().context("a path that is no text")?])?;
    let start = resident(&node)?;
    initialize_many(&node, count)?;
    let initialized = resident(&node)?.saturating_sub(start);
    abandon_many(&node, count)?;
    let abandoned = resident(&node)?.saturating_sub(start);
    // The server still works.
    initialize_many(&node, 100)?;
    Ok((start, initialized, abandoned))
}

#[expect(clippy::print_stderr, reason = "the figures, for a person who reads the tests' output")]
fn assert_small(count: usize) -> Result<()> {
    let (start, initialized, abandoned) = growth(count)?;
    eprintln!(
        "{count} initialize calls and {count} abandoned connections: {start} KiB at the start, +{initialized} KiB after \
         the calls, +{abandoned} KiB after all"
    );
    ensure!(initialized < KEPT_KIB_MAX && abandoned < KEPT_KIB_MAX, "the server keeps what clients left behind");
    Ok(())
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() -> Result<()> {
    assert_small(5_000)
}

/// Run with `cargo test --workspace --test it -- --ignored a_hundred_thousand`; it takes some minutes.
#[test]
#[ignore = "takes minutes; the same with 5,000 always runs"]
fn a_hundred_thousand_clients_that_come_and_go_leave_nothing_behind() -> Result<()> {
    assert_small(100_000)
}
