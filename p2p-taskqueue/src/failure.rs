use std::{any::Any, error::Error, fmt};

use taskqueue_worker::AttemptEnd;

use crate::{AskError, Stopped};

/// The failure of an attempt.
///
/// The operator `?` makes one of any error. The task may then be tried again. The exception is [`Stopped`], which ends
/// a handler that was told to stop.
///
/// # Examples
///
/// ```
/// # use p2p_taskqueue::Failure;
/// fn parse(text: &str) -> Result<f64, Failure> {
///     // Another attempt would read the same text.
///     text.parse().map_err(|error| Failure::permanent(format!("{text:?}: {error}")))
/// }
///
/// fn read(path: &str) -> Result<f64, Failure> {
///     // The file may exist at the next attempt.
///     parse(&std::fs::read_to_string(path)?)
/// }
/// ```
pub struct Failure {
    kind: Kind,
    error: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Retryable,
    Permanent,
    Stopped,
}

impl Failure {
    /// Makes a failure after which another attempt may succeed. The task is queued again while it has attempts left.
    /// The first 8 KiB of the text are kept.
    #[must_use]
    pub fn retryable(error: impl Into<String>) -> Self {
        Self { kind: Kind::Retryable, error: error.into() }
    }

    /// Makes a failure that every attempt would have. The task fails at once. The first 8 KiB of the text are kept.
    #[must_use]
    pub fn permanent(error: impl Into<String>) -> Self {
        Self { kind: Kind::Permanent, error: error.into() }
    }

    pub(crate) fn into_attempt_end(self) -> AttemptEnd {
        match self.kind {
            Kind::Retryable => AttemptEnd::Failed { error: self.error, retryable: true },
            Kind::Permanent => AttemptEnd::Failed { error: self.error, retryable: false },
            Kind::Stopped => AttemptEnd::Stopped,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        let is_stop = any.is::<Stopped>() || matches!(any.downcast_ref(), Some(AskError::Stopped(_)));
        Self { kind: if is_stop { Kind::Stopped } else { Kind::Retryable }, error: with_causes(&error) }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

/// Returns the messages of an error and of its causes, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
