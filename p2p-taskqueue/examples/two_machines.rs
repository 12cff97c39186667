//! Submits on one machine and works on the other. Here both are nodes in one process, each with its own data folder,
//! connected over loopback.
//!
//! ```text
//! cargo run -p p2p-taskqueue --example two_machines
//! ```
#![expect(clippy::print_stdout, reason = "an example: it says what it does")]

use std::{error::Error, path::Path};

use p2p_taskqueue::{Context, Failure, Node, Task, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct CountWords(String);

impl Task for CountWords {
    const TYPE: &str = "count_words";
    type Output = usize;
}

async fn count(CountWords(text): CountWords, cx: Context) -> Result<usize, Failure> {
    println!("the first counts {text:?}, kept by a peer: {}", cx.owner().is_some());
    Ok(text.split_whitespace().count())
}

async fn start(folder: &Path) -> Result<Node, Box<dyn Error>> {
    Ok(Node::builder().data_dir(folder).listen("/ip4/127.0.0.1/tcp/0".parse()?).start().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (folder, other_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (first, second) = (start(folder.path()).await?, start(other_folder.path()).await?);
    let joined = second.join(first.invite().await?).await?;
    println!("joined, connected: {}", joined.connected);

    // The second node owns this task. Workers of its peers may take it.
    let here = second.queue().submit(CountWords("three short words".to_owned())).await?;
    // The first node owns this task, and the second remembers that.
    let there = second.queue().submit(CountWords("two words".to_owned())).on(first.peer_id()).await?;
    let both_done = async {
        println!("kept by the second: {:?}", here.wait().await);
        println!("kept by the first: {:?}", there.wait().await);
    };
    Worker::new(&first.queue()).handle(count).run_until(both_done).await?;

    second.shutdown().await?;
    Ok(first.shutdown().await?)
}
