use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use taskqueue_mesh::{Identity, Mesh, MeshError, NodeFiles, RememberedPeer, RootKey, host_name};

/// A node's data folder: its tasks (`queue.sqlite3`), its identity (`identity.key`), what it knows of its mesh
/// (`mesh.json`), the root key of the mesh if the machine has it (`root.key`), its peers (`peers.json`), and
/// what their workers take (`workers.json`).
///
/// The `taskmesh` program and [`Node`](crate::Node) use the same files.
///
/// It may be read while a node runs on it. It must be [locked](Self::lock) before it is changed.
#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
}

/// A data folder that only this process may change. It is unlocked when this is dropped or the process ends in any way.
#[derive(Debug)]
pub struct LockedFolder {
    folder: DataFolder,
    /// The operating system frees the lock when the file is closed, also when the process is killed.
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataFolderError {
    /// A node runs on the folder. Stop that node, or choose another folder.
    #[error("the data folder {} is in use by a running node: stop that one, or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process id, as the process wrote it into the lock file.
        holder: Option<String>,
    },
    /// The file of a key has a wrong length. Restore the file, or remove it and a new key will be made.
    #[error("{} is damaged ({found} bytes, not {KEY_BYTES}): restore it or remove it", path.display())]
    DamagedKey {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: usize,
    },
    /// The file about the mesh cannot be read. Restore the file, or remove it and join the mesh again with a ticket.
    #[error("{} is damaged ({source}): restore it, or remove it and join the mesh again with a ticket", path.display())]
    DamagedMesh {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MeshError,
    },
    /// The system has no randomness for a key.
    #[error("no randomness for {what}")]
    Random {
        /// The key.
        what: &'static str,
        /// The error of the system.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system reported an error.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl DataFolder {
    /// Opens the folder at this path. Makes it for this user only when it is missing.
    ///
    /// # Errors
    ///
    /// [`DataFolderError::Io`]
    pub fn make(path: impl Into<PathBuf>) -> Result<Self, DataFolderError> {
        let path = path.into();
        let missing: Vec<_> = path.ancestors().take_while(|folder| is_missing(folder)).collect();
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&path).map_err(failed("make the data folder", &path))?;
        // Files in a folder would be lost together with its name, so the names are synced too.
        let kept = missing.into_iter().try_for_each(sync_name);
        kept.map_err(failed("keep the data folder", &path))?;
        Ok(Self { path })
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the file with the tasks.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("queue.sqlite3")
    }

    /// Returns the path of the socket at which a running `taskmesh` can be asked, for example by
    /// [`Queue::connect`](crate::Queue::connect).
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("taskmesh.sock")
    }

    /// Locks the folder for this process alone.
    ///
    /// # Errors
    ///
    /// [`DataFolderError::InUse`], [`DataFolderError::Io`]
    pub fn lock(&self) -> Result<LockedFolder, DataFolderError> {
        let path = self.path.join("lock");
        let opened = private_file(OpenOptions::new().read(true).create(true), &path);
        let mut file = opened.map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The error says what to do even without the process id.
                drop(file.read_to_string(&mut holder));
                let holder = Some(holder.trim().to_owned()).filter(|holder| !holder.is_empty());
                return Err(DataFolderError::InUse { path: self.path.clone(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        let noted = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        match noted {
            // The lock holds without the process id. A full disk may be the reason for the repair or the purge that
            // needs the lock.
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {}
            noted => noted.map_err(failed("write", &path))?,
        }
        Ok(LockedFolder { folder: self.clone(), _lock: file })
    }

    /// Reads the node's identity. It is `None` before the first start.
    ///
    /// # Errors
    ///
    /// [`DataFolderError::DamagedKey`], [`DataFolderError::Io`]
    pub fn identity(&self) -> Result<Option<Identity>, DataFolderError> {
        Ok(self.read_key(IDENTITY)?.map(Identity::from_secret_bytes))
    }

    /// Reads what the node knows of its mesh. It is `None` before the first start or join.
    ///
    /// # Errors
    ///
    /// [`DataFolderError::DamagedMesh`], [`DataFolderError::DamagedKey`], [`DataFolderError::Io`]
    pub fn mesh(&self) -> Result<Option<Mesh>, DataFolderError> {
        let path = self.path.join(MESH);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let read = Mesh::from_text(&text, self.root_key()?);
        read.map(Some).map_err(|source| DataFolderError::DamagedMesh { path, source })
    }

    fn root_key(&self) -> Result<Option<RootKey>, DataFolderError> {
        Ok(self.read_key(ROOT_KEY)?.map(RootKey::from_secret_bytes))
    }

    /// Keeps the root key of the mesh. The key of another mesh that is here already gets another file name, so that no
    /// key is lost.
    fn keep_root_key(&self, root: &RootKey) -> io::Result<()> {
        let known = self.root_key().map_err(io::Error::other)?;
        if let Some(known) = known.filter(|known| known.secret_bytes() != root.secret_bytes()) {
            let name: String = known.mesh_name().chars().take(8).collect();
            fs::rename(self.path.join(ROOT_KEY), self.path.join(format!("root-{name}.key")))?;
        }
        self.write_durably(ROOT_KEY, &root.secret_bytes())
    }

    /// Replaces a file of the folder. Only this user can read it. After a crash the folder has either the old file or
    /// the new one, as a whole.
    ///
    /// # Errors
    ///
    /// The error of the file system.
    pub fn write_durably(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = private_file(OpenOptions::new().create(true).truncate(true), &new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }

    fn read_key(&self, name: &str) -> Result<Option<[u8; KEY_BYTES]>, DataFolderError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let found = bytes.len();
        bytes.try_into().map(Some).map_err(|_| DataFolderError::DamagedKey { path, found })
    }
}

impl LockedFolder {
    /// The folder.
    #[must_use]
    pub const fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// Reads the node's identity. Makes one when there is none.
    ///
    /// # Errors
    ///
    /// [`DataFolderError`]
    pub fn identity_or_new(&self) -> Result<Identity, DataFolderError> {
        if let Some(identity) = self.folder.identity()? {
            return Ok(identity);
        }
        let random = |error| DataFolderError::Random { what: "an identity", source: Box::new(error) };
        let identity = Identity::generate().map_err(random)?;
        let kept = self.folder.write_durably(IDENTITY, &identity.secret_bytes());
        kept.map_err(failed("write", &self.folder.path.join(IDENTITY)))?;
        Ok(identity)
    }

    /// Reads what the node knows of its mesh. Begins a mesh when there is none, in which this machine is called as its
    /// host.
    ///
    /// # Errors
    ///
    /// [`DataFolderError`]
    pub fn mesh_or_new(&self, identity: &Identity) -> Result<Mesh, DataFolderError> {
        let (path, name) = (self.folder.path.join(MESH), host_name(identity));
        let damaged = |source| DataFolderError::DamagedMesh { path: path.clone(), source };
        if let Some(mut mesh) = self.folder.mesh()? {
            if mesh.enroll_new_identity(identity, &name).map_err(damaged)? {
                self.folder.save_mesh(&mesh).map_err(failed("write", &path))?;
            }
            return Ok(mesh);
        }
        if self.folder.path.join(OLD_MESH_SECRET).exists() {
            tracing::warn!(
                "the mesh of this folder was made by an earlier version, which had no members: a new mesh begins, so \
                 invite the other machines again"
            );
        }
        let random = |error| DataFolderError::Random { what: "a root key", source: Box::new(error) };
        let mesh = Mesh::begin(identity, &name).map_err(random)?;
        self.folder.save_mesh(&mesh).map_err(failed("write", &path))?;
        Ok(mesh)
    }
}

impl NodeFiles for DataFolder {
    fn load_peers(&self) -> Vec<RememberedPeer> {
        let path = self.path.join(PEERS);
        let peers = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(serde_json::Error::io(error)),
        };
        peers.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the peers of the last run cannot be read");
            Vec::new()
        })
    }

    fn save_peers(&self, peers: &[RememberedPeer]) -> io::Result<()> {
        self.write_durably(PEERS, &serde_json::to_vec_pretty(peers)?)
    }

    fn load_pending_join(&self) -> Option<String> {
        fs::read_to_string(self.path.join(PENDING_JOIN)).ok()
    }

    fn save_pending_join(&self, request: Option<&str>) -> io::Result<()> {
        match request {
            Some(request) => self.write_durably(PENDING_JOIN, request.as_bytes()),
            None => fs::remove_file(self.path.join(PENDING_JOIN)),
        }
    }

    fn load_workers(&self) -> Option<String> {
        fs::read_to_string(self.path.join(WORKERS)).ok()
    }

    fn save_workers(&self, workers: &str) -> io::Result<()> {
        self.write_durably(WORKERS, workers.as_bytes())
    }

    fn save_mesh(&self, mesh: &Mesh) -> io::Result<()> {
        if let Some(root) = mesh.root_key() {
            self.keep_root_key(root)?;
        }
        self.write_durably(MESH, mesh.to_text().as_bytes())
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataFolderError {
    let path = path.to_owned();
    move |source| DataFolderError::Io { action, path, source }
}

fn is_missing(folder: &Path) -> bool {
    // An empty path stands for the current folder, which exists.
    !folder.as_os_str().is_empty() && !folder.exists()
}

/// Syncs the name of a new folder to stable storage.
fn sync_name(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        // The user may be allowed to make folders in the parent, but not to open it. Then the system writes the name in
        // its own time.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true).open(path)
}

const IDENTITY: &str = "identity.key";
const MESH: &str = "mesh.json";
const ROOT_KEY: &str = "root.key";
const PENDING_JOIN: &str = "join.json";
/// The secret of a mesh from before there were members.
const OLD_MESH_SECRET: &str = "mesh.key";
const PEERS: &str = "peers.json";
const WORKERS: &str = "workers.json";

/// The length of an Ed25519 secret key.
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use taskqueue_api::{Grants, Role};

    use super::*;

    #[test]
    #[cfg(unix)]
    fn keys_are_made_once_and_are_this_users_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let locked = DataFolder::make(folder.path().join("deep/down")).unwrap().lock().unwrap();
        let first = locked.identity_or_new().unwrap().peer_id();
        assert_eq!(locked.identity_or_new().unwrap().peer_id(), first);
        let identity = locked.identity_or_new().unwrap();
        let mesh = locked.mesh_or_new(&identity).unwrap();
        let again = locked.folder().mesh().unwrap().unwrap();
        assert_eq!(again.to_text(), mesh.to_text());
        assert_eq!(again.root_key().map(RootKey::mesh_name), mesh.root_key().map(RootKey::mesh_name));
        for name in ["identity.key", "mesh.json", "root.key", "."] {
            let mode = fs::metadata(locked.folder().path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }

    #[test]
    fn a_folder_in_use_is_refused_and_its_holder_named() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataFolder::make(folder.path()).unwrap();
        let held = dir.lock().unwrap();
        match dir.lock() {
            Err(DataFolderError::InUse { path, holder }) => {
                assert_eq!((path.as_path(), holder), (folder.path(), Some(std::process::id().to_string())));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        assert!(dir.lock().is_ok());
    }

    #[test]
    fn no_root_key_is_lost_when_another_mesh_begins() {
        let folder = tempfile::tempdir().unwrap();
        let locked = DataFolder::make(folder.path()).unwrap().lock().unwrap();
        let identity = locked.identity_or_new().unwrap();
        let first = locked.mesh_or_new(&identity).unwrap();
        let second = Mesh::begin(&identity, "box").unwrap();
        locked.folder().save_mesh(&second).unwrap();
        assert_eq!(locked.folder().mesh().unwrap().unwrap().names().len(), 1);
        let keys = fs::read_dir(folder.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        let keys: Vec<_> = keys.collect();
        for mesh in [first, second] {
            assert!(keys.contains(&mesh.root_key().unwrap().secret_bytes().to_vec()));
        }
        let joined = Mesh::enrolled(&RootKey::generate().unwrap(), &identity, "box", Grants::of(Role::Member)).unwrap();
        locked.folder().save_mesh(&joined).unwrap();
        assert!(locked.folder().mesh().unwrap().unwrap().root_key().is_none(), "the key is that of another mesh");
    }

    #[test]
    fn a_damaged_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.key"), b"short").unwrap();
        let error = DataFolder::make(folder.path()).unwrap().identity().unwrap_err().to_string();
        assert!(error.contains("identity.key") && error.contains("damaged (5 bytes, not 32)"), "{error}");
    }
}
