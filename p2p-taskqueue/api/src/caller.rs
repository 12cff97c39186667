use std::sync::Arc;

use crate::{Grants, PeerId, Role};

/// The side that asks for an operation.
///
/// The caller decides which operations are allowed, and for which tasks. It is also the scope of idempotency keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A client of this machine that passed this machine's own checks: the command line, a worker, the MCP server.
    Local,
    /// A member of the mesh, whose connection has proved which machine it is.
    Peer(Member),
}

/// A machine of the mesh, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which machine it is.
    pub peer: PeerId,
    /// What it may do. It is the same for all requests of a session, so it is shared.
    pub grants: Arc<Grants>,
}

impl Caller {
    /// Returns a machine of the mesh that may do what these grants say.
    #[must_use]
    pub fn peer(peer: PeerId, grants: Grants) -> Self {
        Self::Peer(Member { peer, grants: Arc::new(grants) })
    }

    /// Returns a machine of the mesh with the grants of a [`Role::Member`].
    #[must_use]
    pub fn member(peer: PeerId) -> Self {
        Self::peer(peer, Grants::of(Role::Member))
    }

    /// Whether the caller is on this machine.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// Returns the machine that asks. `None` for this machine.
    #[must_use]
    pub const fn machine(&self) -> Option<PeerId> {
        match self {
            Self::Local => None,
            Self::Peer(member) => Some(member.peer),
        }
    }

    /// The scope in which the caller's idempotency keys are unique.
    #[must_use]
    pub fn scope(&self) -> String {
        self.machine().map_or_else(|| "local".to_owned(), PeerId::to_base58)
    }
}
