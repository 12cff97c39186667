use futures::{StreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taskqueue_api::{
    Capabilities, Check as _, Discover, Facts, Method, Operation as _, Peer, Peers, QueueError, StatusQuery, Target,
    limits::CALL_TIMEOUT_S_MAX,
};

use super::{arguments::Arguments, names::MadeOf, verb::Verb};
use crate::call::Asker;

/// Asks which peers a node knows and, if wanted, what each can do.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListPeers {
    /// Only those with a standing connection.
    #[serde(default)]
    connected_only: bool,
    /// Also ask each connected peer what it can do.
    #[serde(default)]
    include_capabilities: bool,
    /// How long each of them may take to say so, in seconds.
    #[serde(default = "default_capabilities_timeout_s")]
    #[schemars(range(min = 0, max = 600))]
    capabilities_timeout_s: f64,
    /// First look for peers that are not connected. Only the local node does; another one answers what it knows.
    #[serde(default = "default_discover")]
    discover: bool,
    /// How long to look, in seconds.
    #[serde(default = "default_discovery_timeout_s")]
    #[schemars(range(min = 0, max = 600))]
    discovery_timeout_s: f64,
    /// Only in these ways; without any in all that are switched on.
    #[serde(default)]
    discovery_methods: Vec<Method>,
    /// How many peers at the most.
    #[serde(default = "default_limit")]
    limit: u32,
}

/// The answer to a [`ListPeers`].
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PeersFound {
    /// Who answers.
    self_peer_id: String,
    /// How many peers follow.
    count: usize,
    /// The peers.
    peers: Vec<PeerFound>,
}

/// A peer and, when asked for, what it can do.
#[derive(Debug, Serialize, JsonSchema)]
struct PeerFound {
    #[serde(flatten)]
    peer: Peer,
    /// With `include_capabilities`: what it answered; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
}

impl Verb for ListPeers {
    type Answer = PeersFound;

    const NEEDS: Facts = Peers::FACTS;

    const MADE_OF: &'static [MadeOf] = &[("timeout_s", &["discovery_timeout_s"]), ("methods", &["discovery_methods"])];

    fn read(arguments: Arguments<'_>) -> Result<Self, QueueError> {
        let read: Self = arguments.into_type()?;
        if !(0.0..=CALL_TIMEOUT_S_MAX).contains(&read.capabilities_timeout_s) {
            let message = format_args!("must be from 0 to {CALL_TIMEOUT_S_MAX}");
            return Err(QueueError::invalid("capabilities_timeout_s", message));
        }
        read.search().check()?;
        Ok(read)
    }

    async fn run(self, asker: Asker<'_>, target: Target) -> Result<PeersFound, QueueError> {
        if self.discover && target.is_local() {
            // The peers that the search finds are connected afterwards, so they are listed. If it fails, the node still
            // lists the peers that it knows.
            let _looked = asker.ask(Target::default(), self.search()).await;
        }
        let listed = asker.ask(target, Peers { connected_only: self.connected_only }).await?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let peers: Vec<_> = stream::iter(listed.peers.into_iter().take(limit))
            .map(|peer| self.describe(asker, peer))
            .buffered(ASKED_AT_ONCE)
            .collect()
            .await;
        Ok(PeersFound { self_peer_id: listed.self_peer_id.to_string(), count: peers.len(), peers })
    }
}

impl ListPeers {
    fn search(&self) -> Discover {
        let methods = self.discovery_methods.clone();
        Discover { methods, timeout_s: self.discovery_timeout_s, ..Discover::default() }
    }

    async fn describe(&self, asker: Asker<'_>, peer: Peer) -> PeerFound {
        let mut capabilities = None;
        if self.include_capabilities && peer.connected {
            let query = StatusQuery { timeout_s: self.capabilities_timeout_s, detail: false };
            capabilities = asker.ask(Target::peer(peer.peer_id), query).await.ok().map(|status| status.capabilities);
        }
        PeerFound { peer, capabilities }
    }
}

const fn default_capabilities_timeout_s() -> f64 {
    5.0
}

const fn default_discover() -> bool {
    true
}

/// Returns a time that is enough for the local network to answer, in seconds.
const fn default_discovery_timeout_s() -> f64 {
    1.5
}

const fn default_limit() -> u32 {
    50
}

/// The most peers that are asked for their capabilities at once. Several slow peers delay the list by one timeout only,
/// and one call does not use up the bounds of the node.
const ASKED_AT_ONCE: usize = 16;
