//! Submit on one node, work on the other, in one process: two nodes of one mesh, each with a store and an identity of its
//! own, on loopback.
//!
//! ```text
//! cargo run -p p2p-taskqueue --example two_nodes
//! ```
#![expect(clippy::print_stdout, reason = "an example: it says what it does")]

use std::{error::Error, path::Path, sync::Arc};

use async_trait::async_trait;
use p2p_taskqueue::{
    Caller, Identity, Json, MeshSecret, Node, NodeConfig, NodeHandle, Task, TaskQueueExt,
    api::{Invite, Join, Submit, Wait},
    mesh::NoFiles,
    store::{LocalQueue, SqliteStore, StoreOptions},
    worker::{Contact, Handler, Outcome, Worker, WorkerConfig},
};
use runtime_bridge::{Runtime, TokioRuntime};

type Failure = Box<dyn Error + Send + Sync>;

/// Counts the words of a text.
#[derive(Debug)]
struct WordCount;

#[async_trait]
impl Handler for WordCount {
    async fn run(&self, task: &Task, _: Contact) -> Outcome {
        let failed = |error: String| Outcome::Failed { error, retryable: false };
        match task.payload.to::<String>() {
            Ok(text) => Json::from_value(&text.split_whitespace().count())
                .map_or_else(|error| failed(error.to_string()), Outcome::Done),
            Err(error) => failed(format!("the payload is not a text: {error}")),
        }
    }
}

/// A node with a store in this folder. Its mesh is its own until it joins another one.
async fn start(folder: &Path, runtime: &Arc<dyn Runtime>) -> Result<NodeHandle, Failure> {
    let identity = Identity::generate()?;
    let options = StoreOptions::new(identity.peer_id());
    let store = Arc::new(SqliteStore::open(&folder.join("queue.sqlite3"), options)?);
    let local = Arc::new(LocalQueue::new(Arc::<SqliteStore>::clone(&store), identity.peer_id(), Arc::clone(runtime)));
    let config = NodeConfig::new(identity, MeshSecret::generate()?).with_listen(["/ip4/127.0.0.1/tcp/0".parse()?]);
    Ok(Node::start(config, local, store, Arc::new(NoFiles), Arc::clone(runtime)).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(tokio::runtime::Handle::current()));
    let (folder_a, folder_b) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (a, b) = (start(folder_a.path(), &runtime).await?, start(folder_b.path(), &runtime).await?);
    println!("two nodes: {} and {}", a.peer_id(), b.peer_id());

    let ticket = a.queue().invite(&Caller::Local, Invite {}).await?.ticket;
    let joined = b.queue().join(&Caller::Local, Join { ticket }).await?;
    println!("joined by ticket, connected: {}", joined.connected);

    let config = WorkerConfig::new("words", ["wordcount"], Arc::new(WordCount));
    let worker = Worker::start(config, b.queue(), b.serving_peers(), &runtime);
    let text = Json::from_text("the second node counts these seven words");
    let task_id = a.queue().submit(&Caller::Local, Submit::new("wordcount", text)).await?.task_id;
    let waited = a.queue().wait(&Caller::Local, Wait::one(task_id, 10.0)).await?;
    let result = waited.task.and_then(|task| task.result).ok_or("there is no result")?;
    println!("submitted at the first, done by the second: {result} words");

    worker.shutdown().await;
    b.shutdown().await;
    a.shutdown().await;
    Ok(())
}
