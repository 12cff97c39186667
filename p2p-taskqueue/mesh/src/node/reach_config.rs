use std::collections::BTreeSet;

use libp2p::{Multiaddr, multiaddr::Protocol};
use taskqueue_api::QueueError;

use super::address::is_relayed;
use crate::discovery::named;

/// The means by which a node is reached from networks that cannot dial it. By default all of them are off.
///
/// Whatever is switched on, a peer gets in only by the proof of the mesh secret: a relay, a hole in a firewall and a
/// mapped port only carry the encrypted connection.
#[derive(Debug, Clone, Default)]
pub struct ReachConfig {
    pub(super) relays: Vec<Multiaddr>,
    means: BTreeSet<Means>,
}

/// The means that can be switched on, besides the relays through which the node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Means {
    RelayServer,
    Autonat,
    HolePunching,
    Upnp,
}

impl ReachConfig {
    /// Sets the relays: nodes of the same mesh through which others reach this one. The node stays connected with each
    /// of them.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when an address does not end with `/p2p/PEER_ID` or leads through a relay itself,
    /// `limit_exceeded` when there are more than 64.
    pub fn with_relays(self, addresses: impl IntoIterator<Item = Multiaddr>) -> Result<Self, QueueError> {
        let relays = named("relays", addresses)?;
        let unusable = relays.iter().find(|address| is_relayed(address) || is_bare(address));
        match unusable {
            Some(address) => Err(QueueError::invalid("relays", format_args!("{address} is not a relay's own address"))),
            None => Ok(Self { relays, ..self }),
        }
    }

    /// Sets whether members of the mesh may reach each other through this node.
    #[must_use]
    pub fn with_relay_server(self, is_on: bool) -> Self {
        self.with(Means::RelayServer, is_on)
    }

    /// Sets whether the node asks its peers to dial it back, to learn at which of its addresses it can be reached, and
    /// dials those that ask it.
    #[must_use]
    pub fn with_autonat(self, is_on: bool) -> Self {
        self.with(Means::Autonat, is_on)
    }

    /// Sets whether a connection through a relay is followed by an attempt at a direct one, from both ends at once.
    #[must_use]
    pub fn with_hole_punching(self, is_on: bool) -> Self {
        self.with(Means::HolePunching, is_on)
    }

    /// Sets whether the router is asked to let connections in.
    #[must_use]
    pub fn with_upnp(self, is_on: bool) -> Self {
        self.with(Means::Upnp, is_on)
    }

    pub(super) fn is_on(&self, means: Means) -> bool {
        self.means.contains(&means)
    }

    fn with(mut self, means: Means, is_on: bool) -> Self {
        if is_on {
            self.means.insert(means);
        } else {
            self.means.remove(&means);
        }
        self
    }
}

/// Returns whether the address names only a peer, and no host.
fn is_bare(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::P2p(_)))
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn only_the_own_address_of_a_relay_is_taken() {
        let (relay, other) = (PeerId::random(), PeerId::random());
        let taken = |text: String| ReachConfig::default().with_relays([text.parse().unwrap()]);
        assert!(taken(format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}")).is_ok());
        for text in [
            "/ip4/192.0.2.1/tcp/1".to_owned(),
            format!("/p2p/{relay}"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{other}"),
        ] {
            assert!(taken(text.clone()).is_err(), "{text}");
        }
    }
}
