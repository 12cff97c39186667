//! The running parts of this process. Whatever the mode, they are announced and ended in the same way.

use std::path::PathBuf;

use p2p_taskqueue::{Multiaddr, PeerId};
use serde::Serialize;

use super::{front::Front, node::NodeSide};

/// The line that says that everything is running.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ready {
    pub(super) event: &'static str,
    /// `None` without an MCP server.
    pub(crate) http: Option<String>,
    pub(crate) peer_id: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    /// The addresses at which other processes can ask the node. In an MCP server without a node it is the address of
    /// the node that this process asks.
    pub(crate) rpc: Vec<String>,
    /// The file with the token that clients of the RPC over HTTP have to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc_token_file: Option<PathBuf>,
    pub(crate) mode: &'static str,
    pub(crate) p2p_runtime: String,
}

impl Ready {
    pub(super) const EVENT: &str = "ready";
}

/// An MCP server, a node, or both.
#[derive(Debug)]
pub(crate) struct Server {
    ready: Ready,
    front: Option<Front>,
    node: Option<NodeSide>,
}

impl Server {
    pub(super) const fn new(ready: Ready, front: Option<Front>, node: Option<NodeSide>) -> Self {
        Self { ready, front, node }
    }

    pub(crate) const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Ends everything in order, within two seconds: first the parts that take calls, last the parts that those need. A
    /// task that a worker holds goes back to its owner. A request that is still under way is cut off.
    pub(crate) async fn shutdown(self) {
        let front = async {
            if let Some(front) = self.front {
                front.shutdown().await;
            }
        };
        match self.node {
            Some(node) => node.shutdown(front).await,
            None => front.await,
        }
    }
}
