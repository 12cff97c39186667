//! The `Runtime` trait and its numbered contract.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    answer::{Answer, Stop},
    driver::Driver,
    shared::Registration,
    spawned::Spawned,
    work::{BoxWork, Work},
};

/// An async runtime, as far as this crate needs one: it spawns futures, waits until an instant, and tells the time.
///
/// It is always passed as an argument (`Arc<dyn Runtime>`), never detected from the surroundings. Sockets are not
/// part of it: code that needs one chooses its kind itself.
///
/// # Contract
///
/// Every implementation keeps these clauses. The conformance suite has tests for each; their names begin with its
/// number.
///
/// - **R1** A spawned future runs on the runtime's own threads, never on the spawning thread (unless that is one of
///   them), and makes progress even if nobody awaits its handle.
/// - **R2** Awaiting the handle gives the future's value, from any runtime or none.
/// - **R3** Dropping the handle cancels the spawned future: it is dropped at its next await, on the runtime's
///   thread; if it has not started, it never runs. [`Spawned::detach`] lets it run on instead.
/// - **R4** [`Spawned::cancel`] cancels it, and the handle answers
///   [`Cancelled`](crate::SpawnedError::Cancelled) at once.
/// - **R5** A panic in it reaches the handle as [`Panicked`](crate::SpawnedError::Panicked) with the message. The
///   runtime and everything else on it go on.
/// - **R6** When the end of the runtime cuts it off, its handle answers
///   [`ShutDown`](crate::SpawnedError::ShutDown). So does the handle of what is spawned afterwards. No handle waits
///   for ever.
/// - **R7** It is polled and dropped inside a tokio context, so that code which assumes tokio works in it.
/// - **R8** `sleep_until` completes at its instant or later, never earlier; if the instant has passed, at the first
///   poll. It may be polled on any thread. A sleep that outlives its runtime completes at its next poll.
/// - **R9** `now` never goes backwards, and it is the clock of `sleep_until`.
/// - **R10** The spawner's tracing span is current whenever the spawned future is polled or dropped.
///
/// # Implementing it
///
/// Implementations outside this crate are welcome. All that the contract says about handles, panics and spans is
/// done inside [`SpawnedFuture`]. An implementation polls it where R1 and R7 say, drops it at the latest when the
/// runtime ends, and has a clock.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Spawns a future. Callers use [`RuntimeExt::spawn`], which gives a handle.
    fn spawn_future(&self, future: SpawnedFuture);

    /// A future that completes once `deadline` has come.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping it forgets the timer.
    fn sleep_until(&self, deadline: Instant) -> Sleep;

    /// The current time of this runtime's clock.
    fn now(&self) -> Instant;
}

/// Typed spawning on any [`Runtime`].
pub trait RuntimeExt: Runtime {
    /// Spawns `future` and gives its handle. Dropping the handle cancels the future.
    fn spawn<F>(&self, future: F) -> Spawned<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let answer = Arc::new(Answer::new());
        let work = Box::pin(Work::new(future, Arc::clone(&answer), None));
        let stop: Arc<dyn Stop> = Arc::<Answer<F::Output>>::clone(&answer);
        self.spawn_future(SpawnedFuture { kind: SpawnedKind::Work { work, stop: Some(stop), registration: None } });
        Spawned::new(answer)
    }
}

impl<R: Runtime + ?Sized> RuntimeExt for R {}

/// What a [`Runtime`] has to poll: a future that reports to its handle, [`Spawned`], by itself.
#[must_use = "futures do nothing unless polled"]
pub struct SpawnedFuture {
    kind: SpawnedKind,
}

enum SpawnedKind {
    Work {
        // Declared before the registration: the work is gone when the executor thread hears of its end.
        work: BoxWork,
        /// Ends the wait of the handle. None for a call, which is on the register already.
        stop: Option<Arc<dyn Stop>>,
        /// Tells the executor thread that the work has ended; none on a bare runtime.
        registration: Option<Registration>,
    },
    /// Held as it is, not boxed: starting it is part of every call that finds its executor idle.
    Driver(Driver),
}

impl SpawnedFuture {
    pub(crate) fn call(work: BoxWork, registration: Registration) -> Self {
        Self { kind: SpawnedKind::Work { work, stop: None, registration: Some(registration) } }
    }

    pub(crate) fn driver(driver: Driver) -> Self {
        Self { kind: SpawnedKind::Driver(driver) }
    }

    /// What has to be on the register while the future lives.
    pub(crate) fn stop(&self) -> Option<Arc<dyn Stop>> {
        match &self.kind {
            SpawnedKind::Work { stop, .. } => stop.clone(),
            SpawnedKind::Driver(_) => None,
        }
    }

    pub(crate) fn register(&mut self, new: Registration) {
        if let SpawnedKind::Work { registration, .. } = &mut self.kind {
            *registration = Some(new);
        }
    }
}

impl Future for SpawnedFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.kind {
            SpawnedKind::Driver(driver) => Pin::new(driver).poll(cx),
            SpawnedKind::Work { work, registration, .. } => {
                let ending = std::task::ready!(work.as_mut().poll(cx));
                if let Some(registration) = registration.take() {
                    registration.end(ending);
                }
                Poll::Ready(())
            }
        }
    }
}

impl fmt::Debug for SpawnedFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnedFuture").finish_non_exhaustive()
    }
}

/// The future of [`Runtime::sleep_until`].
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Sleep {
    /// Wraps a backend's timer.
    pub fn new(timer: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        Self(Box::pin(timer))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Tokio's timer panics when its runtime has gone, which a sleeper elsewhere cannot know.
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))).unwrap_or(Poll::Ready(()))
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}
