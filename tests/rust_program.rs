//! Rust programs together with the built program: over its socket, and on its data folder.

use anyhow::{Context as _, Result};
use p2p_taskqueue::{Context, DataFolder, Node as RustNode, Queue, Task, Worker};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Node};

/// A task for the node's command `wc -w`.
#[derive(Serialize, Deserialize)]
struct CountWords(String);

impl Task for CountWords {
    const TYPE: &str = "wordcount";
    type Output = u64;
}

/// A task that a Rust worker does for the command line.
#[derive(Serialize, Deserialize)]
struct Reverse(String);

impl Task for Reverse {
    const TYPE: &str = "reverse";
    type Output = String;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_program_uses_the_queue_of_a_running_node() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    let folder = DataFolder::make(node.folder())?;
    let queue = Queue::connect(folder.socket()).await?;
    // A command of the node does a task of the program.
    let counted = queue.submit(CountWords("to be or not to be".to_owned())).await?;
    assert_eq!(timeout(DEADLINE, counted.wait()).await??, 6);
    // The program does a task of the command line.
    let mut answered = None;
    let client = async {
        let ask = move || node.run(&["submit", "reverse", "--text", "live", "--wait"]).map(|answered| (answered, node));
        answered = Some(tokio::task::spawn_blocking(ask).await);
    };
    let reverse = |Reverse(text): Reverse, _: Context| async move { Ok(text.chars().rev().collect()) };
    timeout(DEADLINE, Worker::new(&queue).handle(reverse).run_until(client)).await??;
    let (answered, _node) = answered.context("the client has not ended")???;
    assert_eq!((answered.code, answered.stdout.trim()), (Some(0), "evil"), "{answered:?}");
    queue.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_node_goes_on_where_the_program_has_stopped_and_the_other_way_round() -> Result<()> {
    let mut node = Node::start(&[])?;
    let (folder, peer_id) = (node.folder().to_owned(), node.peer_id()?);
    let submitted = node.ask(&["submit", "reverse", "--text", "live"])?;
    let id = submitted.pointer("/task_id").and_then(serde_json::Value::as_str).context("no id")?;
    let builder = || anyhow::Ok(RustNode::builder().data_dir(&folder).listen("/ip4/127.0.0.1/tcp/0".parse()?));
    let refused = builder()?.start().await.err().context("two nodes have one folder")?;
    assert!(refused.to_string().contains("in use"), "{refused}");
    node.kill()?;

    let rust = builder()?.start().await?;
    assert_eq!(rust.peer_id().to_string(), peer_id);
    let job = rust.queue().job::<Reverse>(id.parse()?);
    let reverse = |Reverse(text): Reverse, _: Context| async move { Ok(text.chars().rev().collect()) };
    let done = async { drop(job.wait().await) };
    timeout(DEADLINE, Worker::new(&rust.queue()).handle(reverse).run_until(done)).await??;
    rust.shutdown().await?;

    node.start_again()?;
    assert_eq!(node.peer_id()?, peer_id);
    let got = node.ask(&["get", id])?;
    assert_eq!(got.pointer("/task/result").and_then(serde_json::Value::as_str), Some("evil"), "{got}");
    Ok(())
}
