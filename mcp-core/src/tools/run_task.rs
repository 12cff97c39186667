use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::Serialize;
use taskqueue_api::{QueueError, Submit, Target, TaskRecord, TaskStatus, limits::WAIT_S_MAX};

use super::{
    Names, ToolAnswer,
    arguments::Arguments,
    schema::{self, Object},
    verb::WorkVerb,
};
use crate::tasks::Work;

/// Submits a task and waits for its end.
#[derive(Debug, JsonSchema)]
pub(super) struct RunTask {
    #[schemars(flatten)]
    submit: Submit,
    /// How long to wait for the end, in seconds, up to 3,600. The task goes on when it is over.
    #[schemars(default = "default_timeout_s")]
    #[schemars(range(min = 0, max = 3_600))]
    timeout_s: f64,
}

/// The answer to a [`RunTask`].
#[derive(Debug, Serialize, JsonSchema)]
struct Ran {
    /// The record; at the timeout as it stands.
    task: TaskRecord,
    /// Whether the task has ended; its `status` says how.
    done: bool,
}

impl WorkVerb for RunTask {
    fn read(mut arguments: Arguments<'_>) -> Result<Self, QueueError> {
        let timeout_s = arguments.take("timeout_s")?.unwrap_or_else(default_timeout_s);
        // This is checked before anything is submitted: the queue itself sees the wait only after the submit.
        if !(0.0..=WAIT_S_MAX).contains(&timeout_s) {
            return Err(QueueError::invalid("timeout_s", format_args!("must be from 0 to {WAIT_S_MAX}")));
        }
        Ok(Self { submit: arguments.into_type()?, timeout_s })
    }

    fn at(self, target: Target) -> Work {
        Work { submit: self.submit, target, timeout_s: self.timeout_s, names: Names::default() }
    }
}

/// Makes the answer for a task that was run. `ok` says that the call itself was done. A task that failed or was
/// cancelled is a failure nevertheless, because the model asked for its result.
pub(crate) fn ran(task: TaskRecord, done: bool) -> ToolAnswer {
    let failed = matches!(task.status, TaskStatus::Failed | TaskStatus::Cancelled);
    let ran = Ran { task, done };
    match ToolAnswer::done(&ran) {
        Ok(answer) if failed => answer.into_failure(),
        Ok(answer) => answer.about(&ran.task),
        Err(error) => ToolAnswer::refused(&error),
    }
}

/// Returns the default timeout in seconds, the same as that of a wait.
pub(crate) const fn default_timeout_s() -> f64 {
    60.0
}

/// Returns the schema of the answer for a task that was run.
pub(crate) fn run_task_output() -> Arc<Object> {
    static OUTPUT: LazyLock<Arc<Object>> = LazyLock::new(schema::output::<Ran>);
    Arc::clone(&OUTPUT)
}
