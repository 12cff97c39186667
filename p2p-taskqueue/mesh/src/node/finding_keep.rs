//! Keeps connections open to configured peers that serve a discovery role but do not speak the node's own protocol.
//! There is no stream that would keep these connections open.

use std::{
    collections::HashSet,
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse, upgrade::DeniedUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        SubstreamProtocol, THandlerInEvent, ToSwarm, handler::ConnectionEvent,
    },
};

/// The behaviour that knows the peers whose connections stay open.
#[derive(Debug, Default)]
pub(super) struct Keep {
    peers: HashSet<PeerId>,
}

impl Keep {
    pub(super) const fn new(peers: HashSet<PeerId>) -> Self {
        Self { peers }
    }

    /// Returns whether the configuration names the peer for a role, so that it need not speak the node's own protocol.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.peers.contains(peer)
    }
}

impl NetworkBehaviour for Keep {
    type ConnectionHandler = KeepHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<KeepHandler, ConnectionDenied> {
        // This node asks such peers only over connections that it has dialled.
        Ok(KeepHandler { is_kept: false })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<KeepHandler, ConnectionDenied> {
        Ok(KeepHandler { is_kept: self.has(&peer) })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// The handler that tells whether its connection stays open, and does nothing else.
#[derive(Debug)]
pub(super) struct KeepHandler {
    is_kept: bool,
}

impl ConnectionHandler for KeepHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.is_kept
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_dialled_to_a_configured_peer_is_kept() {
        let [point, other] = [PeerId::random(), PeerId::random()];
        let mut keep = Keep::new(HashSet::from([point]));
        let (id, address) = (ConnectionId::new_unchecked(1), Multiaddr::empty());
        let mut dialled = |peer| {
            let (end, port) = (Endpoint::Dialer, PortUse::New);
            keep.handle_established_outbound_connection(id, peer, &address, end, port).unwrap().connection_keep_alive()
        };
        assert_eq!((dialled(point), dialled(other)), (true, false));
        let inbound = keep.handle_established_inbound_connection(id, point, &address, &address).unwrap();
        assert!(!inbound.connection_keep_alive());
    }
}
