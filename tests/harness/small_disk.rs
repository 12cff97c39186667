use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// A separate volume in memory, which only the processes started through it see. Dropping it removes the volume.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    /// The folder on which the volume is mounted. Processes outside see the folder below it.
    folder: TempDir,
    /// The process that keeps the mount, as long as its standard input is open.
    holder: Child,
}

impl SmallDisk {
    /// Makes a volume of `mib` MiB. The inner error says why there cannot be one: mounting needs privileges.
    pub(crate) fn new(mib: u32) -> Result<Result<Self, String>> {
        let folder = tempfile::tempdir()?;
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$1\" && echo mounted && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(folder.path());
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut holder = match spawned {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("there is no unshare".to_owned())),
            spawned => spawned?,
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("no standard output")?).read_line(&mut line)?;
        if line.trim_end() == "mounted" {
            return Ok(Ok(Self { folder, holder }));
        }
        holder.stderr.take().context("no standard error")?.read_to_string(&mut line)?;
        holder.wait()?;
        Ok(Err(line.trim_end().to_owned()))
    }

    /// Returns the path of the volume, for the processes that see it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a command that runs a program which sees the volume.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), program]);
        command
    }

    /// Fills all the room that is left with a ballast file.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.ballast())?;
        // Large pieces first, then small ones up to the last page.
        for bytes in [1 << 20, 1 << 12] {
            loop {
                match ballast.write_all(&vec![0; bytes]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!(error),
                }
            }
        }
        Ok(())
    }

    /// Fills the room that is left except for about `bytes` bytes.
    pub(crate) fn fill_but(&self, bytes: u64) -> Result<()> {
        self.fill()?;
        let ballast = File::options().write(true).open(self.ballast())?;
        Ok(ballast.set_len(ballast.metadata()?.len().saturating_sub(bytes))?)
    }

    /// Returns the names of the files on the volume, and their lengths in bytes.
    pub(crate) fn listing(&self) -> Result<BTreeMap<String, u64>> {
        let files = fs::read_dir(self.ballast().parent().context("no folder")?)?;
        files
            .map(|file| {
                let file = file?;
                Ok((file.file_name().to_string_lossy().into_owned(), file.metadata()?.len()))
            })
            .collect()
    }

    /// Frees the room that was filled.
    pub(crate) fn clear(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    /// Returns the path of the ballast file, as this process sees it.
    fn ballast(&self) -> PathBuf {
        let inside = self.folder.path().join("ballast");
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(inside.strip_prefix("/").unwrap_or(&inside))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The end of its input ends the holder. The mount goes away with the last process that sees it.
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}
