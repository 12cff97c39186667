//! A model of a disk that loses its power. Synced data is there; of the rest, anything may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::calls::Call;

/// The files of a folder by name, with their content.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A folder on the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    /// Changes of names since the folder was last synced. A rename counts as two, because not every file system makes
    /// it atomic.
    names_changed: Vec<(String, Option<usize>)>,
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// The part of the changes not yet synced that is on the disk.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Nothing,
    Everything,
    /// Every change except the last, and the first half of the last one.
    TornEnd,
    /// Every change, but the last one without its first half: disks write sectors in any order.
    TornStart,
    /// Only the last change.
    Last,
    /// Every second change.
    Odd,
}

const KEPT: [Kept; 6] = [Kept::Nothing, Kept::Everything, Kept::TornEnd, Kept::TornStart, Kept::Last, Kept::Odd];

impl Disk {
    /// Creates a folder that is on the disk as a whole.
    pub(super) fn with(files: &Files) -> Self {
        let names = files.keys().cloned().zip(0..).collect();
        let files = files.values().map(|bytes| File { synced: bytes.clone(), changes: Vec::new() }).collect();
        Self { files, names, names_changed: Vec::new() }
    }

    pub(super) fn apply(&mut self, call: &Call) {
        match call {
            Call::Create { file, truncate } => {
                if !self.names_now().contains_key(file) {
                    self.files.push(File::default());
                    self.names_changed.push((file.clone(), Some(self.files.len() - 1)));
                }
                if *truncate {
                    self.change(file, Change::Cut(0));
                }
            }
            Call::Write { file, at, bytes } => self.change(file, Change::Write(*at, bytes.clone())),
            Call::Cut { file, length } => self.change(file, Change::Cut(*length)),
            Call::Copy { from, from_at, to, to_at, length } => {
                let bytes = self.file(from).now()[*from_at..from_at + length].to_vec();
                self.change(to, Change::Write(*to_at, bytes));
            }
            Call::Sync { file } => {
                let file = self.file(file);
                file.synced = file.now();
                file.changes.clear();
            }
            Call::SyncFolder => {
                self.names = self.names_now();
                self.names_changed.clear();
            }
            Call::Rename { from, to } => {
                let moved = self.names_now()[from];
                self.names_changed.extend([(to.clone(), Some(moved)), (from.clone(), None)]);
            }
            Call::Remove { file } => self.names_changed.push((file.clone(), None)),
        }
    }

    /// Returns everything that may be on the disk if the power fails now.
    pub(super) fn after_a_cut(&self) -> BTreeSet<Files> {
        let changes = self.names_changed.len();
        assert!(changes < 10, "{changes} names are open");
        let mut found = BTreeSet::new();
        for chosen in 0..1_u32 << changes {
            let mut names = self.names.clone();
            for (_, change) in self.names_changed.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1) {
                rename(&mut names, change);
            }
            for kept in KEPT {
                found.insert(names.iter().map(|(name, file)| (name.clone(), self.files[*file].cut(kept))).collect());
            }
        }
        found
    }

    fn names_now(&self) -> BTreeMap<String, usize> {
        let mut names = self.names.clone();
        self.names_changed.iter().for_each(|change| rename(&mut names, change));
        names
    }

    fn change(&mut self, file: &str, change: Change) {
        self.file(file).changes.push(change);
    }

    fn file(&mut self, name: &str) -> &mut File {
        let file = self.names_now()[name];
        &mut self.files[file]
    }
}

fn rename(names: &mut BTreeMap<String, usize>, (name, file): &(String, Option<usize>)) {
    match file {
        Some(file) => names.insert(name.clone(), *file),
        None => names.remove(name),
    };
}

impl File {
    fn now(&self) -> Vec<u8> {
        self.cut(Kept::Everything)
    }

    fn cut(&self, kept: Kept) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let last = self.changes.len().saturating_sub(1);
        for (number, change) in self.changes.iter().enumerate() {
            let is_there = match kept {
                Kept::Nothing => false,
                Kept::Everything | Kept::TornEnd | Kept::TornStart => true,
                Kept::Last => number == last,
                Kept::Odd => number % 2 == 1,
            };
            if is_there {
                let torn = Some(kept).filter(|_| number == last);
                apply(&mut bytes, change, torn.unwrap_or(Kept::Everything));
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change, kept: Kept) {
    match change {
        Change::Cut(length) => bytes.resize(*length, 0),
        Change::Write(at, written) => {
            let half = written.len() / 2;
            let part = match kept {
                Kept::TornEnd => 0..half,
                Kept::TornStart => half..written.len(),
                _ => 0..written.len(),
            };
            bytes.resize(bytes.len().max(at + part.end), 0);
            bytes[at + part.start..at + part.end].copy_from_slice(&written[part]);
        }
    }
}

/// Reads the files of a folder except the index of a log.
pub(super) fn read(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with("-shm") {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

pub(super) fn write(folder: &Path, files: &Files) -> io::Result<()> {
    files.iter().try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
}
