//! Tasks and tools on two machines, with every runtime of the node and over every transport.

use anyhow::Result;
use rustix::process::Signal;

use crate::harness::{LICENCE, Node, STOP, at, licence_words, while_busy};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// Runs a task of one node on another one's worker, and calls that worker's tool from the first node. Both nodes end in
/// time.
fn two_machines(runtime: &str, listen: &str) -> Result<()> {
    let mut owner = Node::start_at(listen, &["--p2p-runtime", runtime])?;
    let mut worker = Node::start_at(listen, &["--p2p-runtime", runtime, "--worker", "wordcount=wc -w"])?;
    for node in [&owner, &worker] {
        assert_eq!(node.ready("p2p_runtime")?, runtime);
        assert_eq!(at(&node.ask(&["status"])?, "/p2p_runtime"), runtime);
        assert_eq!(node.address()?.contains("/quic-v1/"), listen == QUIC, "{}", node.address()?);
    }
    worker.join(&owner)?;

    let licence = concat!("@", env!("CARGO_MANIFEST_DIR"), "/../LICENSE-APACHE");
    let counted = owner.ask(&["submit", "wordcount", "--text", licence, "--wait"])?;
    assert_eq!(at(&counted, "/task/result"), licence_words(), "{counted}");
    assert_eq!(at(&counted, "/task/payload"), LICENCE);
    assert_eq!(at(&counted, "/peer_id"), &owner.peer_id()?, "the task stays with the node that accepted it");
    let called = owner.run(&["call", "wordcount", "--args", "\"a b c\"", "--peer", &worker.address()?])?;
    assert_eq!((called.code, called.stdout.as_str()), (Some(0), "3\n"), "{called:?}");

    for node in [&mut owner, &mut worker] {
        let (status, took, stderr) = node.stop(Signal::TERM)?;
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(took < while_busy(STOP), "{took:?}; {stderr}");
    }
    Ok(())
}

#[test]
fn two_machines_on_tokio_over_tcp() -> Result<()> {
    two_machines("tokio", TCP)
}

#[test]
fn two_machines_on_tokio_over_quic() -> Result<()> {
    two_machines("tokio", QUIC)
}

#[test]
fn two_machines_on_smol_over_tcp() -> Result<()> {
    two_machines("smol", TCP)
}

#[test]
fn two_machines_on_smol_over_quic() -> Result<()> {
    two_machines("smol", QUIC)
}

#[test]
fn two_machines_on_async_std_over_tcp() -> Result<()> {
    two_machines("async-std", TCP)
}

#[test]
fn two_machines_on_async_std_over_quic() -> Result<()> {
    two_machines("async-std", QUIC)
}

#[test]
fn machines_on_different_runtimes_work_together() -> Result<()> {
    let owner = Node::start(&["--p2p-runtime", "smol"])?;
    let worker = Node::start_at(QUIC, &["--p2p-runtime", "async-std", "--worker", "shout=tr a-z A-Z"])?;
    owner.join(&worker)?;
    let shouted = owner.run(&["submit", "shout", "--text", "good morning", "--wait"])?;
    assert_eq!(shouted.stdout, "GOOD MORNING\n", "{shouted:?}");
    Ok(())
}

#[test]
fn a_runtime_that_is_not_there_is_refused_with_those_that_are() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let answered = crate::harness::taskmesh(folder.path(), &["serve", "--p2p-runtime", "trio"])?;
    assert_eq!(answered.code, Some(2), "{answered:?}");
    assert!(["trio", "tokio", "smol", "async-std"].iter().all(|word| answered.stderr.contains(word)), "{answered:?}");
    Ok(())
}
