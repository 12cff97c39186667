//! The loop's part about dialling: which peers, when, and with what result.

use std::io;

use libp2p::{
    Multiaddr, PeerId, TransportError,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use taskqueue_api::{ErrorCode, QueueError};

use super::{
    super::{
        Moment,
        address::without_peer,
        admission::Unwelcome,
        causes::{root_cause, source_of},
        connections::unreachable,
        peer_entry::Waiter,
        peers::Dial,
        redial::chance,
    },
    NodeLoop,
};

/// The most addresses that an error names. The first ones are enough to show what is wrong.
const ADDRESSES_SHOWN_MAX: usize = 4;

impl NodeLoop {
    pub(super) fn on_connect(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, waiter: Waiter) {
        if self.ending.has_begun() {
            waiter.answer(Err(QueueError::new(ErrorCode::ShuttingDown, "this node is stopping")));
        } else {
            self.peers.connect(peer, addresses, waiter, self.now());
        }
    }

    pub(super) fn dial_due(&mut self) {
        if !self.ending.has_begun() {
            for dial in self.peers.due(self.now()) {
                self.dial(dial);
            }
        }
    }

    fn dial(&mut self, dial: Dial) {
        let Dial { peer, addresses } = dial;
        let options = DialOpts::peer_id(peer)
            // Dials even if a connection exists, which may be from a client with the identity of that node.
            .condition(PeerCondition::Always)
            .addresses(addresses)
            // If two nodes dialled each other from the ports on which they listen, they would meet in one connection in
            // which both are the dialler.
            .allocate_new_port()
            .build();
        let connection = options.connection_id();
        self.peers.dialling(peer, connection);
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_error(peer, connection, &error);
        }
    }

    pub(super) fn on_dial_error(&mut self, peer: PeerId, connection: ConnectionId, error: &DialError) {
        if let DialError::WrongPeerId { address, .. } = error {
            self.peers.answered_by_another(peer, address);
        }
        let now = Moment::now(&*self.directory.runtime);
        self.peers.attempt_failed(peer, connection, &failure(peer, error), now, chance());
    }
}

fn failure(peer: PeerId, error: &DialError) -> QueueError {
    match error {
        DialError::Denied { cause } if source_of::<Unwelcome>(cause).is_some() => {
            let message = format!("this node's configuration forbids connections with {peer}: {}", root_cause(cause));
            QueueError::new(ErrorCode::Forbidden, message)
        }
        _ => unreachable(peer, reason(error)),
    }
}

fn reason(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => "it is this node itself".to_owned(),
        DialError::NoAddresses => "none of its addresses can be dialled".to_owned(),
        DialError::WrongPeerId { obtained, address } => format!("at {address} answers another peer, {obtained}"),
        DialError::Denied { cause } => root_cause(cause),
        DialError::Transport(failures) => {
            let shown = failures.iter().take(ADDRESSES_SHOWN_MAX);
            let shown: Vec<String> =
                shown.map(|(address, error)| format!("{} ({})", without_peer(address.clone()), cause(error))).collect();
            shown.join(", ")
        }
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => "the attempt was given up".to_owned(),
    }
}

fn cause(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => "not an address that this build can dial".to_owned(),
        TransportError::Other(error) => root_cause(error),
    }
}
