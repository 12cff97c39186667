use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId};
use taskqueue_api::{Method, QueueError, peer_of};

use super::namespace::Namespace;
use crate::MeshSecret;

/// How many peers a configuration may name: each is dialled again and again for as long as the node runs.
const CONFIGURED_MAX: usize = 64;

/// Which ways of finding peers are on. By default a node only uses explicit addresses, peers that it has seen before, and
/// configured peers.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    methods: BTreeSet<Method>,
    pub(crate) bootstrap: Vec<Multiaddr>,
    pub(crate) rendezvous_points: Vec<Multiaddr>,
    pub(crate) is_rendezvous_server: bool,
    /// A name in place of the one that is derived from the mesh secret.
    namespace: Option<Namespace>,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        let methods = [Method::Explicit, Method::AddressBook, Method::Bootstrap];
        Self {
            methods: methods.into(),
            bootstrap: Vec::new(),
            rendezvous_points: Vec::new(),
            is_rendezvous_server: false,
            namespace: None,
        }
    }
}

impl DiscoveryConfig {
    /// Switches a way on or off.
    #[must_use]
    pub fn with_method(mut self, method: Method, is_on: bool) -> Self {
        if is_on {
            self.methods.insert(method);
        } else {
            self.methods.remove(&method);
        }
        self
    }

    /// Peers to dial at the start and whenever the connection to them is lost.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when an address does not end with `/p2p/PEER_ID`, `limit_exceeded` when there are more than 64.
    pub fn with_bootstrap(self, addresses: impl IntoIterator<Item = Multiaddr>) -> Result<Self, QueueError> {
        Ok(Self { bootstrap: named("bootstrap", addresses)?, ..self })
    }

    /// The rendezvous points where this node leaves its addresses and looks for those of others: nodes of the mesh, or any
    /// libp2p rendezvous servers. While rendezvous is on, they are dialled like bootstrap peers.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when an address does not end with `/p2p/PEER_ID`, `limit_exceeded` when there are more than 64.
    pub fn with_rendezvous_points(self, addresses: impl IntoIterator<Item = Multiaddr>) -> Result<Self, QueueError> {
        Ok(Self { rendezvous_points: named("rendezvous_points", addresses)?, ..self })
    }

    /// Whether this node is a rendezvous point for others. By default it is not.
    #[must_use]
    pub fn with_rendezvous_server(self, is_on: bool) -> Self {
        Self { is_rendezvous_server: is_on, ..self }
    }

    /// Looks for the mesh's nodes, by rendezvous and in the hash table, under this name instead of one that follows from
    /// the mesh secret and that a stranger cannot guess. Every node of the mesh needs the same.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when it has other characters than letters, digits, `-`, `_` and `.`, or none; `limit_exceeded`
    /// when it is longer than 64 bytes.
    pub fn with_namespace(self, name: impl Into<String>) -> Result<Self, QueueError> {
        Ok(Self { namespace: Some(Namespace::configured(name.into())?), ..self })
    }

    /// The name under which the nodes of a mesh with this secret look for each other.
    pub(crate) fn namespace(&self, secret: &MeshSecret) -> Namespace {
        self.namespace.clone().unwrap_or_else(|| Namespace::of(secret))
    }

    /// The peers to dial at the start and whenever the connection to them is lost, and where they are.
    pub(crate) fn configured(&self) -> impl Iterator<Item = (PeerId, Multiaddr)> {
        let of = |method, addresses: &Vec<_>| if self.is_on(method) { addresses.clone() } else { Vec::new() };
        let addresses = [of(Method::Bootstrap, &self.bootstrap), of(Method::Rendezvous, &self.rendezvous_points)];
        addresses.into_iter().flatten().filter_map(|address| Some((peer_of(&address)?, address)))
    }

    /// The addresses of the rendezvous points that this node uses, each with its peer id. They need not be nodes of the mesh.
    pub(crate) fn points(&self) -> &[Multiaddr] {
        if self.is_on(Method::Rendezvous) { &self.rendezvous_points } else { &[] }
    }

    /// Whether the way is on.
    #[must_use]
    pub fn is_on(&self, method: Method) -> bool {
        self.methods.contains(&method)
    }
}

/// Checks that each address says which peer is meant.
pub(crate) fn named(field: &str, addresses: impl IntoIterator<Item = Multiaddr>) -> Result<Vec<Multiaddr>, QueueError> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    if addresses.len() > CONFIGURED_MAX {
        return Err(QueueError::over_limit(field, addresses.len(), CONFIGURED_MAX, "addresses"));
    }
    let nameless = addresses.iter().find(|address| peer_of(address).is_none());
    match nameless {
        Some(address) => Err(QueueError::invalid(field, format_args!("{address} does not end with /p2p/PEER_ID"))),
        None => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use taskqueue_api::ErrorCode;

    use super::*;

    fn addresses(count: usize) -> Vec<Multiaddr> {
        (0..count).map(|_| format!("/ip4/192.0.2.1/tcp/1/p2p/{}", PeerId::random()).parse().unwrap()).collect()
    }

    #[test]
    fn the_peers_of_a_way_that_is_off_are_not_dialled() {
        let config = DiscoveryConfig::default().with_bootstrap(addresses(1)).unwrap();
        let config = config.with_rendezvous_points(addresses(2)).unwrap();
        assert_eq!((config.configured().count(), config.points().len()), (1, 0));
        let config = config.with_method(Method::Rendezvous, true).with_method(Method::Bootstrap, false);
        assert_eq!((config.configured().count(), config.points().len()), (2, 2));
    }

    #[test]
    fn configured_peers_are_few_and_named() {
        let points = |addresses| DiscoveryConfig::default().with_rendezvous_points(addresses);
        assert!(points(addresses(CONFIGURED_MAX)).is_ok());
        assert_eq!(points(addresses(CONFIGURED_MAX + 1)).unwrap_err().code, ErrorCode::LimitExceeded);
        let nameless = vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap()];
        assert_eq!(points(nameless).unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_configured_name_takes_the_place_of_the_one_of_the_secret() {
        let (one, two) = (MeshSecret::from_bytes([1; 32]), MeshSecret::from_bytes([2; 32]));
        let config = DiscoveryConfig::default();
        assert_ne!(config.namespace(&one), config.namespace(&two));
        let config = config.with_namespace("garden").unwrap();
        assert_eq!(config.namespace(&one), config.namespace(&two));
    }
}
