use std::{
    fmt,
    future::IntoFuture,
    marker::PhantomData,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, future::BoxFuture};
use taskqueue_api::{At, Json, OnParentFailure, Operation as _, PeerId, QueueError, Submit, Target};

use crate::{Job, Queue, Task};

/// A task that is about to be submitted. [`Queue::submit`] makes it, and awaiting it submits the task.
///
/// When the future completes without an error, the task is on stable storage, unless the queue is in memory.
///
/// # Errors
///
/// A [`QueueError`]: `invalid_argument` or `limit_exceeded` for a setting or a payload that is out of bounds,
/// `conflict` for a key that was used for another task, `paused`, `overloaded`, `storage_full`, and the errors of
/// asking a peer, such as `unreachable`.
///
/// # Cancel safety
///
/// When the future is dropped, the task may have been queued. With a [`key`](Self::key) it is safe to submit it again.
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
    /// The task, or the error of a payload that cannot be written as JSON. The error is returned when the submission is
    /// awaited.
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

    /// Sets the priority, from 1 to 10. Tasks of priority 10 come first. The default is 5.
    pub fn priority(self, priority: u8) -> Self {
        self.with(|submit| submit.priority = priority)
    }

    /// Holds the task back from workers for this time, up to ten years. It cannot be combined with
    /// [`not_before`](Self::not_before).
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|submit| submit.delay_s = Some(delay.as_secs_f64()))
    }

    /// Holds the task back from workers until this moment, by the owner's clock.
    pub fn not_before(self, moment: SystemTime) -> Self {
        let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.with(|submit| submit.not_before = Some(since_epoch.as_secs_f64()))
    }

    /// Sets the time after which the task fails unless it has ended, counted from when it was accepted. It fails even
    /// while it runs.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|submit| submit.deadline_s = Some(deadline.as_secs_f64()))
    }

    /// Sets the most attempts, up to 1,000; 0 means without limit. The default is 3.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(|submit| submit.max_attempts = attempts)
    }

    /// Sets the pause before the second attempt, up to five minutes. The pause doubles with each further attempt, with
    /// 20 % of jitter. The default is one second.
    pub fn backoff(self, first: Duration) -> Self {
        self.with(|submit| submit.backoff_s = first.as_secs_f64())
    }

    /// Sets an idempotency key of up to 256 bytes. A second submit with the same key and content returns the job of the
    /// first one.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|submit| submit.idempotency_key = Some(key.into()))
    }

    /// Sets how long the key is remembered. The default is a day.
    pub fn remember_key(self, window: Duration) -> Self {
        self.with(|submit| submit.idempotency_window_s = window.as_secs_f64())
    }

    /// Adds a label for listing. A task may have up to 32.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.with(|submit| submit.labels.push(label.into()))
    }

    /// Adds a label that a worker must have to get the task. A task may require up to 32.
    pub fn requires(self, label: impl Into<String>) -> Self {
        self.with(|submit| submit.requires.push(label.into()))
    }

    /// Leaves the task to workers of this peer. The owner does not change; for that see [`on`](Self::on).
    pub fn pin_to(self, peer: PeerId) -> Self {
        self.with(|submit| submit.pin_to = Some(peer))
    }

    /// Holds the task back until that job has completed. A task may come after up to 128 jobs, all with the same owner
    /// as the task. When one of them fails or is called off, the task fails.
    pub fn after<U: Task>(self, job: &Job<U>) -> Self {
        self.with(|submit| submit.after.push(job.id()))
    }

    /// Runs the task even when a job that it comes [`after`](Self::after) fails or is called off.
    pub fn run_anyway(self) -> Self {
        self.with(|submit| submit.on_parent_failure = OnParentFailure::Run)
    }

    /// Leaves the task to workers of this session.
    pub fn session(self, session: impl Into<String>) -> Self {
        self.with(|submit| submit.session = Some(session.into()))
    }

    /// Sets a concurrency key. Of the tasks with the same key, only one runs at a time, or as many as the operation
    /// `limit` has set.
    pub fn concurrency_key(self, key: impl Into<String>) -> Self {
        self.with(|submit| submit.concurrency_key = Some(key.into()))
    }

    /// Sets the model that the task asks for, for workers that have several.
    pub fn model(self, name: impl Into<String>) -> Self {
        self.with(|submit| submit.model_name = name.into())
    }

    /// Sets how long the result is kept after the end, from a minute to ten years. The default is a day.
    pub fn keep_result(self, time: Duration) -> Self {
        self.with(|submit| submit.result_ttl_s = time.as_secs_f64())
    }

    /// Submits the task to a peer, which then owns it. The peer is given by its id, or by an address that ends with its
    /// id. This node remembers which peer has the task.
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
