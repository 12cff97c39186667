use serde::Serialize;
use taskqueue_api::{QueueError, write_answer, write_refusal};

/// A tool's answer.
#[derive(Debug)]
pub(crate) struct ToolAnswer {
    /// `ok`, or the code of the error.
    pub(crate) outcome: &'static str,
    /// Whether the model should take it for a failure.
    pub(crate) is_error: bool,
    /// The answer as JSON; payloads and results stand in it as they were given, to the last byte.
    pub(crate) text: String,
}

impl ToolAnswer {
    /// The answer `{"ok":true,…}`.
    ///
    /// # Errors
    ///
    /// As [`write_answer`]'s.
    pub(super) fn done<A: Serialize>(answer: &A) -> Result<Self, QueueError> {
        Ok(Self { outcome: OK, is_error: false, text: write_answer(answer)? })
    }

    /// The answer `{"ok":false,"error":…}`.
    pub(crate) fn refused(error: &QueueError) -> Self {
        Self { outcome: error.code.as_str(), is_error: true, text: write_refusal(error) }
    }

    /// The same answer, about a task that came to nothing.
    pub(super) fn into_failure(self) -> Self {
        Self { is_error: true, ..self }
    }
}

const OK: &str = "ok";
