use p2p_taskqueue::{ErrorCode, QueueError};
use serde::Serialize;
use serde_json::Value;

/// A tool's answer in the two forms that clients read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `ok`, or the code of the error.
    pub(crate) outcome: &'static str,
    /// Whether the model should take it for a failure.
    pub(crate) is_error: bool,
    /// The answer as compact JSON; numbers stand in it as the worker or submitter wrote them.
    pub(crate) text: String,
    /// The same as a value; its numbers are those of 64 bits.
    pub(crate) structured: Value,
}

impl Answer {
    /// The answer `{"ok":true,…}`.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` when a payload or result is nested so deep that it does not fit into the answer.
    pub(super) fn done<A: Serialize>(answer: &A) -> Result<Self, QueueError> {
        let (text, structured) = both(&Done { ok: true, answer }).map_err(|error| {
            QueueError::new(ErrorCode::LimitExceeded, format!("the answer cannot be written as JSON: {error}"))
        })?;
        Ok(Self { outcome: OK, is_error: false, text, structured })
    }

    /// The answer `{"ok":false,"error":…}`.
    pub(crate) fn refused(error: &QueueError) -> Self {
        let (text, structured) = both(&Refused { ok: false, error }).unwrap_or_default();
        Self { outcome: error.code.as_str(), is_error: true, text, structured }
    }

    /// The same answer, about a task that came to nothing.
    pub(super) fn into_failure(self) -> Self {
        Self { is_error: true, ..self }
    }
}

#[derive(Serialize)]
struct Done<'a, A> {
    ok: bool,
    #[serde(flatten)]
    answer: &'a A,
}

#[derive(Serialize)]
struct Refused<'a> {
    ok: bool,
    error: &'a QueueError,
}

fn both<T: Serialize>(answer: &T) -> serde_json::Result<(String, Value)> {
    Ok((serde_json::to_string(answer)?, serde_json::to_value(answer)?))
}

const OK: &str = "ok";
