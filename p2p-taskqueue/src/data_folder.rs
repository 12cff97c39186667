//! The data folder of a node, as the `taskmesh` program lays it out.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use taskqueue_mesh::{Identity, KnownPeer, MeshSecret, NodeFiles};

/// Why a node's data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataFolderError {
    /// Another node runs on it: stop that one, or choose another folder.
    #[error("the data folder {} is in use by a running node: stop that one, or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A key has another length than a key has: restore the file, or remove it to become another node.
    #[error("{} is damaged: restore it or remove it", path.display())]
    DamagedKey {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("failed to use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A data folder that is this process's alone.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    /// The operating system frees the lock with the file, also when the process is killed.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder when it is missing, for this user only, and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataFolderError> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path).map_err(io_error(path))?;
        let lock_path = path.join("lock");
        let mut lock = private(OpenOptions::new().create(true)).open(&lock_path).map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataFolderError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io_error(&lock_path)(error)),
        }
        // For whoever finds the folder in use; the lock holds without it.
        drop(lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("queue.sqlite3")
    }

    /// The machine's identity; none before the first start.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, DataFolderError> {
        Ok(self.key(IDENTITY)?.map(Identity::from_secret_bytes))
    }

    pub(crate) fn keep_identity(&self, identity: &Identity) -> Result<(), DataFolderError> {
        self.files().write(IDENTITY, &identity.secret_bytes()).map_err(io_error(&self.path.join(IDENTITY)))
    }

    /// The secret of the machine's mesh; none before the first start.
    pub(crate) fn mesh_secret(&self) -> Result<Option<MeshSecret>, DataFolderError> {
        Ok(self.key(MESH_SECRET)?.map(MeshSecret::from_bytes))
    }

    pub(crate) fn keep_mesh_secret(&self, secret: &MeshSecret) -> Result<(), DataFolderError> {
        self.files().write(MESH_SECRET, secret.as_bytes()).map_err(io_error(&self.path.join(MESH_SECRET)))
    }

    fn key(&self, name: &str) -> Result<Option<[u8; KEY_BYTES]>, DataFolderError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path)(error)),
        };
        bytes.try_into().map(Some).map_err(|_| DataFolderError::DamagedKey { path })
    }

    /// What the node keeps there while it runs.
    pub(crate) fn files(&self) -> FolderFiles {
        FolderFiles { path: self.path.clone() }
    }
}

/// The files of a data folder that a running node writes.
#[derive(Debug)]
pub(crate) struct FolderFiles {
    path: PathBuf,
}

impl FolderFiles {
    /// Replaces a file as a whole: after a crash it is the old one or the new one.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = private(OpenOptions::new().create(true).truncate(true)).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

impl NodeFiles for FolderFiles {
    fn load_peers(&self) -> Vec<KnownPeer> {
        let peers = match fs::read(self.path.join(PEERS)) {
            Ok(bytes) => serde_json::from_slice(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(serde_json::Error::io(error)),
        };
        peers.unwrap_or_else(|error| {
            tracing::warn!(%error, "the peers of the last run cannot be read");
            Vec::new()
        })
    }

    fn save_peers(&self, peers: &[KnownPeer]) -> io::Result<()> {
        self.write(PEERS, &serde_json::to_vec_pretty(peers)?)
    }

    fn save_secret(&self, secret: &MeshSecret) -> io::Result<()> {
        self.write(MESH_SECRET, secret.as_bytes())
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataFolderError {
    let path = path.to_owned();
    move |source| DataFolderError::Io { path, source }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true)
}

const IDENTITY: &str = "identity.key";
const MESH_SECRET: &str = "mesh.key";
const PEERS: &str = "peers.json";

/// The length of an Ed25519 secret key, and of a mesh secret.
const KEY_BYTES: usize = 32;
