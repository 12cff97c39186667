//! Tests a power cut at any moment of a first start and of a repair.
//!
//! The system calls of a real process are recorded and applied to a model of a disk. For each moment the model says
//! what may be on the disk, and the store is opened from each of these states.

mod calls;
mod disk;

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

use calls::Call;
use disk::{Disk, Files};

use super::{
    super::{OpenFile, SqliteBackend, repair},
    sample::{TestResult, id, lane, place, task},
};
use crate::{Backend, Log, Meta, Rows, Seq};

#[test]
fn a_power_cut_in_the_first_start_leaves_a_folder_that_can_be_used() -> TestResult {
    let directory = tempfile::tempdir()?;
    let Some(calls) = seen("start", directory.path())? else { return Ok(()) };
    let count = each_cut(&Files::new(), &calls, |folder, _| {
        let OpenFile { backend, mut rows, .. } = SqliteBackend::open(&folder.join(STORE))?;
        let mut log = backend.open_log()?.ok_or("a log")?;
        accept(&mut *rows, &mut *log, 1)?;
        Ok(())
    })?;
    assert!(count > 20, "{count} states");
    Ok(())
}

#[test]
fn a_power_cut_in_a_repair_loses_nothing() -> TestResult {
    let directory = tempfile::tempdir()?;
    let before = killed(directory.path())?;
    let Some(calls) = seen("repair", directory.path())? else { return Ok(()) };
    let count = each_cut(&before, &calls, |folder, files| {
        let is_original = |name: &str| files.get(&format!("{STORE}{name}")) == before.get(&format!("{STORE}{name}"));
        if !(is_original("") && is_original("-wal")) {
            // Whatever part of the store has gone, its copy is complete.
            for name in ["", "-wal"] {
                let kept = files.get(&format!("{STORE}-damaged{name}"));
                assert_eq!(kept.map(Vec::len), before.get(&format!("{STORE}{name}")).map(Vec::len), "kept{name}");
                assert!(kept == before.get(&format!("{STORE}{name}")), "kept{name} has other content");
            }
        }
        let path = folder.join(STORE);
        match SqliteBackend::open(&path) {
            Ok(opened) => all_there(opened),
            // The store must not open as if nothing were missing, and a repair must find what is missing.
            Err(told) => {
                let report = repair::repair(&path).map_err(|error| format!("{told}, then {error}"))?;
                all_there(SqliteBackend::open(&path)?).or_else(|missing| {
                    assert!(report.missing_commits > 0, "{told}, then {missing}, and not a word");
                    all_there(SqliteBackend::open(&PathBuf::from(format!("{}-damaged", path.display())))?)
                })
            }
        }
    })?;
    assert!(count > 20, "{count} states");
    Ok(())
}

/// No name is removed before its replacement is on the disk under its own name.
#[test]
fn a_repair_removes_nothing_before_what_replaces_it_is_synced() -> TestResult {
    let directory = tempfile::tempdir()?;
    killed(directory.path())?;
    let Some(calls) = seen("repair", directory.path())? else { return Ok(()) };
    let mut unsynced = std::collections::BTreeSet::new();
    let (mut names_open, mut removed) = (false, Vec::new());
    for call in &calls {
        match call {
            Call::Write { file, .. } | Call::Cut { file, .. } | Call::Copy { to: file, .. } => {
                unsynced.insert(file.clone());
            }
            Call::Create { file, .. } if file.contains("-damaged") => names_open = true,
            Call::Sync { file } => _ = unsynced.remove(file),
            Call::SyncFolder => names_open = false,
            Call::Rename { from, to } if to == STORE => {
                assert!(!unsynced.contains(from) && !names_open, "{call:?} after {removed:?}");
                names_open = true;
            }
            Call::Rename { .. } => names_open = true,
            Call::Remove { file } if [STORE, "queue.sqlite3-wal"].contains(&file.as_str()) => {
                let kept: Vec<_> = unsynced.iter().filter(|file| file.contains("-damaged")).collect();
                assert!(kept.is_empty() && !names_open, "{call:?}, and {kept:?} are not synced");
                names_open = true;
                removed.push(file.clone());
            }
            Call::Remove { file } if file == "queue.sqlite3-synced" => {
                assert!(!names_open, "the note goes before the switch is on the disk");
                removed.push(file.clone());
            }
            Call::Create { .. } | Call::Remove { .. } => {}
        }
    }
    assert_eq!(removed, ["queue.sqlite3-wal", "queue.sqlite3-synced"]);
    Ok(())
}

/// The work of the process that runs under strace.
#[test]
#[ignore = "other tests run it in a process of its own"]
fn act() -> TestResult {
    let path = PathBuf::from(env::var_os("TASKMESH_TEST_STORE").ok_or("a store")?);
    if env::var("TASKMESH_TEST_ACT")? == "repair" {
        repair::repair(&path)?;
    } else {
        SqliteBackend::open(&path)?;
    }
    Ok(())
}

/// Returns the calls of that process in this folder; `None` where they cannot be observed.
fn seen(act: &str, folder: &Path) -> Result<Option<Vec<Call>>, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", "sqlite::tests::power::act", "--ignored", "--test-threads=1"]);
    command.env("TASKMESH_TEST_ACT", act).env("TASKMESH_TEST_STORE", folder.join(STORE));
    Ok(match calls::of(&command, &folder.canonicalize()?)? {
        Ok(calls) => Some(calls),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    })
}

/// Checks everything that a power cut may leave, and returns the number of states.
///
/// Writes that were not synced may be lost. So only the moments before a sync or a change of names need a check:
/// earlier moments leave no other states.
fn each_cut(
    before: &Files,
    calls: &[Call],
    mut look: impl FnMut(&Path, &Files) -> TestResult,
) -> Result<usize, Box<dyn Error>> {
    let mut disk = Disk::with(before);
    let mut looked_at = std::collections::BTreeSet::new();
    let mut failed = Vec::new();
    for number in 0..=calls.len() {
        let call = calls.get(number);
        if !matches!(call, Some(Call::Write { .. } | Call::Cut { .. } | Call::Copy { .. } | Call::Create { .. })) {
            for files in disk.after_a_cut() {
                if looked_at.contains(&files) {
                    continue;
                }
                let folder = tempfile::tempdir()?;
                disk::write(folder.path(), &files)?;
                if let Err(error) = look(folder.path(), &files) {
                    let sizes: Vec<_> = files.iter().map(|(name, bytes)| (name, bytes.len())).collect();
                    failed.push(format!("before call {number}, with {sizes:?}: {error}"));
                }
                looked_at.insert(files);
            }
        }
        call.iter().for_each(|call| disk.apply(call));
    }
    let count = looked_at.len();
    if failed.is_empty() { Ok(count) } else { Err(format!("{} of {count}: {:#?}", failed.len(), failed).into()) }
}

/// Creates a store that was killed. Some of it is in the file, the rest is in the log.
fn killed(folder: &Path) -> Result<Files, Box<dyn Error>> {
    let OpenFile { backend, mut rows, .. } = SqliteBackend::open(&folder.join(STORE))?;
    let mut log = backend.open_log()?.ok_or("a log")?;
    for seq in 1..=TASKS {
        accept(&mut *rows, &mut *log, seq)?;
        if seq == TASKS / 2 {
            rows.tidy(false)?;
        }
    }
    Ok(disk::read(folder)?)
}

fn all_there(opened: OpenFile) -> TestResult {
    let OpenFile { mut rows, .. } = opened;
    for seq in 1..=TASKS {
        let known = rows.seq_of(id(seq))?.ok_or_else(|| format!("task {seq} is not there"))?;
        assert_eq!(rows.task(known)?.map(|row| row.payload), Some(task(seq).payload));
    }
    Ok(())
}

fn accept(rows: &mut dyn Rows, log: &mut dyn Log, seq: Seq) -> TestResult {
    let row = task(seq);
    rows.begin()?;
    rows.insert_task(&row)?;
    rows.join_line(&lane(&row), &place(&row))?;
    let meta = rows.meta()?;
    let meta = Meta { batch: meta.batch + 1, next_seq: seq + 1, ..meta };
    rows.save_meta(&meta)?;
    rows.commit()?;
    log.sync()?;
    log.note_synced(meta.batch);
    Ok(())
}

const STORE: &str = "queue.sqlite3";
const TASKS: Seq = 6;
