use std::{
    fmt,
    future::IntoFuture,
    marker::PhantomData,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, future::BoxFuture};
use taskqueue_api::{At, Json, OnParentFailure, Operation as _, PeerId, QueueError, Submit, Target};

use crate::{Job, Queue, Task};

/// A task on its way into a queue: [`Queue::submit`] makes it, awaiting it submits it.
///
/// Once it is answered, the task is on stable storage (unless the queue is in memory).
///
/// # Errors
///
/// A [`QueueError`]: `invalid_argument` or `limit_exceeded` for a setting or a payload that is out of bounds, `conflict`
/// for a key that was used for another task, `paused`, `overloaded`, `storage_full`, and what the way to a peer comes to.
///
/// # Cancel safety
///
/// Dropping the future gives the answer up; the task may be queued. A [`key`](Self::key) makes it safe to submit it again.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use p2p_taskqueue::{Queue, Task};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Mail { to: String }
/// # impl Task for Mail { const TYPE: &str = "mail"; type Output = (); }
/// # futures::executor::block_on(async {
/// # let queue = Queue::in_memory().await?;
/// let mail = Mail { to: "someone@example.org".to_owned() };
/// let job = queue.submit(mail).delay(Duration::from_secs(60)).max_attempts(10).key("welcome-17").await?;
/// assert!(!job.is_duplicate());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a task is submitted when this is awaited"]
pub struct Submission<T> {
    queue: Queue,
    /// The error of a payload that is no JSON; it is answered when the submission is awaited.
    submit: Result<Submit, QueueError>,
    target: Target,
    task: PhantomData<fn() -> T>,
}

impl<T: Task> Submission<T> {
    pub(crate) fn new(queue: Queue, task: &T) -> Self {
        let payload = Json::from_value(task).map_err(|error| QueueError::not_json("payload", &error));
        let submit = payload.map(|payload| Submit::new(T::TYPE, payload));
        Self { queue, submit, target: Target::default(), task: PhantomData }
    }

    fn with(mut self, set: impl FnOnce(&mut Submit)) -> Self {
        if let Ok(submit) = &mut self.submit {
            set(submit);
        }
        self
    }

    /// 1 to 10, 10 first; 5 unless it is set.
    pub fn priority(self, priority: u8) -> Self {
        self.with(|submit| submit.priority = priority)
    }

    /// No worker gets it before so much time has passed; up to ten years. Not together with [`not_before`](Self::not_before).
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|submit| submit.delay_s = Some(delay.as_secs_f64()))
    }

    /// No worker gets it before this moment, by the owner's clock.
    pub fn not_before(self, moment: SystemTime) -> Self {
        let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.with(|submit| submit.not_before = Some(since_epoch.as_secs_f64()))
    }

    /// When it has not ended so long after it was accepted, it fails, also while it runs.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|submit| submit.deadline_s = Some(deadline.as_secs_f64()))
    }

    /// How often it may be tried; 0 is without limit. 3 unless it is set, 1,000 at the most.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(|submit| submit.max_attempts = attempts)
    }

    /// The pause before the second attempt, up to five minutes; it doubles with each, with 20 % of jitter. A second unless
    /// it is set.
    pub fn backoff(self, first: Duration) -> Self {
        self.with(|submit| submit.backoff_s = first.as_secs_f64())
    }

    /// An idempotency key, up to 256 bytes: a second submit with the same key and content is answered with the first one's
    /// job.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|submit| submit.idempotency_key = Some(key.into()))
    }

    /// How long the key is remembered; a day unless it is set.
    pub fn remember_key(self, window: Duration) -> Self {
        self.with(|submit| submit.idempotency_window_s = window.as_secs_f64())
    }

    /// Marks it, for lists. Up to 32 labels.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.with(|submit| submit.labels.push(label.into()))
    }

    /// Only workers with this label get it. Up to 32 labels.
    pub fn requires(self, label: impl Into<String>) -> Self {
        self.with(|submit| submit.requires.push(label.into()))
    }

    /// Only workers of this peer get it. The task stays where it is submitted; see [`on`](Self::on).
    pub fn pin_to(self, peer: PeerId) -> Self {
        self.with(|submit| submit.pin_to = Some(peer))
    }

    /// It comes after that job has completed, which must be a job of the same node. Up to 128 jobs. When one of them fails
    /// or is called off, it fails.
    pub fn after<U: Task>(self, job: &Job<U>) -> Self {
        self.with(|submit| submit.after.push(job.id()))
    }

    /// Runs also when a job that it comes [`after`](Self::after) fails or is called off.
    pub fn run_anyway(self) -> Self {
        self.with(|submit| submit.on_parent_failure = OnParentFailure::Run)
    }

    /// Only workers of the same session get it.
    pub fn session(self, session: impl Into<String>) -> Self {
        self.with(|submit| submit.session = Some(session.into()))
    }

    /// Of the tasks with the same key only so many run at once as the key's limit allows: one unless a `limit` says more.
    pub fn concurrency_key(self, key: impl Into<String>) -> Self {
        self.with(|submit| submit.concurrency_key = Some(key.into()))
    }

    /// Which model it asks for, for workers that have several.
    pub fn model(self, name: impl Into<String>) -> Self {
        self.with(|submit| submit.model_name = name.into())
    }

    /// How long the result is kept after the end: a day unless it is set, a minute at the least, ten years at the most.
    pub fn keep_result(self, time: Duration) -> Self {
        self.with(|submit| submit.result_ttl_s = time.as_secs_f64())
    }

    /// Submits it at a peer, which then keeps it: by its id, or by an address that ends with its id. This node remembers
    /// where it is.
    pub fn on(self, peer: impl Into<Target>) -> Self {
        Self { target: peer.into(), ..self }
    }

    async fn send(self) -> Result<Job<T>, QueueError> {
        let request = At::request(self.target, self.submit?.into_request());
        let response = self.queue.raw().call(&taskqueue_api::Caller::Local, request).await?;
        let submitted = Submit::answer(response)?;
        Ok(Job::new(self.queue, submitted.task_id, submitted.duplicate))
    }
}

impl<T: Task> IntoFuture for Submission<T> {
    type Output = Result<Job<T>, QueueError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

impl<T> fmt::Debug for Submission<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").field("submit", &self.submit).field("target", &self.target).finish_non_exhaustive()
    }
}
