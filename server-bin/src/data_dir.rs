//! The data folder: where it is, who may use it, and the files in it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use etcetera::{AppStrategy as _, AppStrategyArgs};
use p2p_taskqueue::{
    Identity, MeshSecret,
    mesh::{KnownPeer, NodeFiles},
};

use crate::{
    announce::AnnounceFiles,
    failure::Failure,
    rpc::{RpcAddress, Token},
};

/// A data folder that this process may read, while a node runs on it or not.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// The folder of this path, or the platform's; made when it is missing, for this user only.
    pub(crate) fn locate(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => platform_folder()?,
        };
        let missing: Vec<_> = path.ancestors().take_while(|folder| is_missing(folder)).collect();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the data folder {}", path.display()))?;
        // What is in a folder is gone with its name.
        let kept = missing.into_iter().try_for_each(sync_name);
        kept.with_context(|| format!("cannot keep the data folder {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("taskmesh.sock")
    }

    /// Where this machine's commands ask the node.
    pub(crate) fn rpc(&self) -> RpcAddress {
        RpcAddress::Unix(self.socket())
    }

    /// What clients of the RPC over HTTP show.
    pub(crate) fn rpc_token(&self) -> PathBuf {
        self.path.join(RPC_TOKEN)
    }

    /// Where the configuration is looked for when none is named.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("queue.sqlite3")
    }

    /// Takes the folder for this process alone, until the answer is dropped or the process ends in any way.
    pub(crate) fn lock(&self) -> Result<LockedDir, Failure> {
        let path = self.path.join("lock");
        let folder = self.path.display();
        let mut file = private_file(OpenOptions::new().read(true).create(true), &path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without the number the sentence still says what to do.
                drop(file.read_to_string(&mut holder));
                let holder = if holder.is_empty() { String::new() } else { format!(" (process {})", holder.trim()) };
                return Err(Failure::Configuration(anyhow!(
                    "the data folder {folder} is in use by a running taskmesh{holder}: \
                     stop that one, or choose another folder with --data-dir"
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Failure::Configuration(anyhow!(error).context(format!("cannot lock {}", path.display()))));
            }
        }
        let noted = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        match noted {
            // The lock holds without the number, and a full disk is what `repair` or a purge may be for.
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {}
            noted => noted.with_context(|| format!("cannot write {}", path.display()))?,
        }
        Ok(LockedDir { dir: self.clone(), _lock: file })
    }

    /// This machine's identity; none before the first start.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(self.read_key("identity.key")?.map(Identity::from_secret_bytes))
    }

    /// The secret of this machine's mesh; none before the first start or join.
    pub(crate) fn mesh_secret(&self) -> Result<Option<MeshSecret>, Failure> {
        Ok(self.read_key("mesh.key")?.map(MeshSecret::from_bytes))
    }

    fn read_key(&self, name: &str) -> Result<Option<[u8; KEY_BYTES]>, Failure> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(anyhow!(error).context(format!("cannot read {}", path.display())).into()),
        };
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| {
            let length = bytes.len();
            anyhow!("{} is damaged ({length} bytes, not {KEY_BYTES}): restore it or remove it", path.display())
        })?;
        Ok(Some(key))
    }

    fn peers_path(&self) -> PathBuf {
        self.path.join("peers.json")
    }
}

/// A data folder that is this process's alone.
#[derive(Debug)]
pub(crate) struct LockedDir {
    dir: DataDir,
    /// The operating system frees the lock with the file, also when the process is killed.
    _lock: File,
}

impl LockedDir {
    pub(crate) const fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// This machine's identity, made at the first start.
    pub(crate) fn identity_or_new(&self) -> Result<Identity, Failure> {
        if let Some(identity) = self.dir.identity()? {
            return Ok(identity);
        }
        let identity = Identity::generate().context("no randomness for an identity")?;
        self.dir.write_durably("identity.key", &identity.secret_bytes()).context("cannot keep the identity")?;
        Ok(identity)
    }

    /// The secret of this machine's mesh, made at the first start.
    pub(crate) fn mesh_secret_or_new(&self) -> Result<MeshSecret, Failure> {
        if let Some(secret) = self.dir.mesh_secret()? {
            return Ok(secret);
        }
        let secret = MeshSecret::generate().context("no randomness for a mesh secret")?;
        self.dir.save_secret(&secret).context("cannot keep the mesh secret")?;
        Ok(secret)
    }

    /// What clients of the RPC over HTTP show, made at the first start that needs it.
    pub(crate) fn rpc_token_or_new(&self) -> Result<Token, Failure> {
        if let Some(token) = Token::read(&self.dir.rpc_token())? {
            return Ok(token);
        }
        let token = Token::generate()?;
        self.dir.write_durably(RPC_TOKEN, token.text().as_bytes()).context("cannot keep the token of the RPC")?;
        Ok(token)
    }
}

impl NodeFiles for DataDir {
    fn load_peers(&self) -> Vec<KnownPeer> {
        let path = self.peers_path();
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

    fn save_peers(&self, peers: &[KnownPeer]) -> io::Result<()> {
        self.write_durably("peers.json", &serde_json::to_vec_pretty(peers)?)
    }

    fn save_secret(&self, secret: &MeshSecret) -> io::Result<()> {
        self.write_durably("mesh.key", secret.as_bytes())
    }
}

/// What a node keeps: the data folder, and the files in which it and others of this machine say where they are.
#[derive(Debug)]
pub(crate) struct NodeFolder {
    pub(crate) dir: DataDir,
    pub(crate) announce: AnnounceFiles,
}

impl NodeFiles for NodeFolder {
    fn load_peers(&self) -> Vec<KnownPeer> {
        self.dir.load_peers()
    }

    fn save_peers(&self, peers: &[KnownPeer]) -> io::Result<()> {
        self.dir.save_peers(peers)
    }

    fn save_secret(&self, secret: &MeshSecret) -> io::Result<()> {
        self.dir.save_secret(secret)
    }

    fn announce(&self, announcement: &str) -> io::Result<()> {
        self.announce.write(announcement)
    }

    fn announcements(&self) -> Vec<(String, String)> {
        self.announce.read()
    }
}

impl DataDir {
    /// Replaces a file as a whole: after a crash it is the old one or the new one.
    fn write_durably(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = private_file(OpenOptions::new().create(true).truncate(true), &new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

fn is_missing(folder: &Path) -> bool {
    // The folder in which the process runs has the empty name here.
    !folder.as_os_str().is_empty() && !folder.exists()
}

/// Makes the name of a folder last that was just made.
fn sync_name(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        // A folder may let this user make others in it and not open it: then the system keeps the name in its own time.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).mode(0o600).open(path)
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

/// The length of an Ed25519 secret key, and of a mesh secret.
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_are_this_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let locked = DataDir::locate(Some(folder.path())).unwrap().lock().unwrap();
        let first = locked.identity_or_new().unwrap().peer_id();
        assert_eq!(locked.identity_or_new().unwrap().peer_id(), first);
        let mode = fs::metadata(folder.path().join("identity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_in_use_is_refused_and_its_holder_named() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::locate(Some(folder.path())).unwrap();
        let held = dir.lock().unwrap();
        let error = dir.lock().unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        assert!(dir.lock().is_ok());
    }

    #[test]
    fn a_damaged_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.key"), b"short").unwrap();
        let error = DataDir::locate(Some(folder.path())).unwrap().identity().unwrap_err().to_string();
        assert!(error.contains("identity.key") && error.contains("damaged"), "{error}");
    }
}
