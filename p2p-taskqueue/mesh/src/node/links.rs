use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{ConnectedPoint, Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandlerInEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{admission::Admission, limits::DIAL_TIMEOUT};
use crate::wire::Role;

/// The node's own protocol: one stream for each connection, opened by the one that dialled.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/taskmesh/1.0.0");

/// The behaviour that hands the stream of each connection to the node, and keeps connections within their bounds.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) admission: Admission,
    /// At most one for each connection, because a handler reports once.
    opened: VecDeque<Opened>,
}

/// The outcome of opening a connection's stream.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) role: Role,
    /// `None` when the peer does not speak the protocol.
    pub(super) stream: Option<Stream>,
}

impl Links {
    pub(super) const fn new(admission: Admission) -> Self {
        Self { admission, opened: VecDeque::new() }
    }
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = Opened;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admission.inbound(connection, from).map_err(ConnectionDenied::new)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.admission.outbound(connection, peer)?;
        Ok(Vec::new())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.admission.check(connection, peer)?;
        Ok(Handler::new(Role::Listener))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        role: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admission.check(connection, peer)?;
        Ok(Handler::new(role_at(role)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.admission.established(event.connection_id, event.peer_id, event.endpoint);
            }
            FromSwarm::ConnectionClosed(event) => self.admission.closed(event.connection_id),
            FromSwarm::DialFailure(event) => self.admission.settled(event.connection_id),
            FromSwarm::ListenFailure(event) => self.admission.settled(event.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: FromHandler) {
        let FromHandler { role, stream } = event;
        self.admission.spoke(connection);
        self.opened.push_back(Opened { peer, connection, role, stream });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Opened, THandlerInEvent<Self>>> {
        // No waker is needed: an event comes in while the swarm polls, which then polls again.
        if let Some((peer_id, connection)) = self.admission.next_to_close() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        self.opened.pop_front().map_or(Poll::Pending, |opened| Poll::Ready(ToSwarm::GenerateEvent(opened)))
    }
}

/// Returns which end of an established connection this node is.
pub(super) fn role_of(endpoint: &ConnectedPoint) -> Role {
    match endpoint {
        ConnectedPoint::Dialer { role_override, .. } => role_at(*role_override),
        ConnectedPoint::Listener { .. } => Role::Listener,
    }
}

/// Returns the role that libp2p assigns. Both ends of a hole-punched connection have dialled, and one of them has
/// agreed to act as the listener.
const fn role_at(role: Endpoint) -> Role {
    match role {
        Endpoint::Dialer => Role::Dialer,
        Endpoint::Listener => Role::Listener,
    }
}

/// The handler that opens or accepts the one stream of a connection.
#[derive(Debug)]
pub(super) struct Handler {
    role: Role,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The dialler asks for a stream, and the listener waits for one.
    Start,
    Asked,
    Report(Option<Stream>),
    Reported,
}

/// What the handler tells the behaviour.
#[derive(Debug)]
pub(super) struct FromHandler {
    role: Role,
    stream: Option<Stream>,
}

type Protocol = ReadyUpgrade<StreamProtocol>;

impl Handler {
    const fn new(role: Role) -> Self {
        Self { role, state: State::Start }
    }

    fn took(&mut self, by: Role, stream: Option<Stream>) {
        // A second stream, or one from the wrong end, is closed by dropping it here.
        if by == self.role && matches!(self.state, State::Start | State::Asked) {
            self.state = State::Report(stream);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Protocol;
    type OutboundProtocol = Protocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Protocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(DIAL_TIMEOUT)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocol, (), FromHandler>> {
        match (std::mem::replace(&mut self.state, State::Reported), self.role) {
            (State::Start, Role::Dialer) => {
                self.state = State::Asked;
                let protocol = self.listen_protocol();
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            (State::Report(stream), role) => {
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromHandler { role, stream }))
            }
            // No waker is needed: the connection polls again after each event that it hands in.
            (state, _) => {
                self.state = state;
                Poll::Pending
            }
        }
    }

    fn on_behaviour_event(&mut self, event: std::convert::Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocol, Protocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.took(Role::Listener, Some(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.took(Role::Dialer, Some(protocol));
            }
            ConnectionEvent::DialUpgradeError(_) => self.took(Role::Dialer, None),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_ends_that_dialled_each_other_one_acts_as_the_listener() {
        let role = |role_override| {
            let address = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
            role_of(&ConnectedPoint::Dialer { address, role_override, port_use: PortUse::Reuse })
        };
        assert_eq!((role(Endpoint::Dialer), role(Endpoint::Listener)), (Role::Dialer, Role::Listener));
    }
}
