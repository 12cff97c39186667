//! The matrix: backends, the runtimes that callers use, and a watchdog for each cell.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, Once, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};

use runtime_bridge::{
    Backend, Bridge, ExecutorThread, Runtime, ShutdownError, ShutdownReport, ThreadConfig, TokioRuntime,
};
use tokio::sync::oneshot;

use crate::outside::Driven;

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Every wait in this suite is for an event; none takes this long unless something hangs.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);
/// A shutdown deadline that no orderly shutdown comes near.
pub(crate) const AMPLE: Duration = Duration::from_secs(20);

/// What the caller's side runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller {
    Tokio,
    AsyncStd,
    Smol,
    Plain,
}

const CALLERS: [Caller; 4] = [Caller::Tokio, Caller::AsyncStd, Caller::Smol, Caller::Plain];

impl Caller {
    /// Runs `future` to its end on this runtime, as a task of it where it has tasks.
    pub(crate) fn block_on<F>(self, future: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        match self {
            Self::Tokio => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                let runtime = builder.worker_threads(2).enable_all().build().unwrap();
                let task = runtime.spawn(future);
                runtime.block_on(task).unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            }
            // On a thread of its own, not on its pool: the pool is the executor of the async-std backend.
            Self::AsyncStd => async_std::task::block_on(future),
            Self::Smol => {
                let executor = smol::Executor::new();
                let task = executor.spawn(future);
                smol::block_on(executor.run(task))
            }
            Self::Plain => futures::executor::block_on(future),
        }
    }
}

/// One cell of the matrix: a fresh executor thread and who calls it.
pub(crate) struct Case {
    pub(crate) thread: Thread,
    pub(crate) bridge: Bridge,
    pub(crate) backend: Driven,
}

/// The executor thread of a case. The harness holds it too, so that it lives on when a test captures other parts
/// of its case only.
#[derive(Clone)]
pub(crate) struct Thread {
    runtime: Arc<dyn Runtime>,
    owned: Arc<Mutex<Option<ExecutorThread>>>,
}

impl Thread {
    pub(crate) fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime)
    }

    /// The thread itself, to end it.
    pub(crate) fn take(&self) -> ExecutorThread {
        self.owned.lock().unwrap().take().unwrap()
    }

    pub(crate) async fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport, ShutdownError> {
        let thread = self.take();
        thread.shutdown(deadline).await
    }
}

/// Runs `test` for every backend from every caller's runtime.
pub(crate) fn every<T, F>(test: T)
where
    T: Fn(Case) -> F + Send + Copy + 'static,
    F: Future<Output = TestResult> + Send + 'static,
{
    every_with(ThreadConfig::default, test);
}

/// As [`every`], on threads that are set up by `config`.
pub(crate) fn every_with<T, F>(config: fn() -> ThreadConfig, test: T)
where
    T: Fn(Case) -> F + Send + Copy + 'static,
    F: Future<Output = TestResult> + Send + 'static,
{
    confine_async_std();
    for backend in Driven::all() {
        for caller in CALLERS {
            watch(&format!("{backend}, called from {caller:?}"), move || {
                let thread = ExecutorThread::start(backend, config().with_name("conformance"))?;
                let (bridge, runtime) = (thread.bridge(), thread.runtime());
                let thread = Thread { runtime, owned: Arc::new(Mutex::new(Some(thread))) };
                let result = caller.block_on(test(Case { thread: thread.clone(), bridge, backend }));
                drop(thread);
                result
            });
        }
    }
}

/// Runs `test` for every runtime from every caller's: those of the executor threads and a multi-thread tokio.
pub(crate) fn every_runtime<T, F>(test: T)
where
    T: Fn(Arc<dyn Runtime>) -> F + Send + Copy + 'static,
    F: Future<Output = TestResult> + Send + 'static,
{
    every(move |case| test(case.thread.runtime()));
    for caller in CALLERS {
        watch(&format!("multi-thread tokio, called from {caller:?}"), move || {
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            caller.block_on(test(Arc::new(TokioRuntime::new(tokio.handle().clone()))))
        });
    }
}

/// Runs `body` on a thread of its own and fails when it fails, or does not end.
pub(crate) fn watch(what: &str, body: impl FnOnce() -> TestResult + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel(1);
    let worker = thread::spawn(move || {
        let result = body();
        let _watcher_gave_up = done.send(());
        result
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(WATCHDOG) {
        panic!("{what}: hangs");
    }
    match worker.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
            panic!("{what}: {}", text.unwrap_or_default());
        }
    }
}

/// async-std can be confined to one thread only before anything else uses it, the callers' side of this suite
/// included.
fn confine_async_std() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(&backend) = Backend::ALL.iter().find(|backend| backend.name() == "async-std") {
            drop(ExecutorThread::start(backend, ThreadConfig::default()).unwrap());
        }
    });
}

/// Where and how something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) on: ThreadId,
    pub(crate) in_tokio: bool,
}

/// Tells when, and where, it is dropped.
pub(crate) struct DropProbe(Option<oneshot::Sender<Dropped>>);

pub(crate) fn drop_probe() -> (DropProbe, oneshot::Receiver<Dropped>) {
    let (sender, receiver) = oneshot::channel();
    (DropProbe(Some(sender)), receiver)
}

impl Drop for DropProbe {
    fn drop(&mut self) {
        let dropped = Dropped { on: thread::current().id(), in_tokio: tokio::runtime::Handle::try_current().is_ok() };
        if let Some(sender) = self.0.take() {
            let _nobody_asks = sender.send(dropped);
        }
    }
}

impl fmt::Debug for DropProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DropProbe")
    }
}

/// A future that says that it was polled, then never ends, and says when it is dropped.
pub(crate) struct Endless {
    pub(crate) begun: oneshot::Receiver<()>,
    pub(crate) dropped: oneshot::Receiver<Dropped>,
}

pub(crate) fn endless() -> (impl Future<Output = ()> + Send + 'static, Endless) {
    let (begin, begun) = oneshot::channel();
    let (probe, dropped) = drop_probe();
    let future = async move {
        let _held = probe;
        let _asker_gone = begin.send(());
        std::future::pending::<()>().await;
    };
    (future, Endless { begun, dropped })
}

/// Blocks the executor thread until it is told to go on; gives the means to tell it, once it is blocked.
pub(crate) async fn block_executor(thread: &Thread) -> Result<mpsc::SyncSender<()>, oneshot::error::RecvError> {
    use runtime_bridge::RuntimeExt;
    let (go_on, may_go_on) = mpsc::sync_channel::<()>(1);
    let (begin, begun) = oneshot::channel();
    thread
        .runtime()
        .spawn(async move {
            let _asker_gone = begin.send(());
            let _go_on = may_go_on.recv();
        })
        .detach();
    begun.await?;
    Ok(go_on)
}

/// The id of the executor's thread.
pub(crate) async fn executor_id(bridge: &Bridge) -> Result<ThreadId, runtime_bridge::CallError> {
    bridge.run_in_p2p(async { thread::current().id() }).await
}
