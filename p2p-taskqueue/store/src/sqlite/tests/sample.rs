//! Rows that the tests write.

use std::{error::Error, path::PathBuf};

use taskqueue_api::{AttemptOutcome, Fence, Json, OnParentFailure, PeerId, Submit, TaskId, TaskStatus};
use tempfile::TempDir;

use super::super::{OpenFile, SqliteBackend};
use crate::{
    Place, Seq, TaskRow,
    engine::{Attempt, AttemptEnd, Attempts, Elapsed, Ended, Lane, Live, Phase, Policy, Spec, Wall},
};

pub(super) type TestResult = Result<(), Box<dyn Error>>;

pub(super) const START: Wall = Wall::from_micros(1_700_000_000_000_000);
pub(super) const SPAN_START: Elapsed = Elapsed::from_micros(1_600_000_000_000_000);

pub(super) fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("queue.sqlite3")
}

pub(super) fn open(directory: &TempDir) -> Result<OpenFile, Box<dyn Error>> {
    Ok(SqliteBackend::open(&file(directory))?)
}

/// An id that looks as random as a real one.
pub(super) fn id(seq: Seq) -> TaskId {
    let mixed = |salt: u64| {
        let mut x = u64::try_from(seq).unwrap_or(0).wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)).to_le_bytes()
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed(1));
    bytes[8..].copy_from_slice(&mixed(1 << 40));
    TaskId::from_bytes(bytes)
}

/// Returns a task that was accepted with this number.
pub(super) fn task(seq: Seq) -> TaskRow {
    let submit = Submit::new("echo", Json::null());
    let created_at = Wall::from_micros(START.as_micros() + seq);
    let spec = Spec {
        id: id(seq),
        submitter: None,
        submitted_by: None,
        task_type: submit.task_type,
        model_name: String::new(),
        priority: 5,
        created_at,
        deadline_s: None,
        labels: Vec::new(),
        requires: Vec::new(),
        session: None,
        pin_to: None,
        after: Vec::new(),
        on_parent_failure: OnParentFailure::Fail,
        concurrency_key: None,
        policy: Policy { max_attempts: 3, backoff_s: 1.0, result_ttl_s: 86_400.0 },
    };
    let payload = Json::from_text(&format!("the payload of task {seq}: {}", "some words. ".repeat(8)));
    TaskRow {
        seq,
        spec,
        ready_at: Elapsed::from_micros(SPAN_START.as_micros() + seq),
        not_before: None,
        payload: payload.into_text(),
    }
}

pub(super) fn lane(row: &TaskRow) -> String {
    Lane::of(&row.spec).to_text()
}

pub(super) fn place(row: &TaskRow) -> Place {
    super::super::line::place_of(row, row.ready_at)
}

/// Returns the same task as it runs.
pub(super) fn running(row: &TaskRow) -> Live {
    Live {
        phase: Phase::Running,
        attempt: 1,
        fence: Some(Fence { epoch: 1, counter: u64::try_from(row.seq).unwrap_or(0) }),
        worker: Some("worker-1".to_owned()),
        lease_s: 300.0,
        lease_until: Some(START.after(300.0)),
        attempts: Attempts::of(vec![attempt(None)]),
        updated_at: START,
        ..row.fresh()
    }
}

fn attempt(end: Option<AttemptEnd>) -> Attempt {
    static MACHINE: std::sync::LazyLock<PeerId> = std::sync::LazyLock::new(PeerId::random);
    Attempt { machine: *MACHINE, worker: "worker-1".to_owned(), started_at: START, end }
}

/// Returns the same task as it was completed.
pub(super) fn completed(live: &Live) -> Ended {
    let end = AttemptEnd { at: START.after(1.0), outcome: AttemptOutcome::Completed, error: None };
    Ended {
        status: TaskStatus::Completed,
        at: START.after(1.0),
        expires_at: SPAN_START.after(86_401.0),
        not_before: None,
        deadline: None,
        attempt: live.attempt,
        fence: live.fence,
        worker: live.worker.clone(),
        progress: None,
        status_message: None,
        error: None,
        dead: false,
        failed_by: None,
        attempts: Attempts::of(vec![attempt(Some(end))]),
    }
}
