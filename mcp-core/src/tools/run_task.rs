use std::sync::{Arc, LazyLock};

use p2p_taskqueue::{
    QueueError, Task,
    api::{Outcome, Submit, Submitted, Target, Wait, limits::WAIT_S_MAX},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    arguments::Arguments,
    schema::{self, Object},
    verb::Verb,
};
use crate::call::Asker;

/// Submits a task and waits for its end.
#[derive(Debug, JsonSchema)]
pub(super) struct RunTask {
    #[schemars(flatten)]
    submit: Submit,
    /// How long to wait for the end, in seconds, up to 3,600. The task goes on when it is over.
    #[schemars(default = "default_timeout_s")]
    timeout_s: f64,
}

/// The answer to a [`RunTask`].
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ran {
    /// The record; at the timeout as it stands.
    task: Option<Task>,
    /// Whether the task has ended; its `status` says how.
    done: bool,
}

impl Verb for RunTask {
    type Answer = Ran;

    fn read(mut arguments: Arguments<'_>) -> Result<Self, QueueError> {
        let timeout_s = arguments.take("timeout_s")?.unwrap_or_else(default_timeout_s);
        // Before anything is submitted: the queue itself sees the wait only after the submit.
        if !(0.0..=WAIT_S_MAX).contains(&timeout_s) {
            return Err(QueueError::invalid("timeout_s", format_args!("must be from 0 to {WAIT_S_MAX}")));
        }
        Ok(Self { submit: arguments.into_type()?, timeout_s })
    }

    async fn run(self, asker: Asker<'_>, target: Target) -> Result<Ran, QueueError> {
        let submitted = asker.ask(target.clone(), self.submit).await?;
        let wait = Wait::one(submitted.task_id, self.timeout_s);
        let waited = asker.ask(target, wait).await.map_err(|error| submitted_but(&submitted, error))?;
        Ok(Ran { task: waited.task, done: waited.done })
    }
}

/// The task is there although its end is not known: whoever reads the error must not submit it again.
fn submitted_but(submitted: &Submitted, mut error: QueueError) -> QueueError {
    error.message = format!(
        "task {} was submitted, but waiting for it failed: {}; go on with p2p_taskqueue_wait_task",
        submitted.task_id, error.message
    );
    error.outcome = Outcome::Unknown;
    error
}

/// As long as a wait's.
const fn default_timeout_s() -> f64 {
    60.0
}

/// The schema of what is answered of a task that was run.
pub(crate) fn run_task_output() -> Arc<Object> {
    static OUTPUT: LazyLock<Arc<Object>> = LazyLock::new(schema::output::<Ran>);
    Arc::clone(&OUTPUT)
}
