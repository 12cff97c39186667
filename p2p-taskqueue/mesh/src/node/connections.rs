use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, swarm::ConnectionId};
use runtime_bridge::Spawned;
use taskqueue_api::{ErrorCode, Grants, QueueError};

use super::{limits::IDLE_TIMEOUT, links::role_of};
use crate::wire::{Role, Session};

/// The message about a peer that is not a node.
pub(super) const OTHER_PROTOCOL: &str = "it does not speak this protocol (is it a taskmesh node?)";

/// The established connections, each until the end of its session.
#[derive(Debug)]
pub(super) struct Connections<L = Spawned<()>> {
    known: HashMap<ConnectionId, Connection<L>>,
    /// The latest incoming connections, in the order in which they came, each with the time by which it must have begun
    /// the handshake.
    awaited: VecDeque<(Instant, ConnectionId)>,
}

#[derive(Debug)]
struct Connection<L> {
    peer: PeerId,
    way: Way,
    /// The job that serves the connection once its stream is open. Dropping it ends the session.
    link: Option<L>,
    /// `Some` once the peer has proved itself.
    session: Option<Session>,
    /// What the peer may do in its session.
    grants: Option<Arc<Grants>>,
    /// Whether the connection was closed during the handshake. Its link has yet to report why: what it has read by then
    /// may tell.
    is_closed: bool,
}

/// The path by which a connection leads to its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) remote: Multiaddr,
    /// Whether this node dialled and acts as the dialler. Both ends of a hole-punched connection dial, and one of them
    /// acts as the listener.
    pub(super) is_dialled: bool,
    pub(super) is_relayed: bool,
}

impl Way {
    pub(super) fn of(endpoint: &ConnectedPoint) -> Self {
        Self {
            remote: endpoint.get_remote_address().clone(),
            is_dialled: role_of(endpoint) == Role::Dialer,
            is_relayed: endpoint.is_relayed(),
        }
    }
}

impl<L> Default for Connections<L> {
    fn default() -> Self {
        Self { known: HashMap::new(), awaited: VecDeque::new() }
    }
}

impl<L> Connections<L> {
    /// Adds an established connection. An incoming one must begin the handshake within [`IDLE_TIMEOUT`].
    pub(super) fn established(&mut self, connection: ConnectionId, peer: PeerId, way: Way, now: Instant) {
        if !way.is_dialled {
            self.awaited.push_back((now + IDLE_TIMEOUT, connection));
        }
        self.known
            .insert(connection, Connection { peer, way, link: None, session: None, grants: None, is_closed: false });
    }

    /// Adds the link of a connection whose stream is open, which begins with the handshake. If the connection is gone,
    /// the link ends at once.
    pub(super) fn opened(&mut self, connection: ConnectionId, link: L) {
        if let Some(known) = self.known.get_mut(&connection) {
            known.link = Some(link);
        }
    }

    /// Notes that the peer has proved itself. Returns how the connection leads to it, or `None` if the connection was
    /// given up meanwhile.
    pub(super) fn proven(&mut self, connection: ConnectionId, session: Session, grants: Arc<Grants>) -> Option<Way> {
        let known = self.known.get_mut(&connection).filter(|known| known.link.is_some())?;
        (known.session, known.grants) = (Some(session), Some(grants));
        Some(known.way.clone())
    }

    /// Ends the link and the session of the connection. Returns whether the connection still has to be closed.
    pub(super) fn give_up(&mut self, connection: ConnectionId) -> bool {
        if self.known.get(&connection).is_some_and(|known| known.is_closed) {
            self.known.remove(&connection);
            return false;
        }
        if let Some(known) = self.known.get_mut(&connection) {
            (known.link, known.session) = (None, None);
        }
        true
    }

    /// Notes that the connection was closed. Returns whether that is the end of it. It is not if it was closed during
    /// the handshake: then its link has yet to report.
    pub(super) fn closed(&mut self, connection: ConnectionId) -> bool {
        self.awaited.retain(|(_, awaited)| *awaited != connection);
        let is_undecided = |known: &&mut Connection<L>| known.link.is_some() && known.session.is_none();
        if let Some(known) = self.known.get_mut(&connection).filter(is_undecided) {
            known.is_closed = true;
            return false;
        }
        self.known.remove(&connection);
        true
    }

    /// Takes the incoming connections that have not begun the handshake in time; each is returned once. They have to be
    /// closed, because the streams of other protocols would keep them open.
    pub(super) fn take_silent(&mut self, now: Instant) -> Vec<ConnectionId> {
        let mut silent = Vec::new();
        while let Some((_, connection)) = self.awaited.pop_front_if(|(at, _)| *at <= now) {
            let known = self.known.get(&connection);
            if known.is_some_and(|known| known.link.is_none() && known.session.is_none()) {
                silent.push(connection);
            }
        }
        silent
    }

    /// Returns the time by which the next connection must have begun the handshake.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.awaited.front().map(|(at, _)| *at)
    }

    /// Tells every peer that this node is about to end, and lets requests under way end. Returns the connections
    /// without a session.
    pub(super) fn drain(&self) -> Vec<ConnectionId> {
        let mut idle = Vec::new();
        for (connection, known) in &self.known {
            match &known.session {
                Some(session) => session.drain(),
                None => idle.push(*connection),
            }
        }
        idle
    }

    /// Returns every connection with its peer.
    pub(super) fn all(&self) -> Vec<(ConnectionId, PeerId)> {
        self.known.iter().map(|(connection, known)| (*connection, known.peer)).collect()
    }

    /// Returns the connections with a session, each with its peer and what that peer may do in it.
    pub(super) fn proven_ones(&self) -> Vec<(ConnectionId, PeerId, Arc<Grants>)> {
        let proven = self.known.iter().filter(|(_, known)| known.session.is_some());
        proven.filter_map(|(id, known)| Some((*id, known.peer, known.grants.clone()?))).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns how many connections have a session.
    pub(super) fn session_count(&self) -> usize {
        self.known.values().filter(|known| known.session.is_some()).count()
    }
}

/// Returns the error of a peer that cannot be reached for this reason.
pub(super) fn unreachable(peer: PeerId, reason: impl std::fmt::Display) -> QueueError {
    QueueError::new(ErrorCode::Unreachable, format!("{peer} cannot be reached: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskqueue_api::Role;

    use super::*;
    use crate::node::machine_tests::{address, session};

    /// A link is an `Arc` here. A test holds one clone, and sees by the count whether the connection holds the other.
    type Connections = super::Connections<Arc<()>>;

    fn way(is_dialled: bool) -> Way {
        Way { remote: address(1), is_dialled, is_relayed: false }
    }

    /// Adds an incoming connection, with or without a link.
    fn came(connections: &mut Connections, number: usize, link: Option<&Arc<()>>, now: Instant) -> ConnectionId {
        let connection = ConnectionId::new_unchecked(number);
        connections.established(connection, PeerId::random(), way(false), now);
        if let Some(link) = link {
            connections.opened(connection, Arc::clone(link));
        }
        connection
    }

    fn is_served(link: &Arc<()>) -> bool {
        Arc::strong_count(link) > 1
    }

    #[test]
    fn whoever_comes_in_and_says_nothing_is_silent_once_and_nobody_else_is() {
        let (mut connections, now, link) = (Connections::default(), Instant::now(), Arc::new(()));
        let silent = came(&mut connections, 1, None, now);
        came(&mut connections, 2, Some(&link), now);
        let gone = came(&mut connections, 3, None, now);
        let later = came(&mut connections, 4, None, now + Duration::from_secs(1));
        connections.established(ConnectionId::new_unchecked(5), PeerId::random(), way(true), now);
        connections.closed(gone);
        assert_eq!(connections.next_due(), Some(now + IDLE_TIMEOUT));
        assert_eq!(connections.take_silent(now + IDLE_TIMEOUT - Duration::from_millis(1)), []);
        assert_eq!(connections.take_silent(now + IDLE_TIMEOUT), [silent]);
        assert_eq!(connections.take_silent(now + IDLE_TIMEOUT), []);
        assert_eq!(connections.take_silent(now + 2 * IDLE_TIMEOUT), [later]);
        assert_eq!(connections.next_due(), None);
    }

    #[test]
    fn a_connection_closed_in_the_handshake_stays_until_its_link_has_said_why() {
        let (mut connections, now, link) = (Connections::default(), Instant::now(), Arc::new(()));
        let connection = came(&mut connections, 1, Some(&link), now);
        assert!(!connections.closed(connection));
        assert!(is_served(&link), "what has been read says why");
        assert!(!connections.give_up(connection), "it is closed already");
        assert!(connections.is_empty() && !is_served(&link));
    }

    #[test]
    fn what_is_given_up_proves_nothing_and_goes_when_it_is_closed() {
        let (mut connections, now, link) = (Connections::default(), Instant::now(), Arc::new(()));
        let connection = came(&mut connections, 1, Some(&link), now);
        assert!(connections.give_up(connection));
        assert!(!is_served(&link), "its session ends");
        assert_eq!(connections.proven(connection, session(), Arc::new(Grants::of(Role::Member))), None);
        assert_eq!((connections.session_count(), connections.is_empty()), (0, false));
        assert!(connections.closed(connection) && connections.is_empty());
    }

    #[test]
    fn a_link_of_a_connection_that_has_gone_ends_at_once() {
        let (mut connections, link) = (Connections::default(), Arc::new(()));
        connections.opened(ConnectionId::new_unchecked(1), Arc::clone(&link));
        assert!(!is_served(&link));
    }

    #[test]
    fn a_node_that_ends_drains_its_sessions_and_closes_what_carries_none() {
        let (mut connections, now, link) = (Connections::default(), Instant::now(), Arc::new(()));
        let proven = came(&mut connections, 1, Some(&link), now);
        let unproven = came(&mut connections, 2, Some(&link), now);
        let idle = came(&mut connections, 3, None, now);
        let session = session();
        assert_eq!(connections.proven(proven, session.clone(), Arc::new(Grants::of(Role::Member))), Some(way(false)));
        assert_eq!(connections.session_count(), 1);
        let mut carrying_nothing = connections.drain();
        carrying_nothing.sort_unstable();
        assert_eq!(carrying_nothing, [unproven, idle]);
        assert!(!session.is_open());
        assert!(connections.closed(proven), "its session has had its time");
    }
}
