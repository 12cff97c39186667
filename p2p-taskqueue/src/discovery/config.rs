use std::collections::BTreeSet;

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{QueueError, api::Method};

/// The peers that a configuration may name: each is dialled, and dialled again, for as long as the node runs.
const CONFIGURED_MAX: usize = 64;

/// Which ways of finding peers are on. The default asks nobody who was not named: it uses explicit addresses, the peers
/// seen before, and the configured ones.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    methods: BTreeSet<Method>,
    pub(crate) bootstrap: Vec<Multiaddr>,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        let methods = [Method::Explicit, Method::AddressBook, Method::Bootstrap];
        Self { methods: methods.into(), bootstrap: Vec::new() }
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

    /// Whether the way is on.
    #[must_use]
    pub fn is_on(&self, method: Method) -> bool {
        self.methods.contains(&method)
    }
}

/// Addresses that say which peer is meant.
pub(crate) fn named(field: &str, addresses: impl IntoIterator<Item = Multiaddr>) -> Result<Vec<Multiaddr>, QueueError> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    if addresses.len() > CONFIGURED_MAX {
        return Err(QueueError::over_limit(field, addresses.len(), CONFIGURED_MAX, "addresses"));
    }
    let nameless = addresses.iter().find(|address| !matches!(address.iter().last(), Some(Protocol::P2p(_))));
    match nameless {
        Some(address) => Err(QueueError::invalid(field, format_args!("{address} does not end with /p2p/PEER_ID"))),
        None => Ok(addresses),
    }
}
