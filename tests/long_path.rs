//! A data folder whose path is longer than the address of a socket can be.

#![cfg(target_os = "linux")]

use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Front, HttpConnection, Node, PROGRAM};

/// Makes a folder whose path has more than 150 bytes.
fn long_folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(&"d".repeat(150)).tempdir()?;
    assert!(
        UnixStream::connect(folder.path().join("taskmesh.sock")).is_err_and(|error| error.raw_os_error().is_none())
    );
    Ok(folder)
}

#[test]
fn a_node_is_asked_by_commands_and_by_its_workers() -> Result<()> {
    let worker = format!("half=sh -c '{PROGRAM} progress 0.5 && echo done'");
    let arguments = ["--p2p-listen", "/ip4/127.0.0.1/tcp/0", "--worker", &worker];
    let mut node = Node::start_on(long_folder()?, None, &arguments)?;
    let done = node.ask(&["submit", "half", "--wait"])?;
    assert_eq!((&done["task"]["result"], &done["task"]["progress"]), (&"done".into(), &0.5.into()), "{done}");
    assert!(node.folder().join("taskmesh.sock").exists(), "where it always is");
    // The socket of a killed node is replaced.
    node.kill()?;
    node.start_again()?;
    assert_eq!(node.ask(&["stats"])?["totals"]["completed"], 1);
    node.stop(Signal::TERM)?;
    assert!(!node.folder().join("taskmesh.sock").exists());
    Ok(())
}

#[test]
fn an_mcp_server_finds_its_daemon() -> Result<()> {
    let node = Node::daemon_on(long_folder()?)?;
    let rpc = node.ready("rpc")?[0].as_str().context("no RPC address")?.to_owned();
    assert_eq!(rpc, format!("unix:{}/taskmesh.sock", node.folder().display()));
    let front = Front::start(&["--daemon", &rpc])?;
    assert_eq!(HttpConnection::open(front.http()?)?.get("/readyz", &[])?.status, 200);
    Ok(())
}
