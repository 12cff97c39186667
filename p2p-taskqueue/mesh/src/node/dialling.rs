//! The loop's part about dialling: whom, when, and what came of it.

use std::{error::Error, io};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use taskqueue_api::{ErrorCode, QueueError};

use super::{
    addresses::Source,
    admission::Unwelcome,
    connections::{OTHER_PROTOCOL, unreachable},
    driver::{NodeLoop, unix_now},
    peers::{Patience, Waiter},
    refusals::{cause_of, source_of},
    transport::without_peer,
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
        entry.failed(failure, unix_now());
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

/// What is at the bottom: the layers above only say through which layer it came.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = cause_of(error) {
        error = inner;
    }
    error.to_string()
}

/// A number from 0 to 1.
pub(super) fn chance() -> f64 {
    // Without randomness every node waits equally long, which is a nuisance and no more.
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_at_the_bottom_is_shown() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let wrapped = io::Error::other(io::Error::other(refused));
        assert_eq!(root_cause(&wrapped), io::Error::from(io::ErrorKind::ConnectionRefused).to_string());
    }
}
