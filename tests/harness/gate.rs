use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::sync_channel,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::DEADLINE;

/// A named pipe at which a worker's command and a test meet: opening it waits for the other end.
#[derive(Debug)]
pub(crate) struct Gate {
    _folder: TempDir,
    path: PathBuf,
}

impl Gate {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("gate");
        ensure!(Command::new("mkfifo").arg(&path).status()?.success(), "no named pipe");
        Ok(Self { _folder: folder, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the command has written into the pipe.
    pub(crate) fn written(&self) -> Result<()> {
        let path = self.path.clone();
        within_deadline(move || fs::read(path).map(drop))
    }

    /// Waits until all processes that opened the pipe for writing have closed it, and returns what they wrote.
    pub(crate) fn read_to_end(&self) -> Result<String> {
        let path = self.path.clone();
        within_deadline(move || fs::read_to_string(path))
    }

    /// Waits until the command reads from the pipe, and gives it this text.
    pub(crate) fn write(&self, text: &'static str) -> Result<()> {
        let path = self.path.clone();
        within_deadline(move || fs::write(path, text))
    }
}

fn within_deadline<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let (send, done) = sync_channel(1);
    thread::spawn(move || send.send(work()).ok());
    Ok(done.recv_timeout(DEADLINE).context("the command did not come to the gate in time")??)
}
