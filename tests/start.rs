//! Failures at the start of a node: each gives a clear sentence and exit code 2.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command},
    sync::mpsc::sync_channel,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{Answered, DEADLINE, Node, PROGRAM, Strace, skipped, taskmesh, taskmesh_command};

fn serve(folder: &std::path::Path, arguments: &[&str]) -> Result<Answered> {
    let usual = ["serve", "--json", "--http", "127.0.0.1:0", "--p2p-listen", "/ip4/127.0.0.1/tcp/0"];
    taskmesh(folder, &[&usual, arguments].concat())
}

/// Checks that the command has failed with this code, and that its error message has all these words.
fn assert_refused(answered: &Answered, code: i32, words: &[&str]) {
    assert_eq!(answered.code, Some(code), "{answered:?}");
    for word in words {
        assert!(answered.stderr.contains(word), "no {word:?} in {:?}", answered.stderr);
    }
}

#[test]
fn the_ready_line_is_the_only_output_and_says_everything() -> Result<()> {
    let node = Node::start(&[])?;
    let peer_id = node.peer_id()?;
    assert_eq!(node.ready("event")?, "ready");
    assert_eq!((node.ready("mode")?, node.ready("p2p_runtime")?), (&"bridge".into(), &"tokio".into()));
    assert!(node.http()?.starts_with("http://127.0.0.1:") && node.http()?.ends_with("/mcp"));
    assert!(node.address()?.starts_with("/ip4/127.0.0.1/tcp/") && node.address()?.ends_with(&peer_id));
    let socket = format!("unix:{}", node.folder().join("taskmesh.sock").display());
    assert_eq!(node.ready("rpc")?, &serde_json::json!([socket]));
    Ok(())
}

#[test]
fn what_is_secret_is_for_this_user_alone() -> Result<()> {
    let node = Node::start(&[])?;
    for name in ["identity.key", "mesh.json", "root.key", "taskmesh.sock", "queue.sqlite3"] {
        let mode = std::fs::metadata(node.folder().join(name))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    Ok(())
}

#[test]
fn the_start_message_has_a_call_that_works() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let arguments = ["serve", "--http", "127.0.0.1:0", "--p2p-listen", "/ip4/127.0.0.1/tcp/0"];
    let mut node = Started(taskmesh_command(folder.path()).args(arguments).spawn()?);
    let stdout = node.0.stdout.take().context("no standard output")?;
    let (send, message) = sync_channel(1);
    thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let message: Vec<_> = lines.take_while(|line| !line.contains("taskmesh serve --worker")).collect();
        send.send(message.join("\n")).ok();
    });
    let message = message.recv_timeout(DEADLINE)?;
    assert!(message.contains("mcpServers") && message.contains("taskmesh invite"), "{message}");

    if Command::new("curl").arg("--version").output().is_err() {
        skipped("there is no curl to run the printed line with");
        return Ok(());
    }
    let line = message.lines().find(|line| line.contains("curl")).context("no curl line")?;
    let called = Command::new("sh").args(["-c", line]).output()?;
    let answer: serde_json::Value = serde_json::from_slice(&called.stdout)?;
    assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
    Ok(())
}

/// A process that is killed when the test is over.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let folder = tempfile::tempdir()?;
    let http = taskmesh(folder.path(), &["serve", "--json", "--http", &format!("127.0.0.1:{port}")])?;
    assert_refused(&http, 2, &["--http", &port, "in use"]);
    assert_eq!(http.json()?["ok"], false);
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let p2p = taskmesh(folder.path(), &["serve", "--json", "--http", "127.0.0.1:0", "--p2p-listen", &listen])?;
    assert_refused(&p2p, 2, &["--p2p-listen", &listen, "in use"]);
    Ok(())
}

#[test]
fn a_data_folder_of_a_running_node_is_refused() -> Result<()> {
    let node = Node::start(&[])?;
    assert_refused(&serve(node.folder(), &[])?, 2, &["in use by a running taskmesh", "--data-dir"]);
    Ok(())
}

#[test]
fn a_store_that_cannot_be_used_is_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("queue.sqlite3");
    let garbage = "this is not a database, whatever its name says".repeat(100);
    std::fs::write(&store, &garbage)?;
    assert_refused(&serve(folder.path(), &[])?, 2, &["queue.sqlite3"]);
    assert_eq!(std::fs::read_to_string(&store)?, garbage, "the file is untouched");
    Ok(())
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() -> Result<()> {
    let mut node = Node::start(&[])?;
    node.ask(&["submit", "kept"])?;
    node.stop(Signal::TERM)?;
    let store = node.folder().join("queue.sqlite3");
    let mut file = std::fs::read(&store)?;
    // SQLite's file header keeps the application's schema version here.
    file.get_mut(60..64).context("no file header")?.copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&store, &file)?;
    assert_refused(&serve(node.folder(), &[])?, 2, &["queue.sqlite3", "newer", "99"]);
    assert_eq!(std::fs::read(&store)?, file, "the file is untouched");
    Ok(())
}

#[test]
fn a_store_from_before_the_first_release_is_left_alone() -> Result<()> {
    let mut node = Node::start(&[])?;
    node.ask(&["submit", "kept"])?;
    node.stop(Signal::TERM)?;
    let store = node.folder().join("queue.sqlite3");
    let mut file = std::fs::read(&store)?;
    // A program from before the first release marked its files like this.
    file.get_mut(60..64).context("no file header")?.copy_from_slice(&4_u32.to_be_bytes());
    file.get_mut(68..72).context("no file header")?.copy_from_slice(b"tmsh");
    std::fs::write(&store, &file)?;
    let words = ["queue.sqlite3", "before the first release", "another data folder"];
    assert_refused(&serve(node.folder(), &[])?, 2, &words);
    assert_refused(&taskmesh(node.folder(), &["repair"])?, 2, &words);
    assert_eq!(std::fs::read(&store)?, file, "the file is untouched");
    Ok(())
}

#[test]
fn malformed_arguments_are_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = |arguments: &[&str], words: &[&str]| -> Result<()> {
        assert_refused(&taskmesh(folder.path(), arguments)?, 2, words);
        Ok(())
    };
    refused(&["serve", "--p2p-listen", "tcp://nowhere"], &["--p2p-listen", "tcp://nowhere"])?;
    refused(&["serve", "--http", "0.0.0.0:0"], &["--http", "loopback"])?;
    refused(&["serve", "--http", "here"], &["--http", "HOST:PORT"])?;
    refused(&["serve", "--label", "gpu"], &["--label", "--worker"])?;
    refused(&["serve", "--worker", "wordcount"], &["--worker", "TYPE=COMMAND"])?;
    refused(&["serve", "--http", "127.0.0.1:0", "--worker", "wordcount=wc 'open"], &["--worker", "quote"])?;
    Ok(())
}

/// When the name of a folder is lost, so is everything in it; and a file is lost with its own name.
#[test]
fn a_new_data_folder_and_its_key_are_on_the_disk_under_their_names() -> Result<()> {
    let inviting = Node::start(&[])?;
    let ticket = inviting.ask(&["invite"])?["ticket"].as_str().context("no ticket")?.to_owned();
    let parent = tempfile::tempdir()?;
    let parent = parent.path().canonicalize()?;
    let folder = parent.join("new").join("newer");
    let name = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a name that strace shows");
    let calls = match Strace::names_of(PROGRAM, &["--data-dir", &name(&folder)?, "join", &ticket])? {
        Ok(calls) => calls,
        Err(why) => {
            skipped(&why);
            return Ok(());
        }
    };
    let find = |from: usize, what: &str, path: &str| {
        let mut later = calls.iter().skip(from);
        later.position(|call| call.contains(what) && call.contains(path)).map(|at| from + at)
    };
    let key = find(0, "rename", "identity.key\"").with_context(|| format!("a key in {calls:?}"))?;
    for (made, holder) in [(parent.join("new"), parent.clone()), (folder.clone(), parent.join("new"))] {
        let at = find(0, "mkdir", &format!("\"{}\"", name(&made)?)).context("it was made")?;
        let synced = find(at, "fsync", &format!("<{}>", name(&holder)?));
        ensure!(synced.is_some_and(|synced| synced < key), "the name of {} is not synced: {calls:#?}", made.display());
    }
    ensure!(find(key, "fsync", &format!("<{}>", name(&folder)?)).is_some(), "the key's name is not synced: {calls:#?}");
    Ok(())
}
