use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::{ConnectionDenied, ConnectionId},
};

use super::{
    ConnectionLimits, NodeConfig,
    address::{ip_of, is_relayed},
    arrivals::{Arrival, Arrivals},
    limits::PEERS_MAX,
    room::{Candidate, Newcomer, who_makes_room},
};

/// The decision which connections are allowed: by the peer at the other end, and by the bounds on their numbers.
///
/// What is remembered for it is bounded by the connections and, for the peers that have proved themselves, by
/// [`PEERS_MAX`].
///
/// A new connection for which there is no room pushes out one whose peer has not proved itself. A connection that was
/// pushed out no longer counts, but may take a moment to close. So there are at most twice as many connections with
/// open descriptors as a bound allows.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ConnectionLimits,
    allowed: Option<BTreeSet<PeerId>>,
    denied: BTreeSet<PeerId>,
    arrivals: Arrivals,
    pending_inbound: HashMap<ConnectionId, Pending>,
    pending_outbound: HashSet<ConnectionId>,
    established: HashMap<ConnectionId, Established>,
    unproven: HashSet<ConnectionId>,
    members: Members,
    homes: Homes,
    /// The established connections that were pushed out and are not closed yet.
    leaving: HashSet<ConnectionId>,
    /// Those in `leaving` that the swarm has not been told to close yet.
    to_close: VecDeque<(PeerId, ConnectionId)>,
    made_room: u64,
}

#[derive(Debug)]
struct Pending {
    /// The network it comes from. `None` when a relay passed it on.
    from: Option<IpAddr>,
    arrival: Arrival,
    /// Whether it was pushed out and is not closed yet.
    is_leaving: bool,
}

#[derive(Debug)]
struct Established {
    peer: PeerId,
    /// The network it comes from. `None` when this node dialled it or a relay passed it on.
    from: Option<IpAddr>,
    /// The network of the other end. `None` when there is a relay between.
    at: Option<IpAddr>,
    /// Whether the peer dialled it. A connection that this node dialled is never pushed out.
    is_inbound: bool,
    /// Whether its stream is open.
    has_spoken: bool,
}

/// The networks at which members have proved themselves. At the bound the oldest is forgotten.
#[derive(Debug, Default)]
struct Homes {
    known: HashSet<IpAddr>,
    in_order: VecDeque<IpAddr>,
}

impl Homes {
    fn insert(&mut self, home: IpAddr) {
        if self.known.insert(home) {
            self.in_order.push_back(home);
            if self.in_order.len() > PEERS_MAX {
                self.in_order.pop_front().map(|oldest| self.known.remove(&oldest));
            }
        }
    }
}

/// The peers that have proved themselves. Parts that serve members only hold a clone.
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

/// The error of a connection for which a bound leaves no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} {what} already")]
pub(super) struct Full {
    max: usize,
    what: &'static str,
    reason: &'static str,
}

impl Full {
    /// Returns the name under which the refusal is counted.
    pub(super) const fn reason(&self) -> &'static str {
        self.reason
    }
}

/// The error of a peer with which the configuration forbids connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwelcome {
    #[error("it is on the list of denied peers")]
    Denied,
    #[error("it is not on the list of allowed peers")]
    NotAllowed,
}

impl Unwelcome {
    /// Returns the name under which the refusal is counted.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
        }
    }
}

/// The reason why a connection is refused.
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
    pub(super) fn new(config: &NodeConfig, arrivals: Arrivals) -> Self {
        Self {
            arrivals,
            limits: config.limits,
            allowed: config.allowed.clone(),
            denied: config.denied.clone(),
            pending_inbound: HashMap::new(),
            pending_outbound: HashSet::new(),
            established: HashMap::new(),
            unproven: HashSet::new(),
            members: Members::default(),
            homes: Homes::default(),
            leaving: HashSet::new(),
            to_close: VecDeque::new(),
            made_room: 0,
        }
    }

    /// Returns the set of peers that have proved themselves. It follows later changes.
    pub(super) fn members(&self) -> Members {
        self.members.clone()
    }

    pub(super) fn inbound(&mut self, connection: ConnectionId, from: &Multiaddr) -> Result<(), Full> {
        let arrival = self.arrivals.take();
        let from = ip_of(from).map(network_of);
        let (what, reason) = ("incoming connections are being set up", "pending_max");
        let full = Full { max: self.limits.pending, what, reason };
        // A connection that was pushed out costs as much as any other until it is dropped.
        below(self.pending_inbound.len(), 2 * self.limits.pending, what, reason)?;
        if let Some(from) = from.filter(|from| !self.is_known(*from)) {
            let max = self.limits.per_unknown_address;
            if self.unproven_from(from) >= max && !self.makes_room_at(from) {
                let (what, reason) = ("connections from this address are unproven", "per_address_max");
                return Err(Full { max, what, reason });
            }
        }
        if self.pending_inbound_count() >= self.limits.pending {
            let pending = self.pending_candidates();
            let first = who_makes_room(pending, self.newcomer(from), |at| self.is_home(at), self.home_share());
            self.push_out(first.ok_or(full)?);
        }
        self.pending_inbound.insert(connection, Pending { from, arrival, is_leaving: false });
        Ok(())
    }

    /// Pushes out one of the unproven connections from this network. Returns whether there was one.
    fn makes_room_at(&mut self, from: IpAddr) -> bool {
        let at_home = Newcomer { from: Some(from), is_at_home: true };
        let of_address = |candidate: &Candidate| candidate.from == Some(from);
        let pending = self.pending_candidates().into_iter().filter(of_address);
        let unproven = self.unproven_candidates().into_iter().filter(of_address);
        let first = who_makes_room(pending.chain(unproven), at_home, |_| false, 0);
        first.map(|first| self.push_out(first)).is_some()
    }

    /// Ends a connection that is being set up, or an established one whose peer has not proved itself.
    fn push_out(&mut self, connection: ConnectionId) {
        self.made_room += 1;
        if let Some(pending) = self.pending_inbound.get_mut(&connection) {
            pending.is_leaving = true;
            pending.arrival.end();
        } else if let Some(established) = self.established.get(&connection) {
            self.unproven.remove(&connection);
            self.leaving.insert(connection);
            self.to_close.push_back((established.peer, connection));
        }
    }

    fn pending_candidates(&self) -> Vec<Candidate> {
        let staying = self.pending_inbound.iter().filter(|(_, pending)| !pending.is_leaving);
        let candidate = |(id, Pending { from, arrival, .. }): (&ConnectionId, &Pending)| Candidate {
            id: *id,
            from: *from,
            has_spoken: arrival.has_spoken(),
        };
        staying.map(candidate).collect()
    }

    fn unproven_candidates(&self) -> Vec<Candidate> {
        let unproven = self.unproven.iter().filter_map(|id| Some((id, self.established.get(id)?)));
        let inbound = unproven.filter(|(_, established)| established.is_inbound);
        let candidate = |(id, Established { from, has_spoken, .. }): (&ConnectionId, &Established)| Candidate {
            id: *id,
            from: *from,
            has_spoken: *has_spoken,
        };
        inbound.map(candidate).collect()
    }

    fn newcomer(&self, from: Option<IpAddr>) -> Newcomer {
        Newcomer { from, is_at_home: from.is_some_and(|from| self.is_home(from)) }
    }

    fn is_home(&self, at: IpAddr) -> bool {
        self.homes.known.contains(&at)
    }

    /// Returns how many connections being set up, and how many unproven ones, a network of members keeps: as many as a
    /// stranger's network may have.
    const fn home_share(&self) -> usize {
        self.limits.per_unknown_address
    }

    pub(super) fn outbound(&mut self, connection: ConnectionId, peer: Option<PeerId>) -> Result<(), Refusal> {
        peer.map_or(Ok(()), |peer| self.welcome(peer))?;
        below(self.pending_outbound.len(), self.limits.pending, "dials are under way", "dials_max")?;
        self.pending_outbound.insert(connection);
        Ok(())
    }

    /// Decides whether a connection may stay, now that its peer is known. Makes room for it if need be.
    pub(super) fn check(&mut self, connection: ConnectionId, peer: PeerId) -> Result<(), Refusal> {
        let pending = self.pending_inbound.get(&connection).map(|pending| pending.from);
        self.settled(connection);
        self.welcome(peer)?;
        let limits = self.limits;
        let of_peer = |(id, other): &(&ConnectionId, &Established)| other.peer == peer && !self.leaving.contains(id);
        let of_peer = self.established.iter().filter(of_peer).count();
        let of_peer_max = if self.members.contains(&peer) { limits.per_proven_peer } else { limits.per_unknown_peer };
        below(of_peer, of_peer_max, "connections of this peer stand", "per_peer_max")?;
        let (connections, unproven) = ("connections stand", "connections of unknown peers stand");
        below(self.established.len(), limits.connections + limits.unproven, connections, "connections_max")?;
        // A peer that this node dialled is expected, so it is treated like one from a network of members.
        let expected = Newcomer { from: None, is_at_home: true };
        let newcomer = pending.map_or(expected, |from| self.newcomer(from));
        if self.unproven.len() >= limits.unproven && !self.makes_room_for(newcomer) {
            return Err(Full { max: limits.unproven, what: unproven, reason: "unproven_max" }.into());
        }
        let standing = self.established.len() - self.leaving.len();
        if standing >= limits.connections && !self.makes_room_for(newcomer) {
            return Err(Full { max: limits.connections, what: connections, reason: "connections_max" }.into());
        }
        Ok(())
    }

    /// Pushes out an established connection whose peer has not proved itself. Returns whether there was one.
    fn makes_room_for(&mut self, newcomer: Newcomer) -> bool {
        let unproven = self.unproven_candidates();
        let first = who_makes_room(unproven, newcomer, |at| self.is_home(at), self.home_share());
        first.map(|first| self.push_out(first)).is_some()
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

    /// Returns whether members are to be expected at this network: it is this machine, or a peer that has proved itself
    /// is connected from it.
    fn is_known(&self, from: IpAddr) -> bool {
        let is_proven =
            |(id, other): (&ConnectionId, &Established)| other.from == Some(from) && !self.unproven.contains(id);
        from.is_loopback() || self.established.iter().any(is_proven)
    }

    fn unproven_from(&self, from: IpAddr) -> usize {
        let staying = self.pending_inbound.values().filter(|other| !other.is_leaving);
        let pending = staying.filter(|other| other.from == Some(from)).count();
        let unproven = self.unproven.iter().filter_map(|id| self.established.get(id));
        pending + unproven.filter(|other| other.from == Some(from)).count()
    }

    pub(super) fn established(&mut self, connection: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        let (is_inbound, remote) = (endpoint.is_listener(), endpoint.get_remote_address());
        let at = ip_of(remote).map(network_of).filter(|_| !is_relayed(remote) && !endpoint.is_relayed());
        let from = at.filter(|_| is_inbound);
        self.established.insert(connection, Established { peer, from, at, is_inbound, has_spoken: false });
        self.unproven.insert(connection);
    }

    /// Notes that the stream of the connection is open.
    pub(super) fn spoke(&mut self, connection: ConnectionId) {
        if let Some(established) = self.established.get_mut(&connection) {
            established.has_spoken = true;
        }
    }

    /// Notes that the peer at the other end of the connection has proved itself.
    pub(super) fn proven(&mut self, connection: ConnectionId, peer: PeerId) {
        self.unproven.remove(&connection);
        let home = self.established.get(&connection).and_then(|established| established.at);
        home.into_iter().for_each(|home| self.homes.insert(home));
        let mut members = self.members.lock();
        if members.len() < PEERS_MAX {
            members.insert(peer);
        }
    }

    /// Forgets that a peer has proved itself, because it was taken out of the mesh.
    pub(super) fn forget_proof(&self, peer: &PeerId) {
        self.members.lock().remove(peer);
    }

    /// Forgets who has proved themselves, because the node has joined another mesh.
    pub(super) fn forget_proofs(&mut self) {
        self.members.lock().clear();
        self.homes = Homes::default();
    }

    /// Notes that the connection is no longer being set up: it is established, or has failed.
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
        self.pending_inbound_count() + self.pending_outbound.len()
    }

    fn pending_inbound_count(&self) -> usize {
        self.pending_inbound.values().filter(|pending| !pending.is_leaving).count()
    }

    /// Returns how many connections were pushed out to make room for new ones.
    pub(super) const fn made_room(&self) -> u64 {
        self.made_room
    }

    /// Takes the next established connection that was pushed out, to be closed.
    pub(super) fn next_to_close(&mut self) -> Option<(PeerId, ConnectionId)> {
        self.to_close.pop_front()
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.established.remove(&connection);
        self.unproven.remove(&connection);
        self.leaving.remove(&connection);
        self.to_close.retain(|(_, closed)| *closed != connection);
    }
}

const fn below(count: usize, max: usize, what: &'static str, reason: &'static str) -> Result<(), Full> {
    if count < max { Ok(()) } else { Err(Full { max, what, reason }) }
}

/// Returns the part of an address that stands for one customer of a network: the whole IPv4 address, or the first 64
/// bits of an IPv6 address.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
