use serde::Serialize;
use taskqueue_api::{QueueError, write_answer, write_refusal};

use super::of_task::{OfTask, queued};

/// A tool's answer.
#[derive(Debug)]
pub(crate) struct ToolAnswer {
    /// `ok`, or the code of the error.
    pub(crate) outcome: &'static str,
    /// Whether the model should take it for a failure.
    pub(crate) is_error: bool,
    /// The answer as JSON text. Payloads and results in it keep every byte that was given.
    pub(crate) text: String,
    /// A sentence for models, when the answer is about a task that waits for a worker.
    pub(crate) note: Option<String>,
}

impl ToolAnswer {
    /// Makes the answer `{"ok":true,…}`.
    ///
    /// # Errors
    ///
    /// As [`write_answer`].
    pub(super) fn done<A: Serialize>(answer: &A) -> Result<Self, QueueError> {
        Ok(Self { outcome: OK, is_error: false, text: write_answer(answer)?, note: None })
    }

    /// Makes the answer `{"ok":false,"error":…}`.
    pub(crate) fn refused(error: &QueueError) -> Self {
        Self { outcome: error.code.as_str(), is_error: true, text: write_refusal(error), note: None }
    }

    /// Says why the task waits, when it does.
    pub(super) fn about(self, task: &impl OfTask) -> Self {
        Self { note: task.waiting_for().map(queued), ..self }
    }

    /// Marks the answer as a failure, because its task failed or was cancelled.
    pub(super) fn into_failure(self) -> Self {
        Self { is_error: true, ..self }
    }
}

const OK: &str = "ok";
