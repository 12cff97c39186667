//! Rows of earlier versions whose checksum has the sign of a zero, which their columns do not have.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use taskqueue_api::{Caller, Claim, Complete, Json, List, PeerId, TaskQueueExt as _};

use super::{
    super::{SqliteBackend, scrub::scrub},
    sample::{TestResult, file},
};
use crate::{Backend as _, Seq, SqliteStore, StoreOptions, conformance::soon};

#[test]
fn they_are_read() -> TestResult {
    let directory = tempfile::tempdir()?;
    restore(&file(&directory))?;
    let mut opened = SqliteBackend::open(&file(&directory))?;
    for seq in 1..=TASKS {
        assert!(opened.rows.task(seq)?.is_some(), "task {seq}");
    }
    // Two of the others stand nowhere, which a repair mends.
    let task_types = ["a", "c", "e"].map(str::to_owned).to_vec();
    let found = opened.backend.open_reads()?.list(&List { task_types, ..List::default() })?.records.len();
    assert_eq!(found, 3);
    Ok(())
}

#[tokio::test]
async fn a_repair_keeps_them_and_their_tasks_are_done() -> TestResult {
    let directory = tempfile::tempdir()?;
    restore(&file(&directory))?;
    let report = SqliteStore::repair(&file(&directory))?;
    assert_eq!((report.tasks, report.lost), (TASKS.cast_unsigned(), Vec::new()));
    assert!(scrub(&file(&directory), &Arc::default())?.is_sound());
    let store = SqliteStore::open(&file(&directory), StoreOptions::new(PeerId::random()))?;
    let me = Caller::Local;
    let mut done = Vec::new();
    while let Some(task) = soon(store.claim(&me, Claim::new("w"))).await?.task {
        let result = Some(Json::null());
        soon(store.complete(&me, Complete::new(task.task_id, task.fence.ok_or("no fence")?, result))).await?;
        done.push(task.task_type);
    }
    done.sort_unstable();
    assert_eq!(done, ["a", "b", "kid"]);
    Ok(())
}

/// One changed bit is found as before, whatever sign its zeros may have had.
#[test]
fn damage_beside_a_zero_is_found() -> TestResult {
    for change in ["priority=4", "backoff_s=1.0", "payload='2'", "max_attempts=2", "crc=crc+1"] {
        let directory = tempfile::tempdir()?;
        restore(&file(&directory))?;
        Connection::open(file(&directory))?.execute(&format!("UPDATE task SET {change} WHERE seq=1"), [])?;
        let mut rows = SqliteBackend::open(&file(&directory))?.rows;
        assert_eq!(rows.task(1).unwrap_err(), crate::Fault::Damaged, "{change}");
    }
    Ok(())
}

fn restore(path: &Path) -> TestResult {
    Ok(Connection::open(path)?.execute_batch(include_str!("../fixtures/minus-zero.sql"))?)
}

/// In the fixture.
const TASKS: Seq = 5;
