//! The loop's part about dialling: whom, when, and what came of it.

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
    Moment,
    address::without_peer,
    addresses::Source,
    admission::Unwelcome,
    causes::{root_cause, source_of},
    connections::{OTHER_PROTOCOL, unreachable},
    driver::NodeLoop,
    peers::{Patience, Waiter},
    redial::chance,
};

/// The addresses that an error names: the first ones tell what is wrong.
const ADDRESSES_SHOWN_MAX: usize = 4;

impl NodeLoop {
    pub(super) fn on_connect(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, waiter: Waiter) {
        if self.stopping.is_some() {
            let _gone = waiter.reply.send(Err(QueueError::new(ErrorCode::ShuttingDown, "this node is stopping")));
            return;
        }
        let is_known =
            self.peers.get(&peer).is_some_and(|entry| !entry.addresses.is_empty() || !entry.sessions.is_empty());
        if !is_known && addresses.is_empty() {
            let _gone = waiter.reply.send(Err(unknown(peer)));
            return;
        }
        let now = self.directory.runtime.now();
        let entry = self.peers.entry(peer, now);
        entry.addresses.learn(Source::Found, addresses);
        if let Some(session) = entry.open_session() {
            let _gone = waiter.reply.send(Ok(session.clone()));
            return;
        }
        if entry.plain.is_some() {
            let _gone = waiter.reply.send(Err(unreachable(peer, OTHER_PROTOCOL)));
            return;
        }
        // Somebody asks now: the impatient do not wait for the next redial.
        if waiter.patience == Patience::OneAttempt {
            entry.redial.hasten(now);
        }
        entry.wait(waiter);
    }

    pub(super) fn dial_due(&mut self) {
        if self.stopping.is_none() {
            for peer in self.peers.due(self.directory.runtime.now()) {
                self.dial(peer);
            }
        }
    }

    fn dial(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let options = DialOpts::peer_id(peer)
            // A client with the identity of that node may be connected, which says nothing about the node.
            .condition(PeerCondition::Always)
            .addresses(entry.addresses.all())
            // Two nodes that dial each other from the ports on which they listen would meet in one connection, in which
            // both are the dialer.
            .allocate_new_port()
            .build();
        let connection = options.connection_id();
        entry.attempt = Some(connection);
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_error(peer, connection, &error);
        }
    }

    pub(super) fn on_dial_error(&mut self, peer: PeerId, connection: ConnectionId, error: &DialError) {
        if let (DialError::WrongPeerId { address, .. }, Some(entry)) = (error, self.peers.get_mut(&peer)) {
            entry.addresses.forget(&without_peer(address.clone()));
        }
        self.attempt_failed(peer, connection, &failure(peer, error));
    }

    /// If the connection was that of the attempt under way, the attempt is over, and the next one is set.
    pub(super) fn attempt_failed(&mut self, peer: PeerId, connection: ConnectionId, failure: &QueueError) {
        let now = self.directory.runtime.now();
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.attempt.take_if(|attempt| *attempt == connection).is_none() {
            return;
        }
        tracing::debug!(%peer, error = %failure, "failed to connect");
        if failure.code == ErrorCode::Unreachable {
            entry.redial.failed(now, chance());
        } else {
            entry.redial.turned_away(now, chance());
        }
        entry.failed(failure, Moment::now(&*self.directory.runtime).unix_s);
    }
}

fn unknown(peer: PeerId) -> QueueError {
    let message = format!(
        "{peer} is not known here: give its address (/ip4/…/tcp/…/p2p/{peer}), or join its mesh with a ticket from it"
    );
    QueueError::new(ErrorCode::NotFound, message)
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
