//! F1 to F5: runtimes that the crate does not know, made with its public parts alone. The whole suite runs on two of
//! them; what the start has to refuse is here.

use std::{
    fmt,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    thread,
    time::Instant,
};

use runtime_bridge::{
    Backend, ExecutorThread, Main, Runtime, RuntimeFactory, ShutdownError, Sleep, SpawnedFuture, StartError,
    ThreadConfig, TokioRuntime,
};
use tokio::runtime::{Builder, Handle};

use crate::support::{AMPLE, WATCHDOG, watch};

/// What a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    BuiltIn(Backend),
    /// A tokio runtime with settings of the program's own.
    OwnTokio,
    /// An executor that is not `Send`.
    Local,
}

impl Driven {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let outside = [Self::OwnTokio, Self::Local];
        Backend::ALL.iter().copied().map(Self::BuiltIn).chain(outside)
    }
}

impl fmt::Display for Driven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(backend) => backend.fmt(f),
            Self::OwnTokio => f.write_str("tokio with own settings"),
            Self::Local => f.write_str("an executor that is not Send"),
        }
    }
}

impl RuntimeFactory for Driven {
    fn run(self, main: Main) -> Result<(), StartError> {
        match self {
            Self::BuiltIn(backend) => backend.run(main),
            Self::OwnTokio => {
                let mut tokio = Builder::new_current_thread();
                tokio.enable_all().event_interval(3).global_queue_interval(5);
                tokio.run(main)
            }
            Self::Local => run_local_executor(main),
        }
    }
}

/// The way to an executor that only its own thread can touch.
#[derive(Debug)]
struct Inbox {
    state: Mutex<InboxState>,
    tokio: Handle,
}

#[derive(Debug, Default)]
struct InboxState {
    arrived: Vec<SpawnedFuture>,
    /// The executor's thread, waiting for the next arrival.
    reader: Option<Waker>,
    is_closed: bool,
}

impl Inbox {
    /// Waits for what has been spawned.
    async fn next(&self) -> Vec<SpawnedFuture> {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock().unwrap();
            if state.arrived.is_empty() {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut state.arrived))
        })
        .await
    }

    fn close(&self) -> Vec<SpawnedFuture> {
        let mut state = self.state.lock().unwrap();
        state.is_closed = true;
        std::mem::take(&mut state.arrived)
    }
}

impl Runtime for Inbox {
    fn spawn_future(&self, future: SpawnedFuture) {
        let mut state = self.state.lock().unwrap();
        let (reader, unwanted) = if state.is_closed {
            (None, Some(future))
        } else {
            state.arrived.push(future);
            (state.reader.take(), None)
        };
        drop(state);
        let entered = self.tokio.enter();
        drop(unwanted);
        drop(entered);
        reader.into_iter().for_each(Waker::wake);
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        TokioRuntime::new(self.tokio.clone()).sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

fn run_local_executor(main: Main) -> Result<(), StartError> {
    let mut tokio = Builder::new_current_thread();
    let tokio = tokio.enable_all().build().map_err(|error| StartError::Runtime(error.into()))?;
    let inbox = Arc::new(Inbox { state: Mutex::default(), tokio: tokio.handle().clone() });
    let executor = Rc::new(smol::LocalExecutor::new());
    let (spawner, arrivals) = (Rc::clone(&executor), Arc::clone(&inbox));
    let spawns = async move {
        loop {
            for future in arrivals.next().await {
                spawner.spawn(future).detach();
            }
        }
    };
    // The runtime is the inbox and the task that empties it.
    let spawning = executor.spawn(spawns);
    let main = main.on(Arc::<Inbox>::clone(&inbox));
    tokio.block_on(tokio::task::unconstrained(executor.run(main)));
    let entered = tokio.enter();
    drop(inbox.close());
    drop(spawning);
    drop(executor);
    drop(entered);
    tokio.shutdown_background();
    Ok(())
}

/// Starts a thread that must not start, and gives the reason.
fn refused(factory: impl RuntimeFactory) -> StartError {
    ExecutorThread::start(factory, ThreadConfig::default().with_start_deadline(WATCHDOG)).unwrap_err()
}

#[test]
fn f1_the_factory_runs_on_the_named_thread() {
    struct Tells(std::sync::mpsc::SyncSender<Option<String>>);
    impl RuntimeFactory for Tells {
        fn run(self, main: Main) -> Result<(), StartError> {
            let _receiver_waits = self.0.send(thread::current().name().map(str::to_owned));
            Driven::OwnTokio.run(main)
        }
    }
    watch("name", || {
        let (tells, told) = std::sync::mpsc::sync_channel(1);
        let started = ExecutorThread::start(Tells(tells), ThreadConfig::default().with_name("own"))?;
        assert_eq!(told.recv()?.as_deref(), Some("own"));
        started.shutdown_blocking(AMPLE)?;
        Ok(())
    });
}

#[test]
fn f3_a_runtime_of_several_threads_is_refused() {
    watch("multi-thread tokio", || {
        let mut tokio = Builder::new_multi_thread();
        tokio.worker_threads(1).enable_all();
        let error = refused(tokio);
        let reason = "what it spawns does not run on the thread of its main future";
        assert!(matches!(error, StartError::Unsuitable { reason: given } if given == reason), "{error}");
        Ok(())
    });
}

#[test]
fn r7_a_runtime_outside_a_tokio_context_is_refused() {
    #[derive(Debug)]
    struct Bare(Arc<smol::Executor<'static>>);
    impl Runtime for Bare {
        fn spawn_future(&self, future: SpawnedFuture) {
            self.0.spawn(future).detach();
        }

        fn sleep_until(&self, deadline: Instant) -> Sleep {
            let timer = smol::Timer::at(deadline);
            Sleep::new(async move {
                timer.await;
            })
        }

        fn now(&self) -> Instant {
            Instant::now()
        }
    }
    struct BareSmol;
    impl RuntimeFactory for BareSmol {
        fn run(self, main: Main) -> Result<(), StartError> {
            let executor = Arc::new(smol::Executor::new());
            smol::block_on(executor.run(main.on(Arc::new(Bare(Arc::clone(&executor))))));
            Ok(())
        }
    }
    watch("smol without tokio", || {
        let error = refused(BareSmol);
        let reason = "what it spawns runs outside a tokio context";
        assert!(matches!(error, StartError::Unsuitable { reason: given } if given == reason), "{error}");
        Ok(())
    });
}

#[test]
fn r1_a_runtime_that_drops_what_it_should_run_is_refused() {
    #[derive(Debug)]
    struct Deaf(TokioRuntime);
    impl Runtime for Deaf {
        fn spawn_future(&self, future: SpawnedFuture) {
            drop(future);
        }

        fn sleep_until(&self, deadline: Instant) -> Sleep {
            self.0.sleep_until(deadline)
        }

        fn now(&self) -> Instant {
            self.0.now()
        }
    }
    struct DeafTokio;
    impl RuntimeFactory for DeafTokio {
        fn run(self, main: Main) -> Result<(), StartError> {
            let tokio = Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(main.on(Arc::new(Deaf(TokioRuntime::new(tokio.handle().clone())))));
            Ok(())
        }
    }
    watch("deaf", || {
        let error = refused(DeafTokio);
        assert!(matches!(error, StartError::Unsuitable { reason: "what it spawns does not run" }), "{error}");
        Ok(())
    });
}

#[test]
fn f5_a_runtime_that_cannot_be_built_fails_the_start() {
    struct Fails;
    impl RuntimeFactory for Fails {
        fn run(self, _main: Main) -> Result<(), StartError> {
            Err(StartError::Runtime("no reactor".into()))
        }
    }
    struct Panics;
    impl RuntimeFactory for Panics {
        fn run(self, _main: Main) -> Result<(), StartError> {
            panic!("no luck")
        }
    }
    watch("fails", || {
        let error = refused(Fails);
        assert!(matches!(&error, StartError::Runtime(cause) if cause.to_string() == "no reactor"), "{error}");
        let error = refused(Panics);
        assert!(matches!(&error, StartError::Panicked { message } if message == "no luck"), "{error}");
        Ok(())
    });
}

/// Drops the main future at its first poll, or when it is told to.
struct Leaves(Option<tokio::sync::oneshot::Receiver<()>>);

impl RuntimeFactory for Leaves {
    fn run(self, main: Main) -> Result<(), StartError> {
        let Some(leave) = self.0 else {
            drop(main);
            return Ok(());
        };
        let tokio = Builder::new_current_thread().enable_all().build().unwrap();
        let main = main.on(Arc::new(TokioRuntime::new(tokio.handle().clone())));
        tokio.block_on(async {
            let main = std::pin::pin!(main);
            drop(futures::future::select(main, leave).await);
        });
        Ok(())
    }
}

#[test]
fn f4_a_factory_that_leaves_before_the_main_future_has_ended_is_told_of() {
    watch("leaves", || {
        let error = refused(Leaves(None));
        assert!(matches!(error, StartError::Unsuitable { .. }), "{error}");

        let (leave, leaves) = tokio::sync::oneshot::channel();
        let thread = ExecutorThread::start(Leaves(Some(leaves)), ThreadConfig::default())?;
        let bridge = thread.bridge();
        let call = async move {
            let _receiver_waits = leave.send(());
            std::future::pending::<()>().await;
        };
        let ended = bridge.run_in_p2p_blocking(call);
        assert!(ended.is_err(), "{ended:?}");
        let end = thread.shutdown_blocking(AMPLE);
        assert!(matches!(&end, Err(ShutdownError::Crashed { message }) if message.contains("left before")), "{end:?}");
        let later = bridge.run_in_p2p_blocking(async {});
        assert!(matches!(later, Err(runtime_bridge::CallError::Crashed { .. })), "{later:?}");
        Ok(())
    });
}
