use taskqueue_api::{ErrorCode, QueueError};

use super::{door::Reason, frame::FrameError, handshake::VERSIONS, limits::HANDSHAKE_DEADLINE};
use crate::members::TakeError;

/// The reason why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(
        "the peer belongs to another mesh (no secret of its door is known here): join it with a ticket made by `taskmesh invite`"
    )]
    OtherMesh,
    /// The peer refuses this machine.
    #[error("{0}")]
    Refused(Reason),
    /// This node refuses the peer.
    #[error("the peer was refused: {0}")]
    Refusing(Reason),
    #[error(transparent)]
    NotTaken(#[from] TakeError),
    #[error(
        "the other end (taskmesh {software}) speaks versions {low} to {high} of the protocol, this one (taskmesh {}) {} to {}: update {}",
        env!("CARGO_PKG_VERSION"), VERSIONS.0, VERSIONS.1, if *high < VERSIONS.0 { "the other one" } else { "this one" }
    )]
    Version { low: u16, high: u16, software: String },
    #[error("the peer did not introduce itself within {} s", HANDSHAKE_DEADLINE.as_secs())]
    Deadline,
    #[error("the peer closed the connection before it had introduced itself")]
    Closed,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

impl HandshakeError {
    /// Tells whether the peer reads the reason of the refusal, or can conclude it, from what was sent to it.
    pub(super) const fn is_told(&self) -> bool {
        matches!(self, Self::OtherMesh | Self::Version { .. } | Self::Refusing(_))
    }

    /// Returns the error for a caller whose request was for this peer.
    pub(crate) fn to_queue_error(&self, peer: &str) -> QueueError {
        let code = match self {
            Self::OtherMesh | Self::Refused(_) | Self::Refusing(_) => ErrorCode::Unauthorized,
            Self::Version { .. } => ErrorCode::Unsupported,
            _ => ErrorCode::Unreachable,
        };
        QueueError::new(code, format!("{peer}: {self}"))
    }
}
