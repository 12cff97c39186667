use serde::{Deserialize, Serialize};

use super::limits::JSON_DEPTH_MAX;
use crate::JsonError;

/// Why an operation was not done: the same record over every carrier.
///
/// The message is a fragment for a person; programs act on the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message}")]
#[non_exhaustive]
pub struct QueueError {
    /// What kind of refusal or failure it is.
    pub code: ErrorCode,
    /// The explanation, with what to do about it.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Whether the operation may have been applied.
    pub outcome: Outcome,
    /// When to try again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<f64>,
    /// The argument that is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The value that passed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
}

/// The codes that users may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Malformed or contradictory input; names the field.
    InvalidArgument,
    /// Over a size, count or length limit; names limit and value.
    LimitExceeded,
    /// No such task, key, peer or tool, or not the caller's.
    NotFound,
    /// An idempotency key with other content, or a name that is taken.
    Conflict,
    /// The fence is missing, foreign, superseded or its lease expired.
    StaleFence,
    /// The task's state does not allow it.
    WrongState,
    /// The task has ended; terminal states are immutable.
    AlreadyFinished,
    /// The caller has not proved who it is.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// No connection to the peer or daemon; nothing was sent.
    Unreachable,
    /// Sent, and no answer in time.
    Timeout,
    /// Sent, and the connection broke before the answer.
    Interrupted,
    /// A bound is reached; try again after `retry_after_s`.
    Overloaded,
    /// No room on the disk.
    StorageFull,
    /// The store failed.
    StorageError,
    /// The queue is paused.
    Paused,
    /// The node is stopping.
    ShuttingDown,
    /// This node does not know the operation.
    Unsupported,
    /// A defect, here or in a newer peer whose code is not known here.
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    /// The name that answers carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::LimitExceeded => "limit_exceeded",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::StaleFence => "stale_fence",
            Self::WrongState => "wrong_state",
            Self::AlreadyFinished => "already_finished",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Overloaded => "overloaded",
            Self::StorageFull => "storage_full",
            Self::StorageError => "storage_error",
            Self::Paused => "paused",
            Self::ShuttingDown => "shutting_down",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Timeout
                | Self::Interrupted
                | Self::Overloaded
                | Self::StorageFull
                | Self::StorageError
                | Self::Paused
                | Self::ShuttingDown
        )
    }
}

/// Whether a failed operation may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not.
    NotApplied,
    /// It may have: ask before repeating, or repeat with an idempotency key.
    Unknown,
}

impl QueueError {
    /// Makes an error with this code and the properties that follow from the code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let outcome = match code {
            ErrorCode::Timeout | ErrorCode::Interrupted | ErrorCode::Internal => Outcome::Unknown,
            _ => Outcome::NotApplied,
        };
        Self {
            code,
            message: message.into(),
            retryable: code.is_retryable(),
            outcome,
            retry_after_s: None,
            field: None,
            limit: None,
            value: None,
        }
    }

    /// Reports malformed or contradictory input in the named argument.
    #[must_use]
    pub fn invalid(field: &str, message: impl std::fmt::Display) -> Self {
        let error = Self::new(ErrorCode::InvalidArgument, format!("{field}: {message}"));
        Self { field: Some(field.to_owned()), ..error }
    }

    /// Reports that the named argument is over its limit.
    #[must_use]
    pub fn over_limit(field: &str, value: usize, limit: usize, unit: &str) -> Self {
        let error = Self::new(ErrorCode::LimitExceeded, format!("{field}: {value} {unit}, the limit is {limit}"));
        Self { field: Some(field.to_owned()), limit: Some(limit as u64), value: Some(value as u64), ..error }
    }

    /// Reports that the text of the named argument is not accepted as a JSON value.
    #[must_use]
    pub fn not_json(field: &str, error: &JsonError) -> Self {
        match error {
            JsonError::TooDeep { levels } => Self::too_deep(field, *levels),
            other @ JsonError::Syntax(_) => Self::invalid(field, other),
        }
    }

    /// Reports that the JSON value of the named argument is nested `levels` deep.
    pub(super) fn too_deep(field: &str, levels: usize) -> Self {
        Self::over_limit(field, levels, JSON_DEPTH_MAX, "levels of nesting")
    }

    /// Reports that a bound of the node is reached, with the bound and the seconds after which the caller may try
    /// again.
    #[must_use]
    pub fn overloaded(limit: usize, what: &str, retry_after_s: f64) -> Self {
        let error = Self::new(ErrorCode::Overloaded, format!("the limit of {limit} {what} is reached"));
        Self { limit: Some(limit as u64), ..error }.with_retry_after_s(retry_after_s)
    }

    /// Places the error inside an outer argument, such as `claim_next` or `tasks[3]`. The error then names
    /// `tasks[3].priority`.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        let field = self.field.as_ref().map_or_else(|| place.to_owned(), |field| format!("{place}.{field}"));
        Self { message: format!("{place}: {}", self.message), field: Some(field), ..self }
    }

    /// Replaces the code, and leaves everything else as it is.
    #[must_use]
    pub fn with_code(self, code: ErrorCode) -> Self {
        Self { code, ..self }
    }

    /// Replaces the message.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Sets the argument that is to blame.
    #[must_use]
    pub fn with_field(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    /// Marks the error as not retryable.
    #[must_use]
    pub fn not_retryable(self) -> Self {
        Self { retryable: false, ..self }
    }

    /// States that nothing was applied.
    #[must_use]
    pub fn with_nothing_applied(self) -> Self {
        Self { outcome: Outcome::NotApplied, ..self }
    }

    /// States that the operation may have been applied.
    #[must_use]
    pub fn with_unknown_outcome(self) -> Self {
        Self { outcome: Outcome::Unknown, ..self }
    }

    /// Sets the time after which the caller may try again.
    #[must_use]
    pub fn with_retry_after_s(self, seconds: f64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_newer_peer_reads_as_internal() {
        assert_eq!(serde_json::from_str::<ErrorCode>("\"from_the_future\"").unwrap(), ErrorCode::Internal);
    }

    #[test]
    fn codes_are_written_as_named() {
        for code in [ErrorCode::InvalidArgument, ErrorCode::AlreadyFinished, ErrorCode::Internal] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
