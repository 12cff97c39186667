//! The names of machines, for what is shown to people.

use std::collections::BTreeMap;

use p2p_taskqueue::PeerId;

use crate::data_dir::DataDir;

/// The names of the machines of the mesh, as far as this machine has heard.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<PeerId, String>);

impl Names {
    /// Reads the names from what the node keeps. Without them, peer ids are shown.
    pub(crate) fn of(data_dir: &DataDir) -> Self {
        Self(data_dir.mesh().ok().flatten().map(|mesh| mesh.names()).unwrap_or_default())
    }

    /// Returns the name of the machine, or its peer id.
    pub(crate) fn show(&self, peer: &PeerId) -> String {
        self.0.get(peer).cloned().unwrap_or_else(|| peer.to_string())
    }
}
