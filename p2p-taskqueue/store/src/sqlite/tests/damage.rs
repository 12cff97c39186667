//! Tests of bytes that differ from what was written: nothing wrong may come of it, and nothing may be lost without
//! notice.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use taskqueue_api::{Json, List, PeerId, TaskId, TaskStatus};

use super::{
    super::{SqliteBackend, repair, scrub},
    sample::{SPAN_START, TestResult, completed, file, lane, open, place, running, task},
};
use crate::{
    Backend, Due, Log, Meta, Reads, Rows, Seq, StoreError, TaskRow, TypeRow,
    engine::{Inputs, Live, Phase, Record, Spec, Standing},
};

/// The suffixes of the store's files that have content.
const FILES: [&str; 3] = ["", "-wal", "-synced"];

#[test]
fn a_flipped_byte_is_told_or_does_no_harm() -> TestResult {
    trials(|bytes, at| bytes[at] ^= 0x20)
}

#[test]
fn a_torn_end_is_told_or_does_no_harm() -> TestResult {
    trials(|bytes, at| bytes.truncate(at))
}

#[test]
fn a_page_of_zeros_is_told_or_does_no_harm() -> TestResult {
    trials(|bytes, at| {
        let page = at / 4096 * 4096;
        let end = (page + 4096).min(bytes.len());
        bytes[page..end].fill(0);
    })
}

#[test]
fn a_repair_that_cannot_read_the_file_says_what_else_to_do() -> TestResult {
    let pages: [(usize, &[u8]); 3] = [(0, &[0; 4096]), (100, &[0xff; 8]), (18, &[9, 9])];
    for (at, bytes) in pages {
        let killed = tempfile::tempdir()?;
        kill(killed.path(), LogAs::Copied)?;
        let path = killed.path().join(STORE);
        // The log is removed, because it has the page as well.
        fs::remove_file(with(killed.path(), "-wal"))?;
        let mut damaged = fs::read(&path)?;
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, &damaged)?;
        let error = repair::repair(&path).unwrap_err();
        assert!(matches!(error, StoreError::BeyondRepair { .. }), "{at}: {error:?}");
        let told = error.to_string();
        assert!(told.contains("restore a backup") && !told.contains("taskmesh repair"), "{told}");
        assert_eq!(fs::read(&path)?, damaged, "the file is as it was");
    }
    Ok(())
}

/// Damages each file of a killed store at many places, and checks what the store then does.
fn trials(damage: fn(&mut Vec<u8>, usize)) -> TestResult {
    for log in [LogAs::Whole, LogAs::Copied, LogAs::Anew] {
        let killed = tempfile::tempdir()?;
        let expected = kill(killed.path(), log)?;
        let files = FILES.map(|name| fs::read(with(killed.path(), name)).map(|bytes| (name, used(bytes))));
        let files: BTreeMap<_, _> = files.into_iter().collect::<Result<_, _>>()?;
        for (victim, bytes) in &files {
            let mut seen = Outcomes::default();
            for trial in 0..TRIALS {
                // The places are spread evenly over the file, at varying offsets within each part.
                let at = (bytes.len() * trial + trial * 7_919 % bytes.len()) / TRIALS;
                let mut damaged = bytes.clone();
                damage(&mut damaged, at);
                let directory = tempfile::tempdir()?;
                for (name, bytes) in &files {
                    put(directory.path(), name, if name == victim { &damaged } else { bytes })?;
                }
                let outcome = look(&directory.path().join(STORE), &expected)
                    .map_err(|error| format!("byte {at} of {victim:?}, log {log:?}: {error}"))?;
                seen.count(outcome);
            }
            println!("log {log:?}, {} bytes of {victim:?}: {seen}", bytes.len());
        }
    }
    Ok(())
}

/// How far the log had been copied when the store was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogAs {
    /// Nothing had been copied.
    Whole,
    /// All of it had been copied, and its content is still read from it.
    Copied,
    /// All of it had been copied, and one more commit is at its start.
    Anew,
}

/// The outcome of one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is there, and no problem is reported.
    Harmless,
    /// Everything is there, and the scrub reports a problem.
    ScrubTold,
    /// Something cannot be read, and the error says so.
    ReadTold,
    /// The store does not open, and the error says why.
    OpenTold,
}

#[derive(Default)]
struct Outcomes(BTreeMap<Outcome, u32>);

impl Outcomes {
    fn count(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Opens the damaged store and reads everything.
fn look(path: &Path, expected: &BTreeMap<TaskId, Record>) -> Result<Outcome, Box<dyn Error>> {
    let outcome = match SqliteBackend::open(path) {
        Err(StoreError::Io { source, .. }) => return Err(source.into()),
        Err(_) => Outcome::OpenTold,
        Ok(opened) => {
            let mut reads = opened.backend.open_reads()?;
            let (mut wrong, mut told) = (Vec::new(), false);
            for (id, record) in expected {
                match reads.get(&[*id]) {
                    Ok(found) if found[0].as_ref() == Some(record) => {}
                    Ok(found) => wrong.push(format!("{id}: {:?}", found[0])),
                    Err(_) => told = true,
                }
            }
            told |= !lists_agree(&mut *reads, expected, &mut wrong);
            let report = scrub(path, &Arc::default())?;
            assert!(report.completed);
            match (wrong.is_empty(), told, report.is_sound()) {
                // A task seems to be missing, so at least the scrub must report a problem.
                (false, _, true) => return Err(format!("silent: {wrong:?}").into()),
                (_, true, _) => Outcome::ReadTold,
                (_, false, false) => Outcome::ScrubTold,
                (true, false, true) => Outcome::Harmless,
            }
        }
    };
    if outcome != Outcome::Harmless {
        repaired(path, expected)?;
    }
    Ok(outcome)
}

/// Returns whether the lists could be read, and notes what is wrong in them.
fn lists_agree(reads: &mut dyn Reads, expected: &BTreeMap<TaskId, Record>, wrong: &mut Vec<String>) -> bool {
    let mut all_read = true;
    for status in TaskStatus::ALL {
        let count = expected.values().filter(|record| record.standing.status() == status).count();
        match reads.list(&List { status: Some(status), limit: 1_000, ..List::default() }) {
            Ok(page) => {
                for record in &page.records {
                    if expected.get(&record.spec.id) != Some(record) {
                        wrong.push(format!("listed as {status}: {record:?}"));
                    }
                }
                if page.records.len() != count {
                    wrong.push(format!("{} {status} tasks instead of {count}", page.records.len()));
                }
            }
            Err(_) => all_read = false,
        }
    }
    all_read
}

/// Checks that a repair leaves a sound store. Everything in it must be right, and what is missing must be named or
/// known to be missing.
fn repaired(path: &Path, expected: &BTreeMap<TaskId, Record>) -> TestResult {
    let report = match repair::repair(path) {
        Ok(report) => report,
        // Not even the list of tables can be read. The error says so, and the file is untouched.
        Err(error @ (StoreError::BeyondRepair { .. } | StoreError::Sqlite { .. })) => {
            // The error of a repair must not advise a repair.
            assert!(!error.to_string().contains("taskmesh repair"), "{error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let opened = SqliteBackend::open(path)?;
    let found = scrub(path, &Arc::default())?;
    assert!(found.is_sound() && found.completed, "after {report:?}: {found:?}");
    let mut reads = opened.backend.open_reads()?;
    let mut missing = 0;
    for (id, record) in expected {
        match reads.get(&[*id])?.remove(0) {
            Some(kept) if kept == *record => {}
            Some(kept) if same_but_waiting(&kept, record) => {}
            Some(kept) if report.missing_commits > 0 && kept.payload == record.payload => {}
            // The state of a task may be lost. The report then says so for each task.
            Some(kept) if report.remarks.iter().any(|remark| remark.contains(&id.to_string())) => {
                assert_eq!((&kept.spec, &kept.payload), (&record.spec, &record.payload));
                assert!(matches!(record.standing, Standing::Live(_)), "{record:?} runs again");
            }
            Some(kept) => return Err(format!("repaired into {kept:?}, was {record:?}, {report:?}").into()),
            None => missing += 1,
        }
    }
    let told = report.lost_count > 0 || report.missing_commits > 0 || !report.remarks.is_empty();
    if missing > 0 && !told {
        return Err(format!("{missing} tasks are gone without a word: {report:?}").into());
    }
    Ok(())
}

/// Compares two records. After a repair a waiting task may wait for more parents: it is told again of those that have
/// ended.
fn same_but_waiting(kept: &Record, record: &Record) -> bool {
    match (&kept.standing, &record.standing) {
        (Standing::Live(a), Standing::Live(b)) => {
            b.phase == Phase::Blocked
                && kept.spec == record.spec
                && Live { waiting: b.waiting, phase: b.phase, ..a.clone() } == *b
        }
        _ => false,
    }
}

/// Writes a store, acknowledges all of it, and copies its files as a kill would leave them.
fn kill(to: &Path, log_as: LogAs) -> Result<BTreeMap<TaskId, Record>, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let opened = open(&directory)?;
    let mut rows = opened.rows;
    let mut log = opened.backend.open_log()?.ok_or("a log")?;
    for batch in 0..BATCHES {
        commit(&mut *rows, &mut *log, |rows| {
            (1..=PER_BATCH).try_for_each(|n| live_through(rows, &one_of(batch * PER_BATCH + n)))
        })?;
        if log_as != LogAs::Whole && batch == BATCHES * 2 / 3 {
            rows.tidy(false)?;
        }
    }
    let counts = count(&mut *rows)?;
    let mut last = |rows: &mut dyn Rows| {
        commit(rows, &mut *log, |rows| counts.iter().try_for_each(|(name, row)| Ok(rows.put_type(name, row)?)))
    };
    last(&mut *rows)?;
    if log_as != LogAs::Whole {
        rows.tidy(false)?;
    }
    if log_as == LogAs::Anew {
        last(&mut *rows)?;
    }
    let mut reads = opened.backend.open_reads()?;
    let page = reads.list(&List { limit: 1_000, ..List::default() })?;
    assert!(page.next_cursor.is_none());
    let report = scrub(&file(&directory), &Arc::default())?;
    assert!(report.is_sound(), "{report:?}");
    for name in FILES {
        fs::copy(with(directory.path(), name), with(to, name))?;
    }
    Ok(page.records.into_iter().map(|record| (record.spec.id, record)).collect())
}

fn commit(rows: &mut dyn Rows, log: &mut dyn Log, change: impl FnOnce(&mut dyn Rows) -> TestResult) -> TestResult {
    rows.begin()?;
    change(rows)?;
    let meta = rows.meta()?;
    let meta = Meta { batch: meta.batch + 1, next_seq: BATCHES * PER_BATCH + 1, ..meta };
    rows.save_meta(&meta)?;
    rows.commit()?;
    log.sync()?;
    log.note_synced(meta.batch);
    Ok(())
}

/// Returns a task; the kinds of task take turns.
fn one_of(seq: Seq) -> TaskRow {
    let row = task(seq);
    let spec = Spec {
        task_type: ["a", "b", "c"][usize::try_from(seq % 3).unwrap_or(0)].to_owned(),
        after: if seq % 8 == 5 { vec![super::sample::id(seq - 1)] } else { Vec::new() },
        labels: vec![format!("label-{}", seq % 4)],
        submitter: (seq % 5 == 0).then(|| format!("submitter-{seq}")),
        submitted_by: (seq % 7 == 0).then(PeerId::random),
        ..row.spec
    };
    TaskRow { spec, ..row }
}

/// Puts a task into the state that its number selects.
fn live_through(rows: &mut dyn Rows, row: &TaskRow) -> TestResult {
    let (seq, id) = (row.seq, row.spec.id);
    rows.insert_task(row)?;
    match seq % 8 {
        0..=2 => {
            let ended = completed(&running(row));
            rows.insert_ended(seq, id, &ended, Some(&Json::from_text(&format!("the result of {seq}"))))?;
            rows.set_timer(Due::Removal(ended.expires_at), seq)?;
        }
        3 => {
            let texts = |key: &str| BTreeMap::from([(key.to_owned(), Json::from_text(&format!("{key} of {seq}")))]);
            let inputs = (seq % 16 == 3).then(|| Arc::new(Inputs::new(texts("question"), texts("answer"))));
            rows.put_live(seq, id, &Live { inputs, ..running(row) })?;
        }
        4 => {
            let (ready_at, deadline) = (SPAN_START.after(100.0), SPAN_START.after(500.0));
            let live = Live { phase: Phase::Delayed, ready_at, deadline: Some(deadline), ..row.fresh() };
            rows.put_live(seq, id, &live)?;
            rows.set_timer(Due::Ready(ready_at), seq)?;
            rows.set_timer(Due::Deadline(deadline), seq)?;
        }
        5 => {
            rows.put_live(seq, id, &Live { phase: Phase::Blocked, waiting: 1, ..row.fresh() })?;
            rows.add_edge(seq - 1, seq)?;
        }
        _ => rows.join_line(&lane(row), &place(row))?,
    }
    Ok(())
}

fn count(rows: &mut dyn Rows) -> Result<BTreeMap<String, TypeRow>, Box<dyn Error>> {
    let mut types: BTreeMap<String, TypeRow> = BTreeMap::new();
    for seq in 1..=BATCHES * PER_BATCH {
        let task = rows.task(seq)?.ok_or("a task")?;
        let status = match rows.ended(seq)? {
            Some((_, ended, _)) => ended.status,
            None => rows.live(seq)?.map_or(TaskStatus::Queued, |live| live.status()),
        };
        let counts = &mut types.entry(task.spec.task_type).or_default().counts;
        let at = TaskStatus::ALL.iter().position(|known| *known == status).ok_or("a status")?;
        counts[at] += 1;
    }
    Ok(types)
}

/// Writes a file of the store. The log gets its full length here, so that opening the store need not lengthen it.
fn put(directory: &Path, name: &str, bytes: &[u8]) -> TestResult {
    let path = with(directory, name);
    fs::write(&path, bytes)?;
    if name == "-wal" {
        fs::File::options().write(true).open(path)?.set_len(16 * 1024 * 1024)?;
    }
    Ok(())
}

fn with(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{STORE}{name}"))
}

/// Returns the content of a file without the zeros at its end: the log is longer than its content.
fn used(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

const STORE: &str = "queue.sqlite3";
const BATCHES: Seq = 12;
const PER_BATCH: Seq = 20;

/// The number of places that are tried in each file.
const TRIALS: usize = 40;
