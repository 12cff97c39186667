use std::{fmt, io};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::Mesh;

/// A peer that the node remembers, to dial it again after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RememberedPeer {
    /// The id of the peer.
    pub peer_id: PeerId,
    /// The addresses that the peer itself has named or at which it has proved itself; the best first.
    pub addresses: Vec<Multiaddr>,
    /// Those of them at which it has proved itself. No address that others name displaces these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proven: Vec<Multiaddr>,
    /// When the node last heard of it, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
}

/// The place where a node keeps what must survive a restart: the peers that it knows, and its part in its mesh.
///
/// The methods are called on the node's own thread, so they should take no longer than it takes to write a small file.
/// The node calls `save_peers` seldom (a change is saved some seconds later, together with those after it) and never
/// with more than 1,024 peers of 16 addresses.
pub trait NodeFiles: Send + Sync + fmt::Debug {
    /// Returns the peers of the last run. The list is empty when there are none or they cannot be read.
    fn load_peers(&self) -> Vec<RememberedPeer>;

    /// Saves the peers.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node logs it and goes on.
    fn save_peers(&self, peers: &[RememberedPeer]) -> io::Result<()>;

    /// Saves what the node knows of its mesh, the root key included if the node has it. It is on stable storage when
    /// this returns.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node then does not make the change.
    fn save_mesh(&self, mesh: &Mesh) -> io::Result<()>;

    /// Returns the request to join that the node has not been able to carry out yet, as
    /// [`save_pending_join`](Self::save_pending_join) was given it.
    fn load_pending_join(&self) -> Option<String> {
        None
    }

    /// Saves a request to join, with which the node goes on after a restart; `None` removes it. The text holds a ticket, so
    /// only the node's user may read it.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node then does not go on trying.
    fn save_pending_join(&self, _request: Option<&str>) -> io::Result<()> {
        Ok(())
    }

    /// Returns what the node knew of the workers of other machines, as [`save_workers`](Self::save_workers) was given it.
    fn load_workers(&self) -> Option<String> {
        None
    }

    /// Saves what the node knows of the workers of other machines, so that it knows after a restart what a machine that is
    /// away would take. A change is saved within 15 s, together with those after it.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node logs it and goes on.
    fn save_workers(&self, _workers: &str) -> io::Result<()> {
        Ok(())
    }

    /// Writes the text of an announce file, which tells the other programs of this machine where the node is.
    ///
    /// # Errors
    ///
    /// The operating system's error. The node logs it and goes on.
    fn announce(&self, _announcement: &str) -> io::Result<()> {
        Ok(())
    }

    /// Returns the announce files of this machine, the newest first: the path of each, and its text.
    fn announcements(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A [`NodeFiles`] that keeps nothing, for clients and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl NodeFiles for NoFiles {
    fn load_peers(&self) -> Vec<RememberedPeer> {
        Vec::new()
    }

    fn save_peers(&self, _: &[RememberedPeer]) -> io::Result<()> {
        Ok(())
    }

    fn save_mesh(&self, _: &Mesh) -> io::Result<()> {
        Ok(())
    }
}
