use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{ConnectionDenied, ConnectionId},
};

use super::{ConnectionLimits, NodeConfig, limits::PEERS_MAX, transport::ip_of};

/// Decides which connections may be: by who is at the other end, and by counting. What it remembers is bounded by the
/// connections, and by [`PEERS_MAX`] for the peers that have proved themselves.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ConnectionLimits,
    allowed: Option<BTreeSet<PeerId>>,
    denied: BTreeSet<PeerId>,
    /// With the address that they come from, if they come from one.
    pending_inbound: HashMap<ConnectionId, Option<IpAddr>>,
    pending_outbound: HashSet<ConnectionId>,
    established: HashMap<ConnectionId, Established>,
    unproven: HashSet<ConnectionId>,
    members: Members,
}

#[derive(Debug)]
struct Established {
    peer: PeerId,
    /// Where it comes from; none when this node dialled it, or a relay passed it on.
    from: Option<IpAddr>,
}

/// The peers that have proved themselves, for whoever serves only those.
#[derive(Debug, Clone, Default)]
pub(super) struct Members(Arc<Mutex<HashSet<PeerId>>>);

impl Members {
    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.lock().contains(peer)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PeerId>> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bound is reached.
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

/// The peer is none that this node connects with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwelcome {
    #[error("it is on the list of denied peers")]
    Denied,
    #[error("it is not on the list of allowed peers")]
    NotAllowed,
}

impl Unwelcome {
    /// As it is counted.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
        }
    }
}

/// Why a connection may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full(Full),
    Unwelcome(Unwelcome),
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl From<Unwelcome> for Refusal {
    fn from(unwelcome: Unwelcome) -> Self {
        Self::Unwelcome(unwelcome)
    }
}

impl From<Refusal> for ConnectionDenied {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full(full) => Self::new(full),
            Refusal::Unwelcome(unwelcome) => Self::new(unwelcome),
        }
    }
}

impl Admission {
    pub(super) fn new(config: &NodeConfig) -> Self {
        Self {
            limits: config.limits,
            allowed: config.allowed.clone(),
            denied: config.denied.clone(),
            pending_inbound: HashMap::new(),
            pending_outbound: HashSet::new(),
            established: HashMap::new(),
            unproven: HashSet::new(),
            members: Members::default(),
        }
    }

    /// The peers that have proved themselves, now and later.
    pub(super) fn members(&self) -> Members {
        self.members.clone()
    }

    pub(super) fn inbound(&mut self, connection: ConnectionId, from: &Multiaddr) -> Result<(), Full> {
        let (what, reason) = ("incoming connections are being set up", "pending_max");
        below(self.pending_inbound.len(), self.limits.pending, what, reason)?;
        let from = ip_of(from).map(network_of);
        if let Some(from) = from.filter(|from| !self.is_known(*from)) {
            let (what, reason) = ("connections from this address are unproven", "per_address_max");
            below(self.unproven_from(from), self.limits.per_unknown_address, what, reason)?;
        }
        self.pending_inbound.insert(connection, from);
        Ok(())
    }

    pub(super) fn outbound(&mut self, connection: ConnectionId, peer: Option<PeerId>) -> Result<(), Refusal> {
        peer.map_or(Ok(()), |peer| self.welcome(peer))?;
        below(self.pending_outbound.len(), self.limits.pending, "dials are under way", "dials_max")?;
        self.pending_outbound.insert(connection);
        Ok(())
    }

    /// Whether a connection whose other end is now known may stay.
    pub(super) fn check(&mut self, connection: ConnectionId, peer: PeerId) -> Result<(), Refusal> {
        self.settled(connection);
        self.welcome(peer)?;
        let limits = self.limits;
        let of_peer = self.established.values().filter(|other| other.peer == peer).count();
        let of_peer_max = if self.members.contains(&peer) { limits.per_proven_peer } else { limits.per_unknown_peer };
        below(self.established.len(), limits.connections, "connections stand", "connections_max")?;
        below(self.unproven.len(), limits.unproven, "connections of unknown peers stand", "unproven_max")?;
        below(of_peer, of_peer_max, "connections of this peer stand", "per_peer_max")?;
        Ok(())
    }

    fn welcome(&self, peer: PeerId) -> Result<(), Unwelcome> {
        if self.denied.contains(&peer) {
            Err(Unwelcome::Denied)
        } else if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&peer)) {
            Err(Unwelcome::NotAllowed)
        } else {
            Ok(())
        }
    }

    /// Whether there is a reason to expect members there: this machine's own programs, or one that has proved itself.
    fn is_known(&self, from: IpAddr) -> bool {
        let is_proven =
            |(id, other): (&ConnectionId, &Established)| other.from == Some(from) && !self.unproven.contains(id);
        from.is_loopback() || self.established.iter().any(is_proven)
    }

    fn unproven_from(&self, from: IpAddr) -> usize {
        let pending = self.pending_inbound.values().filter(|other| **other == Some(from)).count();
        let unproven = self.unproven.iter().filter_map(|id| self.established.get(id));
        pending + unproven.filter(|other| other.from == Some(from)).count()
    }

    /// `from` is where it comes from, if it was not this node that dialled.
    pub(super) fn established(&mut self, connection: ConnectionId, peer: PeerId, from: Option<&Multiaddr>) {
        let from = from.and_then(ip_of).map(network_of);
        self.established.insert(connection, Established { peer, from });
        self.unproven.insert(connection);
    }

    /// The peer belongs to the mesh.
    pub(super) fn proven(&mut self, connection: ConnectionId, peer: PeerId) {
        self.unproven.remove(&connection);
        let mut members = self.members.lock();
        if members.len() < PEERS_MAX {
            members.insert(peer);
        }
    }

    /// The mesh secret has changed: nobody has proved that they know the new one.
    pub(super) fn forget_proofs(&self) {
        self.members.lock().clear();
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

const fn below(count: usize, max: usize, what: &'static str, reason: &'static str) -> Result<(), Full> {
    if count < max { Ok(()) } else { Err(Full { max, what, reason }) }
}

/// What one customer of a network has: an IPv4 address, or the IPv6 addresses that begin with the same 64 bits.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, MeshSecret};

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn config() -> NodeConfig {
        NodeConfig::new(Identity::generate().unwrap(), MeshSecret::from_bytes([1; 32]))
    }

    fn admission() -> Admission {
        Admission::new(&config())
    }

    #[test]
    fn a_stranger_gets_eight_connections_and_strangers_a_quarter_of_all() {
        let mut admission = admission();
        let stranger = PeerId::random();
        for number in 0..8 {
            assert!(admission.check(id(number), stranger).is_ok());
            admission.established(id(number), stranger, None);
        }
        assert!(admission.check(id(8), stranger).is_err());
        for number in 8..128 {
            admission.established(id(number), PeerId::random(), None);
        }
        assert!(admission.check(id(128), PeerId::random()).is_err());
        admission.proven(id(0), stranger);
        assert!(admission.check(id(128), stranger).is_ok());
    }

    #[test]
    fn what_has_gone_makes_room() {
        let mut admission = admission();
        let from = address("/ip4/127.0.0.1/tcp/1");
        for number in 0..64 {
            admission.inbound(id(number), &from).unwrap();
        }
        assert!(admission.inbound(id(64), &from).is_err());
        admission.settled(id(3));
        assert!(admission.inbound(id(64), &from).is_ok());
        admission.established(id(3), PeerId::random(), Some(&from));
        admission.closed(id(3));
        assert!(admission.established.is_empty() && admission.unproven.is_empty());
    }

    #[test]
    fn an_address_gets_eight_connections_until_somebody_there_proves_itself() {
        let mut admission = admission();
        let from = |port: usize| address(&format!("/ip4/192.0.2.1/tcp/{port}"));
        for number in 0..4 {
            admission.inbound(id(number), &from(number)).unwrap();
            admission.settled(id(number));
            admission.established(id(number), PeerId::random(), Some(&from(number)));
        }
        (4..8).for_each(|number| admission.inbound(id(number), &from(number)).unwrap());
        assert_eq!(admission.inbound(id(8), &from(8)).unwrap_err().reason(), "per_address_max");
        assert!(admission.inbound(id(9), &address("/ip4/192.0.2.2/tcp/1")).is_ok(), "another address");
        admission.proven(id(0), PeerId::random());
        assert!(admission.inbound(id(8), &from(8)).is_ok());
        admission.closed(id(0));
        assert!(admission.inbound(id(10), &from(10)).is_err());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let mut admission = admission();
        for number in 0..8 {
            admission.inbound(id(number), &address(&format!("/ip6/2001:db8::{}/tcp/1", number + 1))).unwrap();
        }
        assert!(admission.inbound(id(8), &address("/ip6/2001:db8::ffff/tcp/1")).is_err());
        assert!(admission.inbound(id(8), &address("/ip6/2001:db8:0:1::1/tcp/1")).is_ok());
    }

    #[test]
    fn a_list_decides_before_anything_is_counted() {
        let (friend, foe, other) = (PeerId::random(), PeerId::random(), PeerId::random());
        let listed = config().with_allowed_peers(Some([friend, foe].into())).unwrap();
        let mut admission = Admission::new(&listed.with_denied_peers([foe].into()).unwrap());
        assert!(admission.check(id(0), friend).is_ok() && admission.outbound(id(0), Some(friend)).is_ok());
        assert_eq!(admission.check(id(1), foe), Err(Refusal::Unwelcome(Unwelcome::Denied)));
        assert_eq!(admission.outbound(id(1), Some(foe)), Err(Refusal::Unwelcome(Unwelcome::Denied)));
        assert_eq!(admission.check(id(1), other), Err(Refusal::Unwelcome(Unwelcome::NotAllowed)));
        assert_eq!(admission.pending_count(), 1, "only the one that is welcome");
    }

    #[test]
    fn a_list_is_bounded() {
        let many: BTreeSet<PeerId> = (0..=1_024).map(|_| PeerId::random()).collect();
        assert!(config().with_denied_peers(many.clone()).is_err() && config().with_allowed_peers(Some(many)).is_err());
    }
}
