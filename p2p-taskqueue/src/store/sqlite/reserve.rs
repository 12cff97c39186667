use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::files::{companion, private_file, remove_if_any};

/// Room on the disk that is given up when the disk is full, so that completions go on while submits are refused.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn new(store: &Path) -> Self {
        Self { path: companion(store, "-reserve") }
    }

    /// Sets the room aside, if it is not.
    pub(super) fn fill(&self) -> io::Result<()> {
        let mut file = private_file(&self.path)?;
        if file.metadata()?.len() >= RESERVE_BYTES {
            return Ok(());
        }
        // Written, not just sized: a hole in a file takes no room.
        let filled = io::copy(&mut io::repeat(0).take(RESERVE_BYTES), &mut file).and_then(|_| file.sync_all());
        if filled.is_err() {
            self.spend();
        }
        filled
    }

    /// Gives the room up.
    pub(super) fn spend(&self) {
        if let Err(error) = remove_if_any(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "failed to free the reserve");
        }
    }
}

/// All of the log, which is copied into the database as soon as there is room for it, and half as much again for what
/// completions write; small enough not to be noticed.
const RESERVE_BYTES: u64 = if cfg!(test) { 768 * 1024 } else { 24 * 1024 * 1024 };
