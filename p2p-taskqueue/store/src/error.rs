use std::{io, path::PathBuf};

/// The reason why a store could not be opened. Each variant says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A newer version wrote the file: use that version, or another data folder.
    #[error("{} has schema version {found}, and this version knows {supported}: use the newer taskmesh", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest one known here.
        supported: i64,
    },
    /// The file is from before the first release: end its tasks with the program that wrote it, or start anew.
    #[error(
        "{} was written by a taskmesh from before the first release (its schema {found} is not read any more) and is left as it \
         is: end its tasks with that program, then move the file and those beside it whose names begin alike away, or choose \
         another data folder",
        path.display()
    )]
    Unreleased {
        /// The file.
        path: PathBuf,
        /// Its schema version, by the count of that time.
        found: i64,
    },
    /// The file is not a task store: name another data folder, or move the file away.
    #[error("{} is not a task store: move it away, or choose another data folder", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged: restore a backup, or keep what is intact.
    #[cfg(feature = "sqlite")]
    #[error("{} is damaged: restore a backup, or run `taskmesh repair` to keep what is intact", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        source: rusqlite::Error,
    },
    /// Some data that the store needs is damaged: restore a backup, or let a repair rebuild it.
    #[error("{}: {what} are damaged: restore a backup, or run `taskmesh repair` to work them out", path.display())]
    DamagedRow {
        /// The file.
        path: PathBuf,
        /// What cannot be read.
        what: &'static str,
    },
    /// The repair cannot read the file at all: restore a backup, or begin with an empty store.
    #[cfg(feature = "sqlite")]
    #[error(
        "{} cannot be repaired, because the part of it that says where its records are is lost: restore a backup; or move it \
         and the files beside it whose names begin with its own away, and the next start makes an empty store",
        path.display()
    )]
    BeyondRepair {
        /// The file.
        path: PathBuf,
        /// What SQLite found, if it got so far.
        source: Option<rusqlite::Error>,
    },
    /// Acknowledged changes are missing, because the end of the log is damaged or gone. Restore a backup, or accept the
    /// changes that are there.
    #[error(
        "{} lacks its last {missing} commits, which had been acknowledged: restore a backup, or run `taskmesh repair` to go \
         on with what is there",
        path.display()
    )]
    LostTail {
        /// The file.
        path: PathBuf,
        /// How many commits.
        missing: u64,
    },
    /// Another store, in this process or another one, owns the file: stop that one first.
    #[error("{} is in use by another process: stop it first, or choose another data folder", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("failed to open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[cfg(feature = "sqlite")]
    #[error("failed to open {} as a database", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The disk is too full to repair the store on it.
    #[error(
        "{} cannot be repaired for want of room: up to {needed} bytes are needed on its disk, for the new store and a copy of \
         the old one, and {free} are free: free some there, or copy the data folder to another disk and repair it there \
         (`--data-dir`)",
        path.display()
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes that are enough.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The rows could not be read at the start.
    #[error("failed to read the store: {0}")]
    Rows(String),
    /// The system provided no thread or no handle.
    #[error("failed to start the store's threads")]
    Threads(#[source] io::Error),
}

impl StoreError {
    /// Whether the disk is full. The caller may try again when there is room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// Whether SQLite found no room on the disk. About the index of its log SQLite only says that a write failed.
#[cfg(feature = "sqlite")]
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    let is_index = |error: &rusqlite::ffi::Error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) || error.sqlite_error().is_some_and(is_index)
}

impl From<super::Fault> for StoreError {
    fn from(fault: super::Fault) -> Self {
        Self::Rows(fault.to_string())
    }
}
