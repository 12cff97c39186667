//! The handle of a spawned future: await, cancel, detach; what dropping it does; how a panic is reported.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{answer::Answer, error::SpawnedError};

/// The handle of a spawned future, and itself a future of that one's value.
///
/// Dropping it cancels the spawned future at its next await; [`detach`](Self::detach) lets go without that. It
/// behaves the same on every runtime (clauses R2 to R6 of [`Runtime`](crate::Runtime)).
///
/// # Cancel safety
///
/// Awaiting `&mut handle` is cancel safe. Dropping the handle itself cancels the spawned future.
#[must_use = "dropping the handle cancels the spawned future; detach it to let it run on"]
pub struct Spawned<T> {
    /// The worker settles it. None once detached.
    answer: Option<Arc<Answer<T>>>,
}

impl<T> Spawned<T> {
    pub(crate) fn new(answer: Arc<Answer<T>>) -> Self {
        Self { answer: Some(answer) }
    }

    /// Cancels the spawned future, which is dropped at its next await. Awaiting the handle then gives
    /// [`SpawnedError::Cancelled`], or the value if there was one already.
    pub fn cancel(&self) {
        if let Some(answer) = &self.answer {
            answer.cancel();
        }
    }

    /// Whether the spawned future has ended or was cancelled.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| !answer.is_open())
    }

    /// Lets the spawned future run to its end with nobody waiting for it. Its value is dropped there. If it panics,
    /// the executor thread counts that, and nobody else hears of it.
    pub fn detach(mut self) {
        if let Some(answer) = self.answer.take() {
            answer.detach();
        }
    }
}

impl<T> Future for Spawned<T> {
    type Output = Result<T, SpawnedError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.answer {
            Some(answer) => answer.poll_outcome(cx).map_err(SpawnedError::from),
            None => Poll::Ready(Err(SpawnedError::Cancelled)),
        }
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            drop(answer.abandon());
        }
    }
}

impl<T> fmt::Debug for Spawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
