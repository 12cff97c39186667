use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    time::{Duration, Instant},
};

use serde::Serialize;
use taskqueue_api::{Answer, Cancel, FailedBy, Get, Json, QueueError, TaskId, TaskRecord, TaskStatus, Wait};

use crate::{JobError, Queue, Task};

/// A task that was submitted.
///
/// Dropping it changes nothing. The task goes on, and [`Queue::job`] finds it again by its id.
pub struct Job<T> {
    queue: Queue,
    id: TaskId,
    is_duplicate: bool,
    task: PhantomData<fn() -> T>,
}

impl<T: Task> Job<T> {
    pub(crate) const fn new(queue: Queue, id: TaskId, is_duplicate: bool) -> Self {
        Self { queue, id, is_duplicate, task: PhantomData }
    }

    /// Returns the task's id, by which it is found again.
    #[must_use]
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// Whether the task was made by an earlier submit with the same key.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        self.is_duplicate
    }

    /// Waits for the end of the task, however long it takes. It goes on waiting while the peer that keeps the task is
    /// away.
    ///
    /// # Errors
    ///
    /// [`JobError`]: the task failed or was called off, the result is of another type, or the queue cannot be asked and
    /// trying again does not help.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future ends the wait, not the task.
    pub async fn wait(&self) -> Result<T::Output, JobError> {
        loop {
            match self.poll_end(POLL_MAX).await {
                Ok(Some(record)) => return output::<T>(record),
                Ok(None) => {}
                Err(error) if self.is_worth_another_try(&error) => self.pause(&error, RETRY_AFTER).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the end of the task for at most `time`. Returns `None` when the task has not ended by then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). Also the queue's error when the queue still cannot be asked as the time ends.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_for(&self, time: Duration) -> Result<Option<T::Output>, JobError> {
        let started = self.now();
        loop {
            let left = time.saturating_sub(self.now().saturating_duration_since(started));
            match self.poll_end(left.min(POLL_MAX)).await {
                Ok(Some(record)) => return output::<T>(record).map(Some),
                Ok(None) if left <= POLL_MAX => return Ok(None),
                Ok(None) => {}
                Err(error) if left > RETRY_AFTER && self.is_worth_another_try(&error) => {
                    self.pause(&error, left).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the state of the task.
    ///
    /// # Errors
    ///
    /// `not_found` when there is no such task or its record was removed, and the errors of asking its owner, such as
    /// `unreachable`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn state(&self) -> Result<TaskStatus, QueueError> {
        Ok(self.record().await?.status)
    }

    /// Returns the task's record: its state, progress, attempts, times, worker and so on.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn record(&self) -> Result<TaskRecord, QueueError> {
        Ok(self.queue.ask(Get { task_id: self.id }).await?.task)
    }

    /// Calls off the task. Returns its state now.
    ///
    /// A queued task is cancelled at once. The worker of a running task is told to stop. If the task ends in another
    /// way before that, it keeps that end.
    ///
    /// # Errors
    ///
    /// `already_finished` when the task has ended in another way, and otherwise as [`state`](Self::state).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the task may have been called off.
    pub async fn cancel(&self) -> Result<TaskStatus, QueueError> {
        self.cancel_because("").await
    }

    /// Calls off the task as [`cancel`](Self::cancel) does, with a reason of up to 4 KiB for those who wait for it.
    ///
    /// # Errors
    ///
    /// As [`cancel`](Self::cancel).
    ///
    /// # Cancel safety
    ///
    /// As [`cancel`](Self::cancel).
    pub async fn cancel_because(&self, reason: impl Into<String>) -> Result<TaskStatus, QueueError> {
        Ok(self.queue.ask(Cancel { task_id: self.id, reason: reason.into() }).await?.status)
    }

    /// Returns the open questions of the task's worker, by key.
    ///
    /// # Errors
    ///
    /// As [`state`](Self::state).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn questions(&self) -> Result<BTreeMap<String, Json>, QueueError> {
        Ok(self.record().await?.input_requests)
    }

    /// Answers a question of the task's worker. Returns whether the question was open.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when the answer cannot be written as JSON, `already_finished` when the task has ended,
    /// `wrong_state` when no worker has the task, and otherwise as [`state`](Self::state).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the answer may have been given.
    pub async fn answer<A: Serialize + ?Sized>(&self, key: impl Into<String>, answer: &A) -> Result<bool, QueueError> {
        let answer = Json::from_value(answer).map_err(|error| QueueError::not_json("input_responses", &error));
        let input_responses = [(key.into(), answer?)].into();
        Ok(self.queue.ask(Answer { task_id: self.id, input_responses }).await?.accepted > 0)
    }

    /// The record, if the task ends within this time.
    async fn poll_end(&self, time: Duration) -> Result<Option<TaskRecord>, QueueError> {
        let waited = self.queue.ask(Wait::one(self.id, time.as_secs_f64())).await?;
        Ok(waited.task.filter(|_| waited.done))
    }

    /// Whether the error may pass. A peer may come back; a queue that was closed in this process does not.
    fn is_worth_another_try(&self, error: &QueueError) -> bool {
        error.retryable && !self.queue.is_closed()
    }

    async fn pause(&self, error: &QueueError, at_most: Duration) {
        tracing::debug!(task_id = %self.id, %error, "the wait is asked for again");
        let asked = error.retry_after_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let pause = asked.unwrap_or(RETRY_AFTER).min(at_most).min(RETRY_AFTER_MAX);
        self.queue.runtime().sleep_until(self.now() + pause).await;
    }

    fn now(&self) -> Instant {
        self.queue.runtime().now()
    }
}

fn output<T: Task>(record: TaskRecord) -> Result<T::Output, JobError> {
    match record.status {
        TaskStatus::Completed => record.result.unwrap_or_default().to().map_err(JobError::Output),
        TaskStatus::Cancelled => Err(JobError::Cancelled { reason: record.error.filter(|reason| !reason.is_empty()) }),
        // Only tasks that have ended come here, so the last two states do not occur.
        TaskStatus::Failed | TaskStatus::Queued | TaskStatus::Running => Err(JobError::Failed {
            error: record.error.unwrap_or_default(),
            by: record.failed_by.unwrap_or(FailedBy::Queue),
            attempts: record.attempt,
        }),
    }
}

impl<T> Clone for Job<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), id: self.id, is_duplicate: self.is_duplicate, task: PhantomData }
    }
}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The length of one long poll. It is far below the longest wait that a queue allows, and each costs only one small
/// message.
const POLL_MAX: Duration = Duration::from_secs(300);

/// The pause before another try, unless the error names one. A peer that is being restarted is back within seconds.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The longest pause before another try, and so the time between two messages to a peer that is away for long.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
