//! One call: its options, its admission, the hop or the inline run, the caller's side of its answer.

use std::{
    future::{Future, IntoFuture, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::future::{Either, select};

use crate::{
    answer::{Answer, Failure, Stop},
    block::block_on,
    context::in_tokio_context,
    error::CallError,
    intake::{Intake, Pushed, Submission},
    runtime::Sleep,
    shared::{Kind, Registration, Shared},
    work::{Ending, Work, panic_message},
};

/// How long past its deadline a blocking caller waits for the executor to say so: many times the latency of its
/// timer (a millisecond) on a loaded machine.
const STUCK_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    deadline: Option<Instant>,
    refuse_when_full: bool,
}

/// A call that has not been made yet: set its options, then await it, or [`block`](Self::blocking) on it.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "runtime-tokio")] {
/// # use std::time::Duration;
/// # use runtime_bridge::{Backend, CallError, ExecutorThread, ThreadConfig};
/// # let thread = ExecutorThread::start(Backend::Tokio, ThreadConfig::default())?;
/// let bridge = thread.bridge();
/// let never = std::future::pending::<()>();
/// let answer = bridge.call(never).deadline(Duration::from_millis(10)).refuse_when_full().blocking();
/// assert_eq!(answer, Err(CallError::DeadlineExceeded));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Call<F> {
    shared: Arc<Shared>,
    future: F,
    options: Options,
}

impl<F> Call<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    pub(crate) fn new(shared: Arc<Shared>, future: F) -> Self {
        Self { shared, future, options: Options::default() }
    }

    /// Stops the work when `after` has passed from now, waiting for admission included.
    ///
    /// The executor's own timer watches it: something that blocks the executor thread delays it.
    pub fn deadline(self, after: Duration) -> Self {
        // A deadline beyond the clock's range can never pass.
        let deadline = Instant::now().checked_add(after);
        Self { options: Options { deadline, ..self.options }, ..self }
    }

    /// Stops the work at `deadline`.
    pub fn deadline_at(self, deadline: Instant) -> Self {
        Self { options: Options { deadline: Some(deadline), ..self.options }, ..self }
    }

    /// Answers [`CallError::Overloaded`] instead of waiting when as many calls as may be are in flight.
    pub fn refuse_when_full(self) -> Self {
        Self { options: Options { refuse_when_full: true, ..self.options }, ..self }
    }

    /// Makes the call and blocks this thread until the value is there. A deadline is kept even if the executor
    /// thread is stuck, then some 50 ms late.
    ///
    /// # Errors
    ///
    /// [`CallError`]; and [`CallError::OnExecutorThread`] on the executor thread itself, which would wait for
    /// itself for ever.
    pub fn blocking(self) -> Result<F::Output, CallError> {
        if self.shared.is_current() {
            return Err(CallError::OnExecutorThread);
        }
        // The executor answers by its own timer, unless it is stuck.
        let deadline = self.options.deadline.and_then(|deadline| deadline.checked_add(STUCK_AFTER));
        block_on(run(&self.shared, self.future, self.options), deadline).unwrap_or_else(|| {
            self.shared.tally.ended(Kind::Call, Ending::Expired, None);
            Err(CallError::DeadlineExceeded)
        })
    }
}

impl<F> IntoFuture for Call<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = Result<F::Output, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { run(&self.shared, self.future, self.options).await })
    }
}

pub(crate) async fn run<F>(shared: &Arc<Shared>, future: F, options: Options) -> Result<F::Output, CallError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if shared.is_current() {
        if shared.is_refusing() {
            return Err(shared.intake.refusal().unwrap_or(Failure::ShutDown).into());
        }
        shared.tally.inline();
        return match shared.helper() {
            None => run_inline(shared, future, options).await,
            Some(_) => run_registered(shared, future, options).await,
        };
    }
    let answer = Arc::new(Answer::new());
    let reply = Reply::new(&answer);
    let stop: Arc<dyn Stop> = Arc::<Answer<F::Output>>::clone(&answer);
    let work = Box::pin(Work::new(future, answer, sleep(shared, options)));
    submit(shared, Submission { work, stop }, options).await?;
    reply.await.map_err(CallError::from)
}

fn sleep(shared: &Shared, options: Options) -> Option<Sleep> {
    Some(shared.runtime()?.sleep_until(options.deadline?))
}

/// Hands the call in, waiting for its turn if it must.
async fn submit(shared: &Arc<Shared>, call: Submission, options: Options) -> Result<(), CallError> {
    let full = match shared.intake.push(call, false) {
        Pushed::Full(call) if !options.refuse_when_full => call,
        Pushed::Full(_) => {
            shared.tally.overloaded();
            return Err(CallError::Overloaded { in_flight_max: shared.intake.in_flight_max() });
        }
        other => return finish(shared, other),
    };
    // Boxed: few calls wait, and the future of all of them must not be larger for that.
    Box::pin(wait_for_slot(shared, options)).await?;
    finish(shared, shared.intake.push(full, true))
}

fn finish(shared: &Arc<Shared>, pushed: Pushed) -> Result<(), CallError> {
    match pushed {
        Pushed::Queued => Ok(()),
        Pushed::Wake(buffers) => {
            shared.wake_driver(buffers);
            Ok(())
        }
        Pushed::Full(_) => Err(CallError::Overloaded { in_flight_max: shared.intake.in_flight_max() }),
        Pushed::Refused(failure) => Err(failure.into()),
    }
}

async fn wait_for_slot(shared: &Arc<Shared>, options: Options) -> Result<(), CallError> {
    let (ticket, answer) = shared.intake.wait_for_slot();
    let waiting = Waiting { intake: &shared.intake, ticket, answer };
    let slot = pin!(poll_fn(|cx| waiting.answer.poll_outcome(cx)));
    let outcome = match sleep(shared, options) {
        None => slot.await,
        Some(sleep) => match select(slot, sleep).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => {
                shared.tally.ended(Kind::Call, Ending::Expired, None);
                Err(Failure::DeadlineExceeded)
            }
        },
    };
    outcome.map_err(CallError::from)
}

/// A place among those who wait for a slot, given up when dropped.
struct Waiting<'a> {
    intake: &'a Intake,
    ticket: u64,
    /// Settled by whoever passes a slot on.
    answer: Arc<Answer<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.intake.leave(self.ticket, &self.answer);
    }
}

/// The caller's side of a call in flight. Dropping it cancels the work.
struct Reply<T> {
    /// None once the outcome has been taken: nothing is left to cancel.
    answer: Option<Arc<Answer<T>>>,
}

impl<T> Reply<T> {
    fn new(answer: &Arc<Answer<T>>) -> Self {
        Self { answer: Some(Arc::clone(answer)) }
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = &self.answer else {
            return Poll::Ready(Err(Failure::Cancelled));
        };
        let outcome = ready!(answer.poll_outcome(cx));
        self.answer = None;
        Poll::Ready(outcome)
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            drop(answer.abandon());
        }
    }
}

/// Runs the call in place. What awaits it runs on the executor's own runtime and ends with that, so the call need not
/// be on the register. Its panic is caught and its deadline is watched.
async fn run_inline<F: Future>(shared: &Shared, future: F, options: Options) -> Result<F::Output, CallError> {
    let mut future = pin!(future);
    let mut sleep = sleep(shared, options);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let (error, ending) = match polled {
            Ok(Poll::Ready(value)) => return Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => {
                match &mut sleep {
                    Some(sleep) => ready!(Pin::new(sleep).poll(cx)),
                    None => return Poll::Pending,
                }
                (CallError::DeadlineExceeded, Ending::Expired)
            }
            Err(payload) => (CallError::Panicked { message: panic_message(payload.as_ref()) }, Ending::Panicked),
        };
        shared.tally.ended(Kind::Call, ending, None);
        Poll::Ready(Err(error))
    })
    .await
}

/// Runs the call in place on a thread that runs futures of others too (async-std's). It enters the helper's context,
/// and it is on the register, because what awaits it may outlive the executor thread.
async fn run_registered<F>(shared: &Arc<Shared>, future: F, options: Options) -> Result<F::Output, CallError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let answer = Arc::new(Answer::new());
    let reply = Reply::new(&answer);
    let key = shared.intake.register(Arc::<Answer<F::Output>>::clone(&answer))?;
    let registration = Registration::new(Arc::clone(shared), key, Kind::Inline, None);
    let work = Work::new(future, answer, sleep(shared, options));
    let ending = match shared.helper() {
        Some(helper) => in_tokio_context(helper, work).await,
        None => work.await,
    };
    registration.end(ending);
    reply.await.map_err(CallError::from)
}
