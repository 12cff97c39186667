//! `Bridge` and `run_in_p2p`: a future goes to the executor thread, its value comes back.

use std::{
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::{Either, select};

use crate::{
    answer::{Answer, Failure, Stop},
    context::in_tokio_context,
    counters::Counters,
    error::{CallError, NotOnExecutorThread},
    registry::Core,
    work::{Ending, Work},
};

/// A handle for calls onto an executor thread, from any runtime or none.
///
/// Cheap to clone. It does not keep the thread alive: calls after its end are refused.
#[derive(Debug, Clone)]
pub struct Bridge {
    core: Arc<Core>,
}

impl Bridge {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Runs `future` on the executor thread and gives its value.
    ///
    /// On the executor thread itself the future runs inline, without a hop. When as many calls as may be are in
    /// flight, it waits for its turn.
    ///
    /// # Errors
    ///
    /// [`CallError`]: the future panicked, or the executor thread has ended or ends before the future does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future cancels the work: `future` is dropped over there at its next await, or never
    /// runs if it has not started.
    pub async fn run_in_p2p<F>(&self, future: F) -> Result<F::Output, CallError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        run(&self.core, future, Options::default()).await
    }

    /// Like [`run_in_p2p`](Self::run_in_p2p) for code that is not async: blocks this thread until the value is
    /// there.
    ///
    /// # Errors
    ///
    /// As [`run_in_p2p`](Self::run_in_p2p), and [`CallError::OnExecutorThread`] on the executor thread itself,
    /// which would wait for itself for ever.
    pub fn run_in_p2p_blocking<F>(&self, future: F) -> Result<F::Output, CallError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.call(future).blocking()
    }

    /// A call with options: a deadline, or not to wait when there is no room. Await it to run it.
    pub fn call<F>(&self, future: F) -> Call<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Call {
            core: Arc::clone(&self.core),
            future,
            options: Options::default(),
        }
    }

    /// What the executor thread has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.core.counters()
    }

    /// Whether the current thread is the executor's.
    #[must_use]
    pub fn is_p2p_context(&self) -> bool {
        self.core.is_current()
    }

    /// Refuses to go on anywhere but on the executor thread.
    ///
    /// # Errors
    ///
    /// [`NotOnExecutorThread`] when the current thread is another.
    pub fn require_p2p(&self) -> Result<(), NotOnExecutorThread> {
        if self.is_p2p_context() {
            Ok(())
        } else {
            Err(NotOnExecutorThread)
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Options {
    deadline: Option<Instant>,
    refuse_when_full: bool,
}

/// A call that has not been made yet: set its options, then await it, or [`block`](Self::blocking) on it.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Call<F> {
    core: Arc<Core>,
    future: F,
    options: Options,
}

impl<F> Call<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    /// Stops the work when `after` has passed from now, waiting for admission included.
    ///
    /// The executor's own timer watches it: something that blocks the executor thread delays it.
    pub fn deadline(self, after: Duration) -> Self {
        let deadline = Instant::now().checked_add(after);
        Self {
            options: Options {
                deadline,
                ..self.options
            },
            ..self
        }
    }

    /// Stops the work at `deadline`.
    pub fn deadline_at(self, deadline: Instant) -> Self {
        Self {
            options: Options {
                deadline: Some(deadline),
                ..self.options
            },
            ..self
        }
    }

    /// Answers [`CallError::Overloaded`] instead of waiting when as many calls as may be are in flight.
    pub fn refuse_when_full(self) -> Self {
        Self {
            options: Options {
                refuse_when_full: true,
                ..self.options
            },
            ..self
        }
    }

    /// Makes the call and blocks this thread until the value is there.
    ///
    /// # Errors
    ///
    /// [`CallError`], and [`CallError::OnExecutorThread`] on the executor thread itself.
    pub fn blocking(self) -> Result<F::Output, CallError> {
        if self.core.is_current() {
            return Err(CallError::OnExecutorThread);
        }
        futures::executor::block_on(run(&self.core, self.future, self.options))
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
        Box::pin(async move { run(&self.core, self.future, self.options).await })
    }
}

async fn run<F>(core: &Arc<Core>, future: F, options: Options) -> Result<F::Output, CallError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if core.is_current() {
        return run_inline(core, future, options).await;
    }
    admit(core, options).await?;
    submit(core, future, options)?
        .await
        .map_err(CallError::from)
}

async fn run_inline<F: Future>(
    core: &Core,
    future: F,
    options: Options,
) -> Result<F::Output, CallError> {
    if let Some(refusal) = core.intake.refusal() {
        return Err(refusal.into());
    }
    core.tally.inline.fetch_add(1, Ordering::Relaxed);
    let answer = Arc::new(Answer::new());
    let sleep = options
        .deadline
        .and_then(|at| core.runtime().map(|runtime| runtime.sleep_until(at)));
    let work = Work::new(future, Arc::clone(&answer), sleep);
    let ending = match core.helper() {
        Some(helper) => in_tokio_context(helper, work).await,
        None => work.await,
    };
    core.tally.ended(crate::registry::Kind::Call, ending);
    std::future::poll_fn(|cx| answer.poll_outcome(cx))
        .await
        .map_err(CallError::from)
}

/// Takes a permit, which the work gives back when it ends.
async fn admit(core: &Core, options: Options) -> Result<(), CallError> {
    let refused = || CallError::from(core.intake.refusal().unwrap_or(Failure::ShutDown));
    match core.admission.try_acquire() {
        Ok(permit) => {
            permit.forget();
            return Ok(());
        }
        Err(tokio::sync::TryAcquireError::Closed) => return Err(refused()),
        Err(tokio::sync::TryAcquireError::NoPermits) if options.refuse_when_full => {
            core.tally.overloaded();
            return Err(CallError::Overloaded {
                in_flight_max: core.in_flight_max,
            });
        }
        Err(tokio::sync::TryAcquireError::NoPermits) => {}
    }
    let acquire = pin!(core.admission.acquire());
    let acquired = match (options.deadline, core.runtime()) {
        (Some(at), Some(runtime)) => match select(acquire, runtime.sleep_until(at)).await {
            Either::Left((acquired, _)) => acquired,
            Either::Right(_) => {
                core.tally
                    .ended(crate::registry::Kind::Call, Ending::Expired);
                return Err(CallError::DeadlineExceeded);
            }
        },
        _ => acquire.await,
    };
    acquired.map_err(|_closed| refused())?.forget();
    Ok(())
}

fn submit<F>(core: &Core, future: F, options: Options) -> Result<Reply<F::Output>, CallError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let answer = Arc::new(Answer::new());
    let sleep = options
        .deadline
        .and_then(|at| core.runtime().map(|runtime| runtime.sleep_until(at)));
    let work = Box::pin(Work::new(future, Arc::clone(&answer), sleep));
    let stop: Arc<dyn Stop> = Arc::<Answer<F::Output>>::clone(&answer);
    core.intake.push(work, stop)?;
    Ok(Reply { answer })
}

/// The caller's side of a call in flight. Dropping it cancels the work.
struct Reply<T> {
    answer: Arc<Answer<T>>,
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.poll_outcome(cx)
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.answer.abandon();
    }
}
