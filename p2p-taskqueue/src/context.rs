use std::{future::poll_fn, sync::Arc, task::Poll};

use serde::{Serialize, de::DeserializeOwned};
use taskqueue_api::{Json, PeerId, QueueError, TaskId, TaskRecord};
use taskqueue_worker::Contact;

use crate::{AskError, Stopped};

/// What a handler knows of its task besides the input, and its way to whoever waits for the task. Cheap to clone, and of
/// use on any thread.
#[derive(Debug, Clone)]
pub struct Context {
    record: Arc<TaskRecord>,
    contact: Contact,
}

impl Context {
    pub(crate) const fn new(record: Arc<TaskRecord>, contact: Contact) -> Self {
        Self { record, contact }
    }

    /// The task's id.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.record.task_id
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// The peer that keeps the task; `None` when that is the queue's own node, or no node at all.
    #[must_use]
    pub fn owner(&self) -> Option<PeerId> {
        self.contact.source().owner
    }

    /// The record as it was when the task was given out: labels, session, deadline and so on.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Says how far the work is, 0 to 1, and in a sentence of up to 4 KiB. The owner is told soon; of what is said in
    /// between, the last.
    ///
    /// Each call lets the worker's other slots go on, and is a good place to stop: `?` ends the handler when it is told to.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the work is to stop.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it was said.
    pub async fn progress(&self, fraction: f64, message: &str) -> Result<(), Stopped> {
        self.contact.progress(fraction, Some(message));
        give_way().await;
        if self.is_cancelled() { Err(Stopped) } else { Ok(()) }
    }

    /// Asks whoever waits for the task, and waits for the answer. A key, of up to 256 bytes, is for one question in the
    /// life of the task: if an earlier attempt asked it, it is answered as then. A task has up to 32 questions.
    ///
    /// A Rust program answers with [`Job::answer`](crate::Job::answer), a person with `taskmesh answer`. An agent's host
    /// shows a form when the question is one:
    /// `{"method":"elicitation/create","params":{"message":…,"requestedSchema":{…}}}`; the answer is then
    /// `{"action":"accept","content":{…}}` or `{"action":"decline"}`.
    ///
    /// # Errors
    ///
    /// [`AskError`]: the work is to stop, the queue does not take the question, or the answer is not an `A`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait; the question stays open until the attempt ends, and its answer is kept.
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

    /// Whether the work is to stop: the task was called off, its lease was lost, or the worker stops.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.contact.is_stop_requested()
    }

    /// Completes when the work is to stop, for the same reasons. A handler that goes on is dropped 0.7 s later.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.contact.clone().stop_requested().await;
    }
}

/// Lets others that are polled with this one have their turn, on any runtime.
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
