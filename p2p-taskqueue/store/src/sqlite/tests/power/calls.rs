//! Reads the system calls of a process from the output of strace.

use std::{collections::HashMap, error::Error, fs, path::Path, process::Command};

/// A call that changes files. Files are named relative to their folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Create { file: String, truncate: bool },
    Write { file: String, at: usize, bytes: Vec<u8> },
    Copy { from: String, from_at: usize, to: String, to_at: usize, length: usize },
    Cut { file: String, length: usize },
    Sync { file: String },
    SyncFolder,
    Rename { from: String, to: String },
    Remove { file: String },
}

/// Runs this command under strace, and returns its calls in a folder in order, or why they cannot be observed here.
pub(super) fn of(command: &Command, folder: &Path) -> Result<Result<Vec<Call>, String>, Box<dyn Error>> {
    let log = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    // Writes are recorded in full, and every text as bytes, so that nothing in a text is taken for punctuation.
    strace.args(["-f", "-y", "-xx", "-s", "2000000", "-e", &format!("trace={CALLS}"), "-o"]);
    strace.arg(log.path()).arg(command.get_program()).args(command.get_args());
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = match strace.envs(set).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Err("there is no strace".to_owned())),
        output => output?,
    };
    let lines = fs::read_to_string(log.path())?;
    if lines.is_empty() {
        return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stdout).into_owned().into());
    }
    let folder = folder.to_str().ok_or("a name that can be read")?;
    let mut reading = Reading { folder, places: HashMap::new(), calls: Vec::new() };
    for line in lines.lines() {
        reading.line(line).ok_or_else(|| format!("cannot read the line {}", &line[..line.len().min(200)]))?;
    }
    Ok(Ok(reading.calls))
}

/// The calls that change files, or the place at which the next call does.
const CALLS: &str = "openat,open,creat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,copy_file_range,sendfile,\
                     rename,renameat,renameat2,unlink,unlinkat,writev,pwritev,truncate,link,linkat,fallocate";

struct Reading<'a> {
    folder: &'a str,
    /// The position of each descriptor in its file.
    places: HashMap<u32, usize>,
    calls: Vec<Call>,
}

impl Reading<'_> {
    fn line(&mut self, line: &str) -> Option<()> {
        // Other lines tell of signals and of the end.
        let Some((call, answer)) = line.rsplit_once(") = ") else { return Some(()) };
        let (_, call) = call.split_once(' ')?;
        let (name, arguments) = call.trim_start().split_once('(')?;
        let arguments: Vec<&str> = arguments.split(", ").collect();
        let answer = answer.split_whitespace().next()?;
        if answer.starts_with('-') {
            return Some(());
        }
        self.call(name, &arguments, answer)
    }

    fn call(&mut self, name: &str, arguments: &[&str], answer: &str) -> Option<()> {
        let done = || answer.parse::<usize>().ok();
        match name {
            "openat" => {
                let (fd, path) = descriptor(answer)?;
                self.places.insert(fd, 0);
                let flags = arguments.get(2)?;
                if let Some(file) = self.file(&path)
                    && flags.contains("O_CREAT")
                {
                    self.calls.push(Call::Create { file, truncate: flags.contains("O_TRUNC") });
                }
            }
            "lseek" => {
                let (fd, _) = descriptor(arguments.first()?)?;
                self.places.insert(fd, done()?);
            }
            "write" => {
                let (fd, path) = descriptor(arguments.first()?)?;
                let place = self.places.entry(fd).or_default();
                let at = *place;
                *place += done()?;
                self.write(&path, at, arguments.get(1)?, done()?)?;
            }
            "pwrite64" => {
                let (_, path) = descriptor(arguments.first()?)?;
                self.write(&path, arguments.get(3)?.parse().ok()?, arguments.get(1)?, done()?)?;
            }
            "copy_file_range" | "sendfile" => {
                let (from, to) = if name == "sendfile" { (1, 0) } else { (0, 2) };
                let ((from_fd, from), (to_fd, to)) =
                    (descriptor(arguments.get(from)?)?, descriptor(arguments.get(to)?)?);
                let said = arguments.get(if name == "sendfile" { 2 } else { 1 })?;
                let from_at = match said.strip_prefix('[') {
                    Some(at) => at.trim_end_matches(']').parse().ok()?,
                    None => self.moved(from_fd, done()?),
                };
                let to_at = self.moved(to_fd, done()?);
                if let (Some(from), Some(to)) = (self.file(&from), self.file(&to)) {
                    self.calls.push(Call::Copy { from, from_at, to, to_at, length: done()? });
                }
            }
            "ftruncate" => {
                let (_, path) = descriptor(arguments.first()?)?;
                let length = arguments.get(1)?.parse().ok()?;
                self.calls.extend(self.file(&path).map(|file| Call::Cut { file, length }));
            }
            "fsync" | "fdatasync" => {
                let (_, path) = descriptor(arguments.first()?)?;
                let call = self.file(&path).map(|file| Call::Sync { file });
                self.calls.extend(call.or_else(|| (path == self.folder).then_some(Call::SyncFolder)));
            }
            "rename" => {
                let (from, to) = (self.file(&text(arguments.first()?)?), self.file(&text(arguments.get(1)?)?));
                self.calls.extend(from.zip(to).map(|(from, to)| Call::Rename { from, to }));
            }
            "unlink" => {
                let file = self.file(&text(arguments.first()?)?);
                self.calls.extend(file.map(|file| Call::Remove { file }));
            }
            "unlinkat" => {}
            // A call that the model of the disk does not know would make the model wrong.
            _ => {
                let concerns_it = arguments.iter().any(|argument| {
                    let path = descriptor(argument).map(|(_, path)| path).or_else(|| text(argument));
                    path.is_some_and(|path| self.file(&path).is_some())
                });
                assert!(!concerns_it, "{name} {arguments:?}");
            }
        }
        Some(())
    }

    fn moved(&mut self, fd: u32, by: usize) -> usize {
        let place = self.places.entry(fd).or_default();
        let at = *place;
        *place += by;
        at
    }

    fn write(&mut self, path: &str, at: usize, bytes: &str, length: usize) -> Option<()> {
        if let Some(file) = self.file(path) {
            let bytes = bytes_of(bytes.trim_matches('"'))?;
            assert_eq!(bytes.len(), length, "all of it is seen");
            self.calls.push(Call::Write { file, at, bytes });
        }
        Some(())
    }

    /// Returns the name of a file in the folder. The index of the log is left out, because it is created anew at each
    /// start.
    fn file(&self, path: &str) -> Option<String> {
        let name = path.strip_prefix(self.folder)?.strip_prefix('/')?;
        (!name.contains('/') && !name.ends_with("-shm")).then(|| name.to_owned())
    }
}

/// Parses `3<path>`.
fn descriptor(text: &str) -> Option<(u32, String)> {
    let (fd, path) = text.split_once('<')?;
    let path = path.split_once('>')?.0;
    Some((fd.parse().ok()?, String::from_utf8(bytes_of(path)?).ok()?))
}

/// Parses `"path"`.
fn text(text: &str) -> Option<String> {
    String::from_utf8(bytes_of(text.strip_prefix('"')?.strip_suffix('"')?)?).ok()
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).ok()).collect()
}
