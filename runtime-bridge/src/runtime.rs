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
    registry::Registration,
    task::JobHandle,
    work::{BoxWork, Work},
};

/// An async runtime, as far as this project needs one: start a job, wait until an instant, tell the time.
///
/// Always passed as an argument (`Arc<dyn Runtime>`), never detected from the surroundings. Sockets are not part
/// of it: whoever needs one owns the choice of its kind.
///
/// # Contract
///
/// Every backend keeps these clauses; the conformance suite has a test for each, named after its number.
///
/// - **R1** A spawned job runs on the runtime's own threads, never on the spawning one (unless they are the
///   same), and makes progress without anybody awaiting its handle.
/// - **R2** Awaiting the handle gives the job's value, from any runtime or none.
/// - **R3** Dropping the handle cancels the job: its future is dropped at its next await, on the runtime's
///   thread; a job that has not started never runs. [`JobHandle::detach`] lets it run on instead.
/// - **R4** [`JobHandle::cancel`] cancels and answers [`Cancelled`](crate::JobError::Cancelled) at once.
/// - **R5** A panic in a job reaches its handle as [`Panicked`](crate::JobError::Panicked) with the message; the
///   runtime and its other jobs go on.
/// - **R6** A job that the runtime's end cuts off answers [`ShutDown`](crate::JobError::ShutDown), and so does
///   one that is spawned afterwards. No handle waits for ever.
/// - **R7** A job is polled and dropped inside a tokio context, so that code which assumes tokio works in it.
/// - **R8** `sleep_until` completes at its instant or later, never earlier, and an instant in the past at the
///   first poll; it may be polled on any thread. One that outlives its runtime completes at its next poll.
/// - **R9** `now` never goes backwards and is the clock of `sleep_until`.
/// - **R10** The spawner's tracing span is current whenever the job is polled or dropped.
///
/// # Implementing it
///
/// Implementations outside this crate are welcome: [`Job`] is a plain future, and everything that the contract
/// says about handles is done inside it. An implementation has to poll it, and to drop it at the latest when
/// it ends.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Starts a job. [`RuntimeExt::spawn`] is the typed way in.
    fn spawn_job(&self, job: Job);

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
    /// Starts `future` as a job and gives its handle. Dropping the handle cancels the job.
    fn spawn<F>(&self, future: F) -> JobHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let answer = Arc::new(Answer::new());
        let work = Box::pin(Work::new(future, Arc::clone(&answer), None));
        let stop: Arc<dyn Stop> = Arc::<Answer<F::Output>>::clone(&answer);
        self.spawn_job(Job { kind: JobKind::Work { work, stop: Some(stop), registration: None } });
        JobHandle::new(answer)
    }
}

impl<R: Runtime + ?Sized> RuntimeExt for R {}

/// A job on its way to a runtime: a future that reports to its [`JobHandle`] by itself.
#[must_use = "a job does nothing unless it is polled"]
pub struct Job {
    kind: JobKind,
}

enum JobKind {
    Work {
        // Declared before the registration: the work is gone when the executor thread hears of its end.
        work: BoxWork,
        /// Ends the wait of the job's handle. None for a call, which is on the register already.
        stop: Option<Arc<dyn Stop>>,
        /// Tells the executor thread that the job has ended; none on a bare runtime.
        registration: Option<Registration>,
    },
    /// Held as it is, not boxed: starting it is part of every call that finds its executor idle.
    Driver(Driver),
}

impl Job {
    pub(crate) fn call(work: BoxWork, registration: Registration) -> Self {
        Self { kind: JobKind::Work { work, stop: None, registration: Some(registration) } }
    }

    pub(crate) fn driver(driver: Driver) -> Self {
        Self { kind: JobKind::Driver(driver) }
    }

    /// What has to be on the register while the job lives.
    pub(crate) fn stop(&self) -> Option<Arc<dyn Stop>> {
        match &self.kind {
            JobKind::Work { stop, .. } => stop.clone(),
            JobKind::Driver(_) => None,
        }
    }

    pub(crate) fn register(&mut self, new: Registration) {
        if let JobKind::Work { registration, .. } = &mut self.kind {
            *registration = Some(new);
        }
    }
}

impl Future for Job {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.kind {
            JobKind::Driver(driver) => Pin::new(driver).poll(cx),
            JobKind::Work { work, registration, .. } => {
                let ending = std::task::ready!(work.as_mut().poll(cx));
                if let Some(registration) = registration.take() {
                    registration.end(ending);
                }
                Poll::Ready(())
            }
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
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
