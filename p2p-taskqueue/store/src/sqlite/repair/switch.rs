use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    super::{
        files::{LOG, LOG_INDEX, companion, remove_if_any, sync_folder},
        note::NOTE,
    },
    remove_with_log,
};

/// Puts the new file into the place of the old one, and keeps a copy of the old one with its log. Returns the path of
/// the copy.
///
/// The old log must be gone before the new file is in place, or SQLite would take it for the log of the new file. So
/// the new file first gets a name that says that it is complete. From then on, [`finish`] does the rest, whenever it
/// was interrupted. Nothing of the old store is removed before its copy is on the disk.
pub(super) fn switch(path: &Path, new: &Path) -> io::Result<PathBuf> {
    let kept = free_name(path);
    if let Err(error) = keep(path, &kept, new) {
        // The disk may be full, and half a copy is of no use.
        remove_with_log(&kept)?;
        remove_with_log(new)?;
        return Err(error);
    }
    sync_folder(path)?;
    finish(path)?;
    remove_with_log(new)?;
    Ok(kept)
}

/// Copies the old file with its log, and marks the new file as complete.
fn keep(path: &Path, kept: &Path, new: &Path) -> io::Result<()> {
    copy(path, kept)?;
    let log = companion(path, LOG);
    if log.exists() {
        copy(&log, &companion(kept, LOG))?;
    }
    fs::File::open(new)?.sync_all()?;
    sync_folder(path)?;
    fs::rename(new, companion(path, COMPLETE))
}

/// Copies a file and syncs the copy.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

/// Completes a switch that was interrupted, if there was one. Nobody may have the store open.
///
/// The note is removed last. It does not belong to the new file. But if a file system loses the new name, the old file
/// must not look complete without its log.
pub(in super::super) fn finish(path: &Path) -> io::Result<()> {
    let complete = companion(path, COMPLETE);
    if !complete.exists() {
        return Ok(());
    }
    for name in [LOG, LOG_INDEX] {
        remove_if_any(&companion(path, name))?;
    }
    sync_folder(path)?;
    fs::rename(&complete, path)?;
    sync_folder(path)?;
    remove_if_any(&companion(path, NOTE))?;
    sync_folder(path)
}

/// Returns a name that no earlier repair has used.
fn free_name(path: &Path) -> PathBuf {
    let plain = companion(path, KEPT);
    let numbered = (2..).map(|number: u64| companion(path, &format!("{KEPT}-{number}")));
    std::iter::once(plain.clone()).chain(numbered).find(|name| !name.exists()).unwrap_or(plain)
}

const COMPLETE: &str = "-repaired";
const KEPT: &str = "-damaged";
