//! A gate that leaves unread what a peer sends by some protocols, such as those of discovery, until the peer has proved
//! that it belongs to the mesh.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend},
    },
};

/// The most streams of a connection that wait for the proof. A peer that is about to prove itself may ask a question or
/// two ahead.
const HELD_MAX: usize = 8;

/// A behaviour that serves only peers that have proved themselves.
pub(super) struct Gated<B> {
    pub(super) inner: B,
    /// The connections whose handlers are still to be told to open the gate.
    opening: VecDeque<(PeerId, ConnectionId)>,
}

impl<B> Gated<B> {
    pub(super) const fn new(inner: B) -> Self {
        Self { inner, opening: VecDeque::new() }
    }

    /// Opens the gate of this connection, because its peer has proved itself.
    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        // No waker is needed: the node's loop polls the swarm next, and the swarm polls this behaviour.
        self.opening.push_back((peer, connection));
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = GatedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote).map(GatedHandler::new)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let handler = self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use);
        handler.map(GatedHandler::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<B::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.opening.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: ToGated::Open });
        }
        self.inner.poll(cx).map(|event| event.map_in(ToGated::Inner))
    }
}

/// What the behaviour tells the handler of a connection.
#[derive(Debug)]
pub(super) enum ToGated<E> {
    /// The peer has proved itself.
    Open,
    Inner(E),
}

type Inbound<H> =
    FullyNegotiatedInbound<<H as ConnectionHandler>::InboundProtocol, <H as ConnectionHandler>::InboundOpenInfo>;

/// Holds the streams that the peer opens, unread, until the gate opens.
pub(super) struct GatedHandler<H: ConnectionHandler> {
    inner: H,
    /// `None` once the gate is open.
    held: Option<Vec<Inbound<H>>>,
}

impl<H: ConnectionHandler> GatedHandler<H> {
    const fn new(inner: H) -> Self {
        Self { inner, held: Some(Vec::new()) }
    }
}

impl<H> ConnectionHandler for GatedHandler<H>
where
    H: ConnectionHandler,
    H::InboundOpenInfo: Send,
    <H::InboundProtocol as InboundUpgradeSend>::Output: Send,
{
    type FromBehaviour = ToGated<H::FromBehaviour>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        self.inner.poll(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            ToGated::Open => {
                for stream in self.held.take().into_iter().flatten() {
                    self.inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(stream));
                }
            }
            ToGated::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match (event, &mut self.held) {
            (ConnectionEvent::FullyNegotiatedInbound(stream), Some(held)) => {
                // A stream for which there is no room is closed by dropping it.
                if held.len() < HELD_MAX {
                    held.push(stream);
                }
            }
            (event, _) => self.inner.on_connection_event(event),
        }
    }
}
