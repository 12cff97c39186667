use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use crate::StoreError;

/// Returns the path of another file of the store, beside its main file.
pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens or creates a file that only its owner may read. SQLite gives its own companions the mode of the database.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Takes the lock that shows that the file has an owner. It is a file of its own, because closing any handle of the
/// database would drop the locks that SQLite has on it.
pub(super) fn take_ownership(path: &Path) -> Result<File, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let lock = private_file(&companion(path, OWNER)).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Makes durable that files beside this one were created or renamed.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder)?.sync_all()
    }
    #[cfg(not(unix))]
    {
        // On other systems a folder cannot be opened, and the file system keeps names by itself.
        let _ = path;
        Ok(())
    }
}

/// Removes a file, if it exists.
pub(super) fn remove_if_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the bytes that this user may still write to the disk of the file, whether or not the file exists; `None`
/// where the system does not say.
pub(super) fn free_on_disk(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

const OWNER: &str = "-owner";
/// SQLite's own name for the log.
pub(super) const LOG: &str = "-wal";
/// SQLite's own name for the journal with which it undoes a change of a file that has no log, such as a file that is
/// being created.
pub(super) const JOURNAL: &str = "-journal";
/// SQLite's own name for the index of the log, which is created anew at each start.
pub(super) const LOG_INDEX: &str = "-shm";
