use crate::PeerId;

/// The side that asks for an operation.
///
/// The caller decides which operations are allowed: only [`Caller::Local`] may hand out the mesh secret or relay a call
/// to another peer. It is also the scope of idempotency keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A client of this machine that passed this machine's own checks: the command line, a worker, the MCP server.
    Local,
    /// A peer that has proved that it knows the mesh secret.
    Peer(PeerId),
}

impl Caller {
    /// Whether the caller is on this machine.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// The scope in which the caller's idempotency keys are unique.
    #[must_use]
    pub fn scope(&self) -> String {
        match self {
            Self::Local => "local".to_owned(),
            Self::Peer(peer) => peer.to_base58(),
        }
    }
}
