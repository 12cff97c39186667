//! The parts that both benchmarks of the bridge share: the threads at either end, and those that they are compared
//! with.

use std::{
    sync::{Arc, mpsc::sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use async_executor::Executor;
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Starts the calling side: a multi-thread tokio runtime with as many workers as the machine that the goals are stated
/// for.
pub(crate) fn callers() -> Result<Runtime, Error> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Starts an executor thread of the given backend.
pub(crate) fn executor(backend: Backend) -> Result<ExecutorThread, Error> {
    Ok(ExecutorThread::start(backend, ThreadConfig::default().with_name(format!("p2p-{backend}")))?)
}

/// Returns the name of a backend for use in a benchmark's name.
pub(crate) fn label(backend: Backend) -> String {
    backend.name().replace('-', "_")
}

/// The candidates of a benchmark, by name.
pub(crate) struct Candidates<C> {
    pub(crate) list: Vec<(String, C)>,
    // These are kept alive for as long as the candidates use them.
    pub(crate) _threads: Vec<ExecutorThread>,
    pub(crate) _plain: Vec<Plain>,
}

impl<C> Candidates<C> {
    /// Returns the candidates of the closing table, if this run ends with one.
    pub(crate) fn for_table(mut self) -> Option<Self> {
        self.list.retain(|(name, _)| in_table(name));
        wants_table().then_some(self)
    }
}

/// Whether this run measures, rather than tests, lists or profiles.
fn wants_table() -> bool {
    let is_given = |flag: &str| std::env::args().any(|argument| argument == flag);
    is_given("--bench") && !is_given("--list") && !is_given("--profile-time")
}

/// Whether the table has this candidate: all, or those whose names contain an argument with a slash in it.
fn in_table(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|argument| argument.contains('/')).peekable();
    filters.peek().is_none() || filters.any(|filter| name.contains(&filter))
}

/// A thread that drives a runtime by its own means, without a bridge. The bridge is compared with it.
pub(crate) struct Plain {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) spawner: Spawner,
}

/// A handle that spawns onto a plain thread, as a program without a bridge would.
#[derive(Clone)]
pub(crate) enum Spawner {
    Tokio(Handle),
    Smol(Arc<Executor<'static>>),
    AsyncStd,
}

impl Spawner {
    /// Runs `future` on the other thread and returns its value.
    pub(crate) async fn run<F>(&self, future: F) -> Result<F::Output, Error>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        match self {
            Self::Tokio(handle) => Ok(handle.spawn(future).await?),
            Self::Smol(executor) => Ok(executor.spawn(future).await),
            Self::AsyncStd => Ok(async_std::task::spawn(future).await),
        }
    }
}

impl Plain {
    /// Starts a thread like the executor thread of `backend`. That of async-std is the process's own, and runs already.
    pub(crate) fn start(backend: Backend) -> Result<Self, Error> {
        if backend.name() == "async-std" {
            return Ok(Self { stop: None, thread: None, spawner: Spawner::AsyncStd });
        }
        let smol = (backend.name() == "smol").then(|| Arc::new(Executor::new()));
        let there = smol.clone();
        let (stop, stopped) = oneshot::channel();
        let (send, receive) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
                return;
            };
            let _waiting = send.send(runtime.handle().clone());
            let end = async {
                let _dropped = stopped.await;
            };
            match there {
                Some(executor) => runtime.block_on(tokio::task::unconstrained(executor.run(end))),
                None => runtime.block_on(end),
            }
        });
        let handle = receive.recv_timeout(Duration::from_secs(10))?;
        let spawner = match smol {
            Some(executor) => Spawner::Smol(executor),
            None => Spawner::Tokio(handle),
        };
        Ok(Self { stop: Some(stop), thread: Some(thread), spawner })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}
