//! The failure of a command, and its exit code.

use std::process::ExitCode;

use p2p_taskqueue::{ErrorCode, QueueError, store::StoreError};

/// The reason why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments, the data folder or this machine's configuration are wrong.
    #[error("{0:#}")]
    Configuration(anyhow::Error),
    /// The node answered with an error, or could not be asked.
    #[error("{0}")]
    Answer(#[from] QueueError),
}

impl Failure {
    /// Returns the failure for a mistake in the argument `name`.
    pub(crate) fn argument(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::Configuration(anyhow::anyhow!("{name}: {problem}"))
    }

    /// Returns the exit code: 1 when the answer was an error, 2 for usage or configuration, 3 when the node could not
    /// be reached or did not let this client in.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Configuration(_) => 2,
            Self::Answer(error) => match error.code {
                ErrorCode::Unreachable | ErrorCode::Unauthorized => 3,
                _ => 1,
            },
        })
    }

    /// Returns the error record that `--json` prints.
    pub(crate) fn record(&self) -> QueueError {
        match self {
            Self::Configuration(error) => QueueError::new(ErrorCode::InvalidArgument, format!("{error:#}")),
            Self::Answer(error) => error.clone(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_full)
        };
        if error.chain().any(is_full) {
            return Self::Answer(QueueError::new(ErrorCode::StorageFull, format!("{error:#}")));
        }
        Self::Configuration(error)
    }
}
