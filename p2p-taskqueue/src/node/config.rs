use libp2p::Multiaddr;

use crate::{Identity, MeshSecret, discovery::DiscoveryConfig};

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub(crate) identity: Identity,
    pub(crate) secret: MeshSecret,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) serves: bool,
    pub(crate) mode: String,
    pub(crate) p2p_runtime: String,
    pub(crate) discovery: DiscoveryConfig,
}

impl NodeConfig {
    /// A node of this identity in the mesh of this secret. It needs an address to listen on.
    #[must_use]
    pub fn new(identity: Identity, secret: MeshSecret) -> Self {
        Self {
            identity,
            secret,
            listen: Vec::new(),
            serves: true,
            mode: "bridge".to_owned(),
            p2p_runtime: "tokio".to_owned(),
            discovery: DiscoveryConfig::default(),
        }
    }

    /// A node that only asks: it listens nowhere, is asked nothing and redials nobody.
    pub(super) fn client(identity: Identity, secret: MeshSecret) -> Self {
        Self { serves: false, ..Self::new(identity, secret) }
    }

    /// Listens on these addresses, for example `/ip4/127.0.0.1/tcp/9710`; port 0 takes a free one.
    #[must_use]
    pub fn with_listen(self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        Self { listen: addresses.into_iter().collect(), ..self }
    }

    /// What `status` says of how the node's HTTP and p2p sides are joined.
    #[must_use]
    pub fn with_mode(self, mode: impl Into<String>) -> Self {
        Self { mode: mode.into(), ..self }
    }

    /// Finds peers in these ways.
    #[must_use]
    pub fn with_discovery(self, discovery: DiscoveryConfig) -> Self {
        Self { discovery, ..self }
    }

    /// What `status` says of the runtime under the node.
    #[must_use]
    pub fn with_p2p_runtime(self, name: impl Into<String>) -> Self {
        Self { p2p_runtime: name.into(), ..self }
    }
}
