use std::{future::poll_fn, sync::Arc, task::Poll};

use serde::{Serialize, de::DeserializeOwned};
use taskqueue_api::{Json, PeerId, QueueError, TaskId, TaskRecord};
use taskqueue_worker::Contact;

use crate::{AskError, Stopped};

/// The task of a handler, and the means to report progress on it, to ask questions and to learn that the work has to
/// stop.
///
/// It is cheap to clone and can be used on any thread.
#[derive(Debug, Clone)]
pub struct Context {
    record: Arc<TaskRecord>,
    contact: Contact,
}

impl Context {
    pub(crate) const fn new(record: Arc<TaskRecord>, contact: Contact) -> Self {
        Self { record, contact }
    }

    /// Returns the task's id.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.record.task_id
    }

    /// Returns the number of this attempt. The first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// Returns the peer that keeps the task. `None` when the queue's own node keeps it, or no node does.
    #[must_use]
    pub fn owner(&self) -> Option<PeerId> {
        self.contact.source().owner
    }

    /// Returns the record as it was when the task was claimed: labels, session, deadline and so on.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Reports the progress of the work: a fraction from 0 to 1, and a sentence of up to 4 KiB.
    ///
    /// The owner is told soon. If several reports come in between, only the last one is passed on.
    ///
    /// Each call lets the worker's other slots run. It is also a good place to stop: with `?` the handler ends when it
    /// has been told to stop.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the work has to stop.
    ///
    /// # Cancel safety
    ///
    /// The progress is reported when the future is first polled.
    pub async fn progress(&self, fraction: f64, message: &str) -> Result<(), Stopped> {
        self.contact.progress(fraction, Some(message));
        give_way().await;
        if self.is_cancelled() { Err(Stopped) } else { Ok(()) }
    }

    /// Asks a question of those who wait for the task, and waits for the answer.
    ///
    /// The key, of up to 256 bytes, stands for one question in the life of the task. A question that was answered in an
    /// earlier attempt gets the same answer again. A task may have up to 32 questions.
    ///
    /// A Rust program answers with [`Job::answer`](crate::Job::answer), a person with `taskmesh answer`. The host of an
    /// agent shows a form when the question has this form:
    /// `{"method":"elicitation/create","params":{"message":…,"requestedSchema":{…}}}`. The answer is then
    /// `{"action":"accept","content":{…}}` or `{"action":"decline"}`.
    ///
    /// # Errors
    ///
    /// [`AskError`]: the work has to stop, the queue does not take the question, or the answer is not an `A`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait. The question stays open until the attempt ends, and an answer to it is kept.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        key: impl Into<String>,
        question: &(impl Serialize + ?Sized + Sync),
    ) -> Result<A, AskError> {
        let question = Json::from_value(question)
            .map_err(|error| AskError::Refused(QueueError::not_json("input_requests", &error)))?;
        let answer = self.contact.ask(key, question).await.map_err(|error| match error {
            taskqueue_worker::AskError::Refused(error) => AskError::Refused(error),
            _ => AskError::Stopped(Stopped),
        })?;
        answer.to().map_err(AskError::Answer)
    }

    /// Whether the work has to stop: the task was called off, its lease was lost, or the worker stops.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.contact.is_stop_requested()
    }

    /// Completes when the work has to stop, for the reasons of [`is_cancelled`](Self::is_cancelled). A handler that has
    /// not ended 0.7 s later is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.contact.clone().stop_requested().await;
    }
}

/// Lets the other futures that are polled together with this one have their turn, on any runtime.
async fn give_way() {
    let mut has_given = false;
    poll_fn(|cx| {
        if has_given {
            return Poll::Ready(());
        }
        has_given = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
