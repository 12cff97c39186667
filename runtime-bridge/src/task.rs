//! The handle of a spawned job: await, cancel, detach; what dropping it does; how a panic is reported.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{answer::Answer, error::JobError};

/// A running job's handle, and a future of the job's value.
///
/// Dropping it cancels the job at the job's next await; [`detach`](Self::detach) is the way to let go without
/// that. It behaves the same on every backend (clauses R2 to R6 of [`Runtime`](crate::Runtime)).
///
/// # Cancel safety
///
/// Awaiting `&mut handle` is cancel safe. Dropping the handle itself cancels the job.
#[must_use = "dropping the handle cancels the job; detach it to let it run on"]
pub struct JobHandle<T> {
    /// The worker settles it. None once detached.
    answer: Option<Arc<Answer<T>>>,
}

impl<T> JobHandle<T> {
    pub(crate) fn new(answer: Arc<Answer<T>>) -> Self {
        Self { answer: Some(answer) }
    }

    /// Cancels the job: its future is dropped at its next await. Awaiting the handle then gives
    /// [`JobError::Cancelled`], or the job's value if it had finished already.
    pub fn cancel(&self) {
        if let Some(answer) = &self.answer {
            answer.cancel();
        }
    }

    /// Whether the job has ended or was cancelled.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| !answer.is_open())
    }

    /// Lets the job run to its end with nobody waiting for it. Its value is dropped there; a panic is counted
    /// by the executor thread and goes no further.
    pub fn detach(mut self) {
        if let Some(answer) = self.answer.take() {
            answer.detach();
        }
    }
}

impl<T> Future for JobHandle<T> {
    type Output = Result<T, JobError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.answer {
            Some(answer) => answer.poll_outcome(cx).map_err(JobError::from),
            None => Poll::Ready(Err(JobError::Cancelled)),
        }
    }
}

impl<T> Drop for JobHandle<T> {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            drop(answer.abandon());
        }
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
