//! `RuntimeFactory`: what an executor thread runs on, built in or brought by the program.

use crate::{error::StartError, lifecycle::Main};

/// Builds a runtime on the executor thread and drives it there until the thread has to end.
///
/// [`Backend`](crate::Backend) names the implementations that come with this crate. Two more ways lead to a
/// runtime of your own: a [`tokio::runtime::Builder`] is a factory by itself, for a current-thread tokio runtime
/// with other settings; any other runtime needs an implementation of this trait.
///
/// # Contract
///
/// An implementation keeps these clauses, and its runtime keeps those of [`Runtime`](crate::Runtime). The
/// conformance suite of this crate (`tests/conformance`) runs every test on two implementations from outside, too.
///
/// - **F1** [`run`](Self::run) is called once, on a thread of its own with the name from the configuration. It
///   builds the runtime there, so neither the runtime nor anything that it consists of has to be `Send`; only the
///   factory and the `Arc<dyn Runtime>` have to be.
/// - **F2** It hands its runtime to the main future by [`Main::on`] and polls the main future until that ends.
///   The main future tells the starting thread that all is ready, and ends when the thread has to.
/// - **F3** The main future and all futures that are spawned on the runtime are polled on the same thread. That
///   thread is *the executor thread* of all other clauses. The start refuses a runtime of several threads.
/// - **F4** The runtime lives until the main future has ended, and no longer: then `run` drops it on the executor
///   thread, inside the tokio context, with whatever is still spawned on it, and returns. It waits for nothing
///   that may take long: a quarter of a second after the deadline of the shutdown the thread is given up.
/// - **F5** When the runtime cannot be built, `run` returns the error and drops the main future unpolled. A panic
///   of the main future is passed on as a panic of `run`.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use runtime_bridge::{ExecutorThread, Main, RuntimeFactory, StartError, ThreadConfig, TokioRuntime};
///
/// /// Tokio with a task of its own that takes turns with everything else on the thread.
/// struct WithHousekeeping;
///
/// impl RuntimeFactory for WithHousekeeping {
///     fn run(self, main: Main) -> Result<(), StartError> {
///         let mut tokio = tokio::runtime::Builder::new_current_thread();
///         let tokio = tokio.enable_all().build().map_err(|error| StartError::Runtime(error.into()))?;
///         // It is not `Send`: it was made on this thread and never leaves it.
///         let local = tokio::task::LocalSet::new();
///         local.spawn_local(async { /* … */ });
///         let main = main.on(Arc::new(TokioRuntime::new(tokio.handle().clone())));
///         local.block_on(&tokio, main);
///         Ok(())
///     }
/// }
///
/// let thread = ExecutorThread::start(WithHousekeeping, ThreadConfig::default())?;
/// assert_eq!(thread.bridge().run_blocking(async { 40 + 2 })?, 42);
/// thread.shutdown_blocking(Duration::from_secs(2))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait RuntimeFactory: Send + 'static {
    /// Builds the runtime, drives it until `main` ends, and drops it.
    ///
    /// # Errors
    ///
    /// [`StartError::Runtime`], usually: the runtime could not be built.
    fn run(self, main: Main) -> Result<(), StartError>;
}
