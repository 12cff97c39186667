//! async-std: its own executor, confined to one thread, beside a helper tokio runtime.
//!
//! async-std has one executor for the whole process and no way to run it on a thread of ours. What can be had
//! is that executor with a single thread: that thread is the executor thread here, and all async-std backed
//! [`ExecutorThread`](crate::ExecutorThread)s of a process share it. The thread that was started for the backend
//! drives the helper runtime, whose context is entered around everything that is polled.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_global_executor::GlobalExecutorConfig;
use futures::{FutureExt, channel::oneshot};
use tokio::runtime::{Builder, Handle};

use crate::{
    context::in_tokio_context,
    error::StartError,
    lifecycle::Main,
    runtime::{Runtime, Sleep, SpawnedFuture},
};

/// async-std's executor with the context of a helper runtime.
#[derive(Debug)]
pub(crate) struct AsyncStdRuntime {
    helper: Handle,
}

impl Runtime for AsyncStdRuntime {
    fn spawn_future(&self, future: SpawnedFuture) {
        // Dropping async-std's handle detaches; cancellation is the future's own business.
        drop(async_std::task::spawn(in_tokio_context(&self.helper, future)));
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(async move {
            // Its sleep counts from the first poll: what is left is worked out then.
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                async_std::task::sleep(left).await;
            }
        })
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Gives async-std's executor a single thread, if it has not been started yet. False when it has, with whatever
/// number of threads it was given.
///
/// The only global state of this crate, because the executor is global: it is configured once in a process.
fn confine() -> bool {
    static CONFINED: OnceLock<bool> = OnceLock::new();
    *CONFINED.get_or_init(|| {
        let confined = Arc::new(AtomicBool::new(false));
        let named = Arc::clone(&confined);
        let config = GlobalExecutorConfig::default()
            // No variable can have this name: the environment must not bring more threads.
            .with_env_var("=")
            .with_min_threads(1)
            .with_max_threads(1)
            .with_thread_name_fn(move || {
                // Asked for only if this configuration is the one in force.
                named.store(true, Ordering::Relaxed);
                "async-std/runtime".to_owned()
            });
        async_global_executor::init_with_config(config);
        confined.load(Ordering::Relaxed)
    })
}

/// Runs the main future on async-std's thread, while this thread drives the helper.
pub(crate) fn run(main: Main) -> Result<(), StartError> {
    if !confine() {
        return Err(StartError::AsyncStdNotConfined);
    }
    let helper = super::tokio::build(Builder::new_current_thread().enable_all())?;
    let handle = helper.handle().clone();
    let main = main.on_shared_thread(Arc::new(AsyncStdRuntime { helper: handle.clone() }), handle.clone());
    let (sender, receiver) = oneshot::channel();
    let main = async move {
        let end = AssertUnwindSafe(main).catch_unwind().await;
        let _receiver_waits_below = sender.send(end);
    };
    drop(async_std::task::spawn(in_tokio_context(&handle, main)));
    let end = helper.block_on(receiver);
    super::tokio::end(helper);
    match end {
        Ok(Err(payload)) => resume_unwind(payload),
        // When the executor has dropped the main future, the thread says so.
        Ok(Ok(())) | Err(oneshot::Canceled) => Ok(()),
    }
}
