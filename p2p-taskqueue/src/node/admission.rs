use std::collections::{HashMap, HashSet};

use libp2p::{PeerId, swarm::ConnectionId};

use super::limits::{CONNECTIONS_MAX, PEERS_MAX, PENDING_MAX, PER_PROVEN_PEER_MAX, PER_UNKNOWN_PEER_MAX, UNPROVEN_MAX};

/// Decides which connections may be, by counting them. What it remembers is bounded by the connections, and by
/// [`PEERS_MAX`] for the peers that have proved themselves.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pending_inbound: HashSet<ConnectionId>,
    pending_outbound: HashSet<ConnectionId>,
    established: HashMap<ConnectionId, PeerId>,
    unproven: HashSet<ConnectionId>,
    proven_peers: HashSet<PeerId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} {what} already")]
pub(super) struct Full {
    max: usize,
    what: &'static str,
    reason: &'static str,
}

impl Full {
    /// The bound that is reached, as it is counted.
    pub(super) const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl Admission {
    pub(super) fn inbound(&mut self, connection: ConnectionId) -> Result<(), Full> {
        pending(&mut self.pending_inbound, connection, "incoming connections are being set up", "pending_max")
    }

    pub(super) fn outbound(&mut self, connection: ConnectionId) -> Result<(), Full> {
        pending(&mut self.pending_outbound, connection, "dials are under way", "dials_max")
    }

    /// Whether a connection whose other end is now known may stay.
    pub(super) fn check(&mut self, connection: ConnectionId, peer: PeerId) -> Result<(), Full> {
        self.settled(connection);
        let of_peer = self.established.values().filter(|other| **other == peer).count();
        let of_peer_max = if self.proven_peers.contains(&peer) { PER_PROVEN_PEER_MAX } else { PER_UNKNOWN_PEER_MAX };
        below(self.established.len(), CONNECTIONS_MAX, "connections stand", "connections_max")?;
        below(self.unproven.len(), UNPROVEN_MAX, "connections of unknown peers stand", "unproven_max")?;
        below(of_peer, of_peer_max, "connections of this peer stand", "per_peer_max")
    }

    pub(super) fn established(&mut self, connection: ConnectionId, peer: PeerId) {
        self.established.insert(connection, peer);
        self.unproven.insert(connection);
    }

    /// The peer belongs to the mesh.
    pub(super) fn proven(&mut self, connection: ConnectionId, peer: PeerId) {
        self.unproven.remove(&connection);
        if self.proven_peers.len() < PEERS_MAX {
            self.proven_peers.insert(peer);
        }
    }

    /// The mesh secret has changed: nobody has proved that they know the new one.
    pub(super) fn forget_proofs(&mut self) {
        self.proven_peers.clear();
    }

    /// The connection is set up, or has failed to be.
    pub(super) fn settled(&mut self, connection: ConnectionId) {
        self.pending_inbound.remove(&connection);
        self.pending_outbound.remove(&connection);
    }

    pub(super) fn established_count(&self) -> usize {
        self.established.len()
    }

    pub(super) fn unproven_count(&self) -> usize {
        self.unproven.len()
    }

    pub(super) fn pending_count(&self) -> usize {
        self.pending_inbound.len() + self.pending_outbound.len()
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.established.remove(&connection);
        self.unproven.remove(&connection);
    }
}

fn pending(
    pending: &mut HashSet<ConnectionId>,
    connection: ConnectionId,
    what: &'static str,
    reason: &'static str,
) -> Result<(), Full> {
    below(pending.len(), PENDING_MAX, what, reason)?;
    pending.insert(connection);
    Ok(())
}

const fn below(count: usize, max: usize, what: &'static str, reason: &'static str) -> Result<(), Full> {
    if count < max { Ok(()) } else { Err(Full { max, what, reason }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn a_stranger_gets_eight_connections_and_strangers_a_quarter_of_all() {
        let mut admission = Admission::default();
        let stranger = PeerId::random();
        for number in 0..8 {
            assert!(admission.check(id(number), stranger).is_ok());
            admission.established(id(number), stranger);
        }
        assert!(admission.check(id(8), stranger).is_err());
        for number in 8..128 {
            admission.established(id(number), PeerId::random());
        }
        assert!(admission.check(id(128), PeerId::random()).is_err());
        admission.proven(id(0), stranger);
        assert!(admission.check(id(128), stranger).is_ok());
    }

    #[test]
    fn what_has_gone_makes_room() {
        let mut admission = Admission::default();
        for number in 0..64 {
            admission.inbound(id(number)).unwrap();
        }
        assert!(admission.inbound(id(64)).is_err());
        admission.settled(id(3));
        assert!(admission.inbound(id(64)).is_ok());
        admission.established(id(3), PeerId::random());
        admission.closed(id(3));
        assert!(admission.established.is_empty() && admission.unproven.is_empty());
    }
}
