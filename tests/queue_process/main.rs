//! A process that holds a queue, for tests that kill it, stop it, or make its disk fail.
//!
//! `queue-process store FILE` opens a store, and `queue-process socket SOCKET` asks the node behind a socket. Then it
//! follows the orders on its standard input until the input ends.

mod load;
mod talk;

use std::{
    env, fmt,
    io::{Write as _, stderr, stdin, stdout},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use async_trait::async_trait;
use p2p_taskqueue::{
    Caller, ErrorCode, PeerId, QueueError, TaskQueue,
    mesh::{Connection, Connector, DaemonQueue},
    store::{LocalQueue, SqliteStore, StoreOptions},
};
use runtime_bridge::TokioRuntime;
use talk::{Order, Said};
use tokio::{
    net::UnixStream,
    runtime::{Builder, Runtime},
};
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

fn main() -> Result<()> {
    // It logs nothing unless RUST_LOG is set, which helps to explain a failing test.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).from_env()?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).init();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let queue = open(&runtime)?;
    say(&Said::Ready)?;
    for line in stdin().lines() {
        match serde_json::from_str(&line?)? {
            Order::Ask(request) => {
                say(&Said::Answered(runtime.block_on(queue.call(&Caller::Local, *request)).map(Box::new)))?;
            }
            Order::Load { seed, clients } => runtime.block_on(load::run(&queue, seed, clients))?,
        }
    }
    Ok(())
}

fn open(runtime: &Runtime) -> Result<Arc<dyn TaskQueue>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let bridge = Arc::new(TokioRuntime::new(runtime.handle().clone()));
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["store", file] => {
            let owner = PeerId::random();
            let store = SqliteStore::open(Path::new(file), StoreOptions::new(owner))?;
            Ok(Arc::new(LocalQueue::new(Arc::new(store), owner, bridge)))
        }
        ["socket", socket] => {
            let daemon = DaemonQueue::new(Arc::new(Socket((*socket).to_owned())), bridge);
            runtime.block_on(daemon.connect(Duration::ZERO))?;
            Ok(Arc::new(daemon))
        }
        _ => bail!("usage: queue-process (store FILE | socket SOCKET)"),
    }
}

/// A node's socket.
#[derive(Debug)]
struct Socket(String);

#[async_trait]
impl Connector for Socket {
    async fn connect(&self) -> Result<Connection, QueueError> {
        let refused = |error| QueueError::new(ErrorCode::Unreachable, format!("{self}: {error}"));
        Ok(Box::new(UnixStream::connect(&self.0).await.map_err(refused)?.compat()))
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells the test, in one write, so that nothing that happens to this process later can take it back.
fn say(said: &Said) -> Result<()> {
    let mut line = serde_json::to_string(said)?;
    line.push('\n');
    Ok(stdout().lock().write_all(line.as_bytes())?)
}
