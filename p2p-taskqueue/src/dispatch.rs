//! The way of a task from the pool to a handler. The pool claims, renews and reports on the executor thread. The
//! handler runs where the program polls the worker.
//!
//! ```text
//! executor thread                                    where `run_until` is polled
//! pool ── Handler::run ── Passed ── Given ──▶ a channel ──▶ the user's handler
//!                  ▲                                                │
//!                  └───────────── AttemptEnd, a oneshot ◀────────────┘
//! ```
//!
//! Either end may go first. When the pool gives up the attempt, it drops the oneshot's receiver, and the handler is
//! dropped. When the worker is dropped, so is the sender, and the task is given back.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use taskqueue_api::{Json, TaskRecord};
use taskqueue_worker::{AttemptEnd, Contact, Handler};
use tokio::sync::{mpsc, oneshot};

use crate::{Context, Failure, Task};

/// A user's handler, whatever its types.
pub(crate) type AnyHandler = Arc<dyn Fn(Arc<TaskRecord>, Context) -> BoxFuture<'static, AttemptEnd> + Send + Sync>;

/// A task for a handler.
#[derive(Debug)]
pub(crate) struct Given {
    record: Arc<TaskRecord>,
    contact: Contact,
    /// The pool holds the receiver.
    outcome: oneshot::Sender<AttemptEnd>,
}

/// The pool's handler. It passes tasks on to the worker.
#[derive(Debug)]
pub(crate) struct Passed {
    /// The worker holds the receiver. The channel has room for a task of every slot.
    pub(crate) given: mpsc::Sender<Given>,
}

#[async_trait]
impl Handler for Passed {
    async fn run(&self, task: &TaskRecord, contact: Contact) -> AttemptEnd {
        let (sender, outcome) = oneshot::channel();
        let given = Given { record: Arc::new(task.clone()), contact, outcome: sender };
        if self.given.send(given).await.is_err() {
            return AttemptEnd::Stopped;
        }
        outcome.await.unwrap_or(AttemptEnd::Stopped)
    }
}

impl Given {
    pub(crate) fn task_type(&self) -> &str {
        &self.record.task_type
    }

    /// Runs the handler until it has ended or the pool gives up the attempt.
    pub(crate) async fn work(self, handler: AnyHandler) {
        let Self { record, contact, mut outcome } = self;
        let context = Context::new(Arc::clone(&record), contact);
        tokio::select! {
            ended = handler(record, context) => drop(outcome.send(ended)),
            () = outcome.closed() => {}
        }
    }
}

/// Makes a handler that reads the input, runs the user's handler and writes the output.
pub(crate) fn any<T, F, Fut>(handler: F) -> AnyHandler
where
    T: Task,
    F: Fn(T, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T::Output, Failure>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |record, context| {
        let handler = Arc::clone(&handler);
        let attempt = async move {
            let input = match record.payload.to::<T>() {
                Ok(input) => input,
                Err(error) => {
                    return Failure::permanent(format!("the payload is no {:?}: {error}", T::TYPE)).into_attempt_end();
                }
            };
            match handler(input, context).await {
                Ok(output) => done(&output),
                Err(failure) => failure.into_attempt_end(),
            }
        };
        let panicked = |panic: Box<dyn Any + Send>| {
            Failure::retryable(format!("the handler panicked: {}", message(&*panic))).into_attempt_end()
        };
        AssertUnwindSafe(attempt).catch_unwind().map(move |outcome| outcome.unwrap_or_else(panicked)).boxed()
    })
}

fn done<O: serde::Serialize>(output: &O) -> AttemptEnd {
    match Json::from_value(output) {
        Ok(result) => AttemptEnd::Done(result),
        Err(error) => Failure::permanent(format!("the result cannot be written as JSON: {error}")).into_attempt_end(),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
