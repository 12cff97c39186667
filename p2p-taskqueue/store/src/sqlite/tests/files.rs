//! Tests of the store's files: who owns them, how they are kept, and what is noticed when one is missing.

use std::{
    fs,
    sync::{Arc, atomic::AtomicBool},
};

use taskqueue_api::{List, Order, PeerId, TaskStatus};

use super::{
    super::{
        OpenFile, SqliteBackend, SqliteStore, files::companion, meta, note::Note, rows::SqliteRows, schema, scrub,
    },
    sample::{TestResult, completed, file, id, lane, open, place, running, task},
};
use crate::{
    Backend, Fault, FileRoom, Log, Meta, Room, Rows, Seq, StoreError, StoreOptions, TaskStore, TaskTable as _, Timer,
    TypeRow,
    engine::{Live, Phase},
};

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() -> TestResult {
    let directory = tempfile::tempdir()?;
    let first = open(&directory)?;
    assert!(matches!(SqliteBackend::open(&file(&directory)).unwrap_err(), StoreError::InUse { .. }));
    assert!(matches!(SqliteStore::repair(&file(&directory)).unwrap_err(), StoreError::InUse { .. }));
    drop(first);
    open(&directory)?;
    Ok(())
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() -> TestResult {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir()?;
    fs::write(file(&directory), "")?;
    let opened = open(&directory)?;
    assert_eq!(opened.backend.set_aside(FileRoom::default()), Room::Ample);
    let mut files = 0;
    for entry in fs::read_dir(directory.path())? {
        let entry = entry?;
        assert_eq!(entry.metadata()?.permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    // These are the store, its log and the log's index, the lock, the note, and the reserve.
    assert_eq!(files, 6);
    Ok(())
}

#[test]
fn a_full_disk_is_told_and_the_rest_goes_on() -> TestResult {
    let directory = tempfile::tempdir()?;
    let opened = open(&directory)?;
    drop(opened.rows);
    let connection = schema::open_writer(&file(&directory))?;
    let (name, _) = meta::read(&connection).map_err(|error| format!("{error:?}"))?;
    let (note, _) = Note::open(&file(&directory), name)?;
    let mut rows = SqliteRows::open(&file(&directory), name, Arc::new(note))?;
    rows.limit_pages(40)?;
    let mut kept = 0;
    let fault = loop {
        rows.begin()?;
        match accept(&mut rows, kept + 1).and_then(|()| rows.commit()) {
            Ok(()) => kept += 1,
            Err(fault) => break fault,
        }
        assert!(kept < 10_000);
    };
    assert!(matches!(fault, Fault::Full(_)), "{fault}");
    rows.rollback()?;
    assert_eq!(rows.task(kept)?, Some(task(kept)));
    assert_eq!(rows.task(kept + 1)?, None);
    rows.limit_pages(i64::from(i32::MAX))?;
    rows.begin()?;
    accept(&mut rows, kept + 1)?;
    rows.commit()?;
    let report = scrub(&file(&directory), &Arc::default())?;
    // The rows were written without counting the tasks of the type.
    assert_eq!(report.problems, ["the count of tasks of type \"echo\" is wrong"]);
    Ok(())
}

#[test]
fn a_log_that_is_gone_is_missed() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { backend, mut rows, .. } = open(&directory)?;
    let mut log = backend.open_log()?.ok_or("a log")?;
    for seq in 1..=7 {
        commit_one(&mut *rows, &mut *log, seq)?;
    }
    drop((rows, backend, log));
    fs::remove_file(companion(&file(&directory), "-wal"))?;
    let error = SqliteBackend::open(&file(&directory)).unwrap_err();
    assert!(matches!(error, StoreError::LostTail { missing: 7, .. }), "{error}");
    let report = SqliteStore::repair(&file(&directory))?;
    assert_eq!((report.missing_commits, report.tasks), (7, 0));
    assert!(report.kept_at.exists());
    // No fence and no number may be given twice, whatever the missing part held.
    let mut opened = open(&directory)?;
    let meta = opened.rows.meta()?;
    assert!(meta.epoch > 1_000 && meta.next_seq > 1_000 && meta.batch > 7, "{meta:?}");
    Ok(())
}

#[test]
fn an_empty_file_beside_a_note_is_missed() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { backend, mut rows, .. } = open(&directory)?;
    let mut log = backend.open_log()?.ok_or("a log")?;
    commit_one(&mut *rows, &mut *log, 1)?;
    drop((rows, backend, log));
    for name in ["", "-wal", "-shm"] {
        fs::remove_file(companion(&file(&directory), name))?;
    }
    let error = SqliteBackend::open(&file(&directory)).unwrap_err();
    assert!(matches!(error, StoreError::LostTail { missing: 1, .. }), "{error}");
    Ok(())
}

#[test]
fn an_end_in_order_is_told_from_another() -> TestResult {
    let directory = tempfile::tempdir()?;
    for (in_order, clean) in [(false, false), (true, false), (true, true), (false, true), (true, false)] {
        let OpenFile { backend, mut rows, clean: was_clean } = open(&directory)?;
        assert_eq!(was_clean, clean);
        let mut log = backend.open_log()?.ok_or("a log")?;
        let seq = rows.meta()?.next_seq;
        commit_one(&mut *rows, &mut *log, seq)?;
        if in_order {
            rows.tidy(true)?;
        }
    }
    Ok(())
}

#[test]
fn the_log_keeps_its_length_and_its_place() -> TestResult {
    let directory = tempfile::tempdir()?;
    let log_file = companion(&file(&directory), "-wal");
    let mut length = None;
    for round in 0..2 {
        let OpenFile { backend, mut rows, .. } = open(&directory)?;
        let mut log = backend.open_log()?.ok_or("a log")?;
        let at_start = fs::metadata(&log_file)?.len();
        assert_eq!(*length.get_or_insert(at_start), at_start);
        // This writes several times as much as the log holds.
        for part in 0..4_000 {
            commit_one(&mut *rows, &mut *log, 1 + round * 4_000 + part)?;
        }
        assert_eq!(fs::metadata(&log_file)?.len(), at_start);
        drop(rows);
        rows = backend.open_rows()?;
        assert_eq!(rows.task(1)?, Some(task(1)));
        rows.tidy(true)?;
        assert_eq!(fs::metadata(&log_file)?.len(), at_start);
    }
    Ok(())
}

#[test]
fn an_interrupted_repair_is_ended_at_the_next_start() -> TestResult {
    let (directory, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for (place, seq) in [(&directory, 1), (&other, 2)] {
        let OpenFile { backend, mut rows, .. } = open(place)?;
        let mut log = backend.open_log()?.ok_or("a log")?;
        commit_one(&mut *rows, &mut *log, seq)?;
        rows.tidy(true)?;
    }
    fs::copy(file(&other), companion(&file(&directory), "-repaired"))?;
    let mut opened = open(&directory)?;
    assert_eq!((opened.rows.task(1)?, opened.rows.task(2)?), (None, Some(task(2))));
    assert!(!companion(&file(&directory), "-repaired").exists());
    Ok(())
}

#[test]
fn settings_that_cannot_be_read_are_not_passed_over() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { backend, mut rows, .. } = open(&directory)?;
    rows.begin()?;
    accept(&mut *rows, 1)?;
    rows.put_type("echo", &TypeRow { paused: true, ..TypeRow::default() })?;
    rows.commit()?;
    drop((rows, backend));
    rusqlite::Connection::open(file(&directory))?.execute("UPDATE type SET paused = 0", [])?;
    let error = SqliteBackend::open(&file(&directory)).unwrap_err();
    assert!(matches!(error, StoreError::DamagedRow { .. }), "{error}");
    let report = SqliteStore::repair(&file(&directory))?;
    assert_eq!((report.tasks, report.lost_count, report.remarks.len()), (1, 0, 1));
    let types = open(&directory)?.rows.types()?;
    assert_eq!(types, [("echo".to_owned(), TypeRow { counts: [1, 0, 0, 0, 0], ..TypeRow::default() })]);
    Ok(())
}

#[test]
fn a_repair_of_a_sound_store_changes_no_record() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { backend, mut rows, .. } = open(&directory)?;
    let mut log = backend.open_log()?.ok_or("a log")?;
    for seq in 1..=20 {
        commit_one(&mut *rows, &mut *log, seq)?;
    }
    let before = backend.open_reads()?.list(&List::default())?;
    drop((rows, backend, log));
    let report = SqliteStore::repair(&file(&directory))?;
    assert_eq!((report.tasks, report.lost_count, report.missing_commits), (20, 0, 0));
    assert!(report.remarks.is_empty(), "{report:?}");
    assert_eq!(open(&directory)?.backend.open_reads()?.list(&List::default())?, before);
    Ok(())
}

#[test]
fn a_scrub_stops_when_it_is_told_to() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { mut rows, .. } = open(&directory)?;
    rows.begin()?;
    (1..=2_000).try_for_each(|seq| accept(&mut *rows, seq))?;
    rows.commit()?;
    let stop = Arc::new(AtomicBool::new(true));
    assert!(!scrub(&file(&directory), &stop)?.completed);
    assert!(scrub(&file(&directory), &Arc::default())?.completed);
    Ok(())
}

#[test]
fn an_end_that_was_not_in_order_is_looked_over() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { mut rows, backend, .. } = open(&directory)?;
    let mut log = backend.open_log()?.ok_or("a log")?;
    commit_one(&mut *rows, &mut *log, 1)?;
    drop((rows, log, backend));
    let store = SqliteStore::open(&file(&directory), StoreOptions::new(PeerId::random()))?;
    let report = store.when_scrubbed().ok_or("a report")?;
    assert_eq!((report.tasks, report.completed), (1, true));
    store.close();
    let store = SqliteStore::open(&file(&directory), StoreOptions::new(PeerId::random()))?;
    assert_eq!(store.when_scrubbed(), None);
    Ok(())
}

#[test]
fn a_list_of_what_waits_passes_over_what_has_ended() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { backend, mut rows, .. } = open(&directory)?;
    let waiting: [Seq; 4] = [1, 2_500, 2_501, 6_000];
    rows.begin()?;
    for seq in 1..=6_000 {
        let row = task(seq);
        match (waiting.contains(&seq), seq) {
            (true, 2_501) => {
                rows.insert_task(&row)?;
                rows.put_live(seq, id(seq), &Live { phase: Phase::Delayed, ..row.fresh() })?;
            }
            (true, _) => accept(&mut *rows, seq)?,
            (false, _) => {
                rows.insert_task(&row)?;
                rows.insert_ended(seq, id(seq), &completed(&running(&row)), None)?;
            }
        }
    }
    rows.commit()?;
    let mut reads = backend.open_reads()?;
    for order in [Order::Oldest, Order::Newest] {
        let mut query = List { status: Some(TaskStatus::Queued), order, limit: 1, ..List::default() };
        let mut found = Vec::new();
        // Each page has as many records as fit: none is empty.
        for _ in 0..waiting.len() {
            let page = reads.list(&query)?;
            assert_eq!(page.records.len(), 1);
            found.extend(page.records.into_iter().map(|record| record.spec.id));
            query.cursor = page.next_cursor;
        }
        if let Some(cursor) = query.cursor.take() {
            assert!(reads.list(&List { cursor: Some(cursor), ..query })?.records.is_empty());
        }
        let mut expected = waiting.map(id).to_vec();
        if order == Order::Newest {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
    Ok(())
}

#[test]
fn a_damaged_place_holds_nobody_up() -> TestResult {
    let directory = tempfile::tempdir()?;
    let OpenFile { mut rows, .. } = open(&directory)?;
    rows.begin()?;
    (1..=3).try_for_each(|seq| accept(&mut *rows, seq))?;
    (1..=3).try_for_each(|seq| rows.set_timer(Timer::Ready.at(seq), seq))?;
    rows.commit()?;
    let other = rusqlite::Connection::open(file(&directory))?;
    other.execute("UPDATE line SET crc = crc + 1 WHERE seq = 1", [])?;
    other.execute("UPDATE timer SET crc = crc + 1 WHERE seq = 1", [])?;
    let lane = lane(&task(1));
    assert_eq!(rows.line(&lane, None, 2)?, [place(&task(2)), place(&task(3))]);
    assert_eq!(rows.line(&lane, Some(&place(&task(1))), 1)?, [place(&task(2))]);
    assert_eq!(rows.first_due(Timer::Ready)?, Some(Timer::Ready.at(2)));
    assert_eq!(rows.due(Timer::Ready.at(9), 2)?.len(), 2);
    Ok(())
}

fn accept(rows: &mut dyn Rows, seq: Seq) -> Result<(), Fault> {
    let row = task(seq);
    rows.insert_task(&row)?;
    rows.join_line(&lane(&row), &place(&row))
}

/// Writes one task in a batch of its own, which is then synced and noted.
fn commit_one(rows: &mut dyn Rows, log: &mut dyn Log, seq: Seq) -> TestResult {
    rows.begin()?;
    accept(rows, seq)?;
    let meta = rows.meta()?;
    let meta = Meta { batch: meta.batch + 1, next_seq: seq + 1, ..meta };
    rows.save_meta(&meta)?;
    rows.commit()?;
    log.sync()?;
    log.note_synced(meta.batch);
    Ok(())
}
