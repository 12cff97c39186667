//! The answer when a bound of this server is reached.

use taskqueue_api::{ErrorCode, QueueError};

pub(crate) fn overloaded(message: &str) -> QueueError {
    QueueError::new(ErrorCode::Overloaded, message).with_retry_after_s(RETRY_AFTER_S)
}

/// Long enough for a burst to pass, short enough for an agent to try again.
pub(crate) const RETRY_AFTER_S: f64 = 1.0;
