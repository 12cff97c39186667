use std::{fmt, io};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::MeshSecret;

/// A peer that the node remembers, to dial it again after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RememberedPeer {
    /// Who it is.
    pub peer_id: PeerId,
    /// Where it said that it can be reached, or was reached; the best first.
    pub addresses: Vec<Multiaddr>,
    /// Of these, the ones over which it has proved itself: no address that others say displaces them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proven: Vec<Multiaddr>,
    /// When it was last heard of, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
}

/// What a node keeps between its runs: the peers that it knows, and the secret of the mesh that it has joined.
///
/// The methods are called on the node's own thread: they should take no longer than writing a small file does. The node
/// calls `save_peers` seldom (a change is saved some seconds later, together with those after it) and never with more than
/// 1,024 peers of 16 addresses.
pub trait NodeFiles: Send + Sync + fmt::Debug {
    /// The peers of the last run; none when there are none or they cannot be read.
    fn load_peers(&self) -> Vec<RememberedPeer>;

    /// Keeps the peers.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node logs it and goes on.
    fn save_peers(&self, peers: &[RememberedPeer]) -> io::Result<()>;

    /// Keeps the secret of the mesh that was joined; on stable storage before it returns.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node then does not join.
    fn save_secret(&self, secret: &MeshSecret) -> io::Result<()>;

    /// Tells the other programs of this machine where the node is, in the text of an announce file.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node logs it and goes on.
    fn announce(&self, _announcement: &str) -> io::Result<()> {
        Ok(())
    }

    /// The announce files of this machine, each with its place, the newest first.
    fn announcements(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Keeps nothing: for clients and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl NodeFiles for NoFiles {
    fn load_peers(&self) -> Vec<RememberedPeer> {
        Vec::new()
    }

    fn save_peers(&self, _: &[RememberedPeer]) -> io::Result<()> {
        Ok(())
    }

    fn save_secret(&self, _: &MeshSecret) -> io::Result<()> {
        Ok(())
    }
}
