//! What both benchmarks of the bridge share: the threads at either end and what they are compared with.

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

/// The calling side: a multi-thread tokio with as many workers as the machine that the targets are stated for.
pub(crate) fn callers() -> Result<Runtime, Error> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// An executor thread of the given backend.
pub(crate) fn executor(backend: Backend) -> Result<ExecutorThread, Error> {
    Ok(ExecutorThread::start(backend, ThreadConfig::default().with_name(format!("p2p-{backend}")))?)
}

/// The name of a backend in a benchmark's name.
pub(crate) fn label(backend: Backend) -> String {
    backend.name().replace('-', "_")
}

/// What a benchmark measures, by name.
pub(crate) struct Candidates<C> {
    pub(crate) list: Vec<(String, C)>,
    // Kept alive for as long as the candidates use them.
    pub(crate) _threads: Vec<ExecutorThread>,
    pub(crate) _plain: Vec<Plain>,
}

impl<C> Candidates<C> {
    /// Those of the closing table, if this run ends with one.
    pub(crate) fn for_table(mut self) -> Option<Self> {
        self.list.retain(|(name, _)| in_table(name));
        wants_table().then_some(self)
    }
}

/// Whether this is a run to measure in, rather than a test, a list or a profile.
fn wants_table() -> bool {
    let is_given = |flag: &str| std::env::args().any(|argument| argument == flag);
    is_given("--bench") && !is_given("--list") && !is_given("--profile-time")
}

/// Whether the table has this candidate: all, or those that an argument with a slash in it is part of.
fn in_table(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|argument| argument.contains('/')).peekable();
    filters.peek().is_none() || filters.any(|filter| name.contains(&filter))
}

/// A thread that drives a runtime by its plain means, with no bridge: what the bridge is compared with.
pub(crate) struct Plain {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) spawner: Spawner,
}

/// Spawns onto a plain thread as a program without a bridge would.
#[derive(Clone)]
pub(crate) enum Spawner {
    Tokio(Handle),
    Smol(Arc<Executor<'static>>),
    AsyncStd,
}

impl Spawner {
    /// Runs `future` over there and gives its value.
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
    /// A thread like the executor thread of `backend`. async-std's is the process's own, confined already.
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
