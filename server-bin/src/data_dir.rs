//! The data folder: its place, its lock, and the files that this program adds to those of a node.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use etcetera::{AppStrategy as _, AppStrategyArgs};
use p2p_taskqueue::{
    DataFolder, DataFolderError, Identity, LockedFolder, Mesh, PeerId,
    api::whole_peer_id,
    mesh::{NodeFiles, RememberedPeer},
};

use crate::{
    announce::AnnounceFiles,
    failure::Failure,
    rpc::{RpcAddress, Token},
};

/// A data folder that this process may read, whether or not a node runs on it.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    folder: DataFolder,
}

impl DataDir {
    /// Returns the folder at `path`, or the platform's data folder. A missing folder is made, for this user only.
    pub(crate) fn locate(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => platform_folder()?,
        };
        Ok(Self { folder: DataFolder::make(path)? })
    }

    /// Returns what a node keeps in the folder.
    pub(crate) const fn files(&self) -> &impl NodeFiles {
        &self.folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.socket()
    }

    /// Returns the address at which commands of this machine ask the node.
    pub(crate) fn rpc(&self) -> RpcAddress {
        RpcAddress::Unix(self.socket())
    }

    /// Returns the path of the file with the token that clients of the RPC over HTTP have to show.
    pub(crate) fn rpc_token(&self) -> PathBuf {
        self.path().join(RPC_TOKEN)
    }

    /// Returns the path at which the configuration is looked for when no file is named.
    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.store()
    }

    /// Locks the folder for this process alone, until the returned value is dropped or the process ends in any way.
    pub(crate) fn lock(&self) -> Result<LockedDir, Failure> {
        Ok(LockedDir { dir: self.clone(), locked: self.folder.lock()? })
    }

    /// Reads this machine's identity; `None` before the first start.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(self.folder.identity()?)
    }

    /// Returns the machine that a person means in the argument `name`: a member of the mesh, or any peer by its id.
    pub(crate) fn machine(&self, name: &str, text: &str) -> Result<PeerId, Failure> {
        let nowhere = || format!("{text:?} is no peer id, and this machine knows no mesh");
        let found = match self.mesh()? {
            Some(mesh) => mesh.find(text),
            None => whole_peer_id(text).ok_or_else(nowhere),
        };
        found.map_err(|problem| Failure::argument(name, problem))
    }

    /// Reads what this machine knows of its mesh; `None` before the first start or join.
    pub(crate) fn mesh(&self) -> Result<Option<Mesh>, Failure> {
        Ok(self.folder.mesh()?)
    }
}

impl From<DataFolderError> for Failure {
    fn from(error: DataFolderError) -> Self {
        match error {
            DataFolderError::InUse { path, holder } => {
                let holder = holder.map(|process| format!(" (process {process})")).unwrap_or_default();
                Self::Configuration(anyhow!(
                    "the data folder {} is in use by a running taskmesh{holder}: \
                     stop that one, or choose another folder with --data-dir",
                    path.display()
                ))
            }
            error => anyhow!(error).into(),
        }
    }
}

/// A data folder that this process has locked.
#[derive(Debug)]
pub(crate) struct LockedDir {
    dir: DataDir,
    locked: LockedFolder,
}

impl LockedDir {
    pub(crate) const fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Reads this machine's identity, which is made at the first start.
    pub(crate) fn identity_or_new(&self) -> Result<Identity, Failure> {
        Ok(self.locked.identity_or_new()?)
    }

    /// Reads what this machine knows of its mesh, which begins at the first start.
    pub(crate) fn mesh_or_new(&self, identity: &Identity) -> Result<Mesh, Failure> {
        Ok(self.locked.mesh_or_new(identity)?)
    }

    /// Keeps what this machine knows of its mesh.
    pub(crate) fn save_mesh(&self, mesh: &Mesh) -> io::Result<()> {
        self.dir.folder.save_mesh(mesh)
    }

    /// Reads the token that clients of the RPC over HTTP have to show. It is made at the first start that needs it.
    pub(crate) fn rpc_token_or_new(&self) -> Result<Token, Failure> {
        if let Some(token) = Token::read(&self.dir.rpc_token())? {
            return Ok(token);
        }
        let token = Token::generate()?;
        let kept = self.locked.folder().write_durably(RPC_TOKEN, token.text().as_bytes());
        kept.context("cannot keep the token of the RPC")?;
        Ok(token)
    }
}

/// The files of a node: the data folder, and the announce files of this node and of others on this machine.
#[derive(Debug)]
pub(crate) struct NodeFolder {
    pub(crate) dir: DataDir,
    pub(crate) announce: AnnounceFiles,
}

impl NodeFiles for NodeFolder {
    fn load_peers(&self) -> Vec<RememberedPeer> {
        self.dir.folder.load_peers()
    }

    fn save_peers(&self, peers: &[RememberedPeer]) -> io::Result<()> {
        self.dir.folder.save_peers(peers)
    }

    fn save_mesh(&self, mesh: &Mesh) -> io::Result<()> {
        self.dir.folder.save_mesh(mesh)
    }

    fn load_pending_join(&self) -> Option<String> {
        self.dir.folder.load_pending_join()
    }

    fn save_pending_join(&self, request: Option<&str>) -> io::Result<()> {
        self.dir.folder.save_pending_join(request)
    }

    fn load_workers(&self) -> Option<String> {
        self.dir.folder.load_workers()
    }

    fn save_workers(&self, workers: &str) -> io::Result<()> {
        self.dir.folder.save_workers(workers)
    }

    fn announce(&self, announcement: &str) -> io::Result<()> {
        self.announce.write(announcement)
    }

    fn announcements(&self) -> Vec<(String, String)> {
        self.announce.read()
    }
}

fn platform_folder() -> Result<PathBuf, Failure> {
    let names = AppStrategyArgs {
        top_level_domain: "org".to_owned(),
        author: "taskmesh".to_owned(),
        app_name: "taskmesh".to_owned(),
    };
    match etcetera::app_strategy::choose_native_strategy(names) {
        Ok(folders) => Ok(folders.data_dir()),
        Err(_) => Err(Failure::argument("--data-dir", "this user has no home folder: name a folder")),
    }
}

const RPC_TOKEN: &str = "rpc.token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_by_its_name_or_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::locate(Some(folder.path())).unwrap();
        let stranger = PeerId::random();
        let refusal = |text: &str| dir.machine("--pin-to", text).unwrap_err().to_string();
        assert!(refusal("gpu-box").contains("knows no mesh"));
        let locked = dir.lock().unwrap();
        let identity = locked.identity_or_new().unwrap();
        locked.save_mesh(&Mesh::begin(&identity, "gpu-box").unwrap()).unwrap();
        let own = identity.peer_id().to_string();
        // The first twelve characters of such an id are a valid peer id themselves.
        for text in ["gpu-box", "GPU-Box", &own, &own[..12], &own[..14]] {
            assert_eq!(dir.machine("--pin-to", text).unwrap(), identity.peer_id(), "{text}");
        }
        assert_eq!(dir.machine("--pin-to", &stranger.to_string()).unwrap(), stranger);
        assert!(refusal("gpu-bxo").contains("did you mean gpu-box?"));
    }

    #[test]
    fn a_folder_in_use_is_refused_and_its_holder_named() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::locate(Some(folder.path())).unwrap();
        let _held = dir.lock().unwrap();
        let error = dir.lock().unwrap_err().to_string();
        assert!(error.contains("--data-dir") && error.contains(&std::process::id().to_string()), "{error}");
    }
}
