//! `Bridge` and its `run`: a future goes to the executor thread, its value comes back.

use std::{future::Future, sync::Arc};

use crate::{
    call::{Call, Options, run},
    counters::Counters,
    error::{CallError, NotOnExecutorThread},
    local::local_future,
    shared::Shared,
};

/// A handle for calls onto an executor thread, from any runtime or none.
///
/// Cheap to clone. It does not keep the thread alive: calls after its end are refused.
///
/// # Contract
///
/// The same on every runtime of the executor thread and from every caller's runtime. The names of the tests in the
/// conformance suite begin with a clause's number.
///
/// - **C1** The future runs on the executor thread and nowhere else; its value is moved to the caller.
/// - **C2** On the executor thread itself the future runs inline, without a hop. So a call may call back.
/// - **C3** Dropping the call drops the future over there at its next await. If it has not begun, it never runs.
/// - **C4** A panic is [`CallError::Panicked`] for the caller, with its message; the executor goes on.
/// - **C5** A deadline stops the work, or keeps it from beginning. It also ends the wait for admission (C6).
/// - **C6** The configuration bounds the calls in flight. The next one waits, first come first served, or is
///   answered [`CallError::Overloaded`] if it asked for that. Inline calls do not count.
/// - **C7** From the beginning of a shutdown, calls are refused with [`CallError::ShutDown`]; what still runs on the
///   thread may make inline ones until it is cut off. Calls in flight end with the same error when they are cut
///   off, even if their work is stuck. No call waits for ever.
/// - **C8** The tracing span of the caller is current whenever the future is polled or dropped.
/// - **C9** [`run_blocking`](Self::run_blocking) does the same for code that is not async. It refuses to block the
///   executor thread.
/// - **C10** The future is polled and dropped inside a tokio context.
/// - **C11** What happens is counted ([`counters`](Self::counters)). A count may follow the answer by a moment.
/// - **C12** [`run_local`](Self::run_local) makes its future on the executor thread, which is the only one that the
///   future is ever on. All clauses above hold for it.
#[derive(Debug, Clone)]
pub struct Bridge {
    shared: Arc<Shared>,
}

impl Bridge {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs `future` on the executor thread and gives its value.
    ///
    /// On the executor thread itself the future runs inline, without a hop. When as many calls as may be are in
    /// flight, it waits for its turn.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "runtime-tokio")] {
    /// # use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
    /// let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
    /// let bridge = thread.bridge();
    /// let sum = futures::executor::block_on(bridge.run(async { 40 + 2 }))?;
    /// assert_eq!(sum, 42);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError`]: the future panicked, or the executor thread has ended or ends before the future does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future cancels the work: `future` is dropped over there at its next await, or never
    /// runs if it has not started.
    pub async fn run<F>(&self, future: F) -> Result<F::Output, CallError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        run(&self.shared, future, Options::default()).await
    }

    /// [`run`](Self::run), by the name that it has in programs whose executor thread is their peer-to-peer side.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    // Not an `async fn`: it would be a second future around the first.
    pub fn run_in_p2p<F>(&self, future: F) -> impl Future<Output = Result<F::Output, CallError>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.run(future)
    }

    /// Like [`run`](Self::run) for a future that is not `Send`: `make` goes to the executor thread and makes the
    /// future there, where it is polled and dropped. Only its value comes back.
    ///
    /// It is [`run`](Self::run) of a [`local_future`], which serves calls with options and spawning, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "runtime-tokio")] {
    /// # use std::rc::Rc;
    /// # use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};
    /// let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
    /// let bridge = thread.bridge();
    /// let local = bridge.run_local(|| async {
    ///     let shared = Rc::new(42);
    ///     tokio::task::yield_now().await;
    ///     *shared
    /// });
    /// assert_eq!(futures::executor::block_on(local)?, 42);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run). A panic of `make` is one of the work.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub fn run_local<M, F>(&self, make: M) -> impl Future<Output = Result<F::Output, CallError>>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        self.run(local_future(make))
    }

    /// Like [`run`](Self::run) for code that is not async: blocks this thread until the value is there.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and [`CallError::OnExecutorThread`] on the executor thread itself, which would wait
    /// for itself for ever.
    pub fn run_blocking<F>(&self, future: F) -> Result<F::Output, CallError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.call(future).blocking()
    }

    /// [`run_blocking`](Self::run_blocking), by the name that goes with [`run_in_p2p`](Self::run_in_p2p).
    ///
    /// # Errors
    ///
    /// As [`run_blocking`](Self::run_blocking).
    pub fn run_in_p2p_blocking<F>(&self, future: F) -> Result<F::Output, CallError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.run_blocking(future)
    }

    /// A call with options: a deadline, or not to wait when there is no room. Await it to run it.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run): dropping it, or the future that it turns into, cancels the work.
    pub fn call<F>(&self, future: F) -> Call<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Call::new(Arc::clone(&self.shared), future)
    }

    /// What the executor thread has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// How many calls may be in flight at once.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.shared.intake.in_flight_max()
    }

    /// Whether the current thread is the executor thread of this bridge.
    #[must_use]
    pub fn is_p2p_context(&self) -> bool {
        self.shared.is_current()
    }

    /// Refuses to go on anywhere but on the executor thread.
    ///
    /// # Errors
    ///
    /// [`NotOnExecutorThread`] when the current thread is another.
    pub fn require_p2p(&self) -> Result<(), NotOnExecutorThread> {
        if self.is_p2p_context() { Ok(()) } else { Err(NotOnExecutorThread) }
    }
}
