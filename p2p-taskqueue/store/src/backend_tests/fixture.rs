//! Tasks that tests move from state to state by hand.

use std::{cmp::Reverse, sync::Arc};

use taskqueue_api::{AttemptOutcome, Fence, Json, OnParentFailure, PeerId, TaskId, TaskStatus};

use crate::{
    CacheRow, Due, Fault, Page, Place, Rows, Seq, TaskRow,
    engine::{Attempt, AttemptEnd, Attempts, Elapsed, Ended, Inputs, Lane, Live, Phase, Policy, Spec, Wall},
};

/// Makes a change in a transaction of its own.
pub(super) fn commit<T>(
    rows: &mut dyn Rows,
    change: impl FnOnce(&mut dyn Rows) -> Result<T, Fault>,
) -> Result<T, Fault> {
    rows.begin()?;
    let done = change(rows)?;
    rows.commit()?;
    Ok(done)
}

/// Writes twelve tasks in all states: see [`STATES_OF_THE_GALLERY`] and [`gallery_row`].
pub(super) fn gallery(rows: &mut dyn Rows) -> Result<(), Fault> {
    for seq in 1..=12_i32 {
        let row = gallery_row(seq.into());
        accept(rows, &row)?;
        let at = f64::from(seq);
        match seq {
            2 | 7 => start(rows, &row, &running(&row, 1))?,
            3 | 9 => end(rows, &row, &ended(TaskStatus::Failed, at), None)?,
            4 | 8 => end(rows, &row, &ended(TaskStatus::Completed, at), Some(&Json::from_text("r")))?,
            11 => end(rows, &row, &ended(TaskStatus::Cancelled, at), None)?,
            5 => wait(rows, &row, Phase::Delayed)?,
            10 => wait(rows, &row, Phase::Blocked)?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) const STATES_OF_THE_GALLERY: [(TaskStatus, &[Seq]); 5] = [
    (TaskStatus::Queued, &[1, 5, 6, 10, 12]),
    (TaskStatus::Running, &[2, 7]),
    (TaskStatus::Completed, &[4, 8]),
    (TaskStatus::Failed, &[3, 9]),
    (TaskStatus::Cancelled, &[11]),
];

/// Returns a task of the gallery. Every second one has another type, every third one a session, every fourth one a
/// label.
pub(super) fn gallery_row(seq: Seq) -> TaskRow {
    let row = task(seq);
    let mut labels = vec!["other".to_owned()];
    labels.extend((seq % 4 == 0).then(|| "l".to_owned()));
    let spec = Spec {
        task_type: if seq % 2 == 0 { "even" } else { "odd" }.to_owned(),
        session: (seq % 3 == 0).then(|| "s".to_owned()),
        labels,
        ..row.spec
    };
    TaskRow { spec, ..row }
}

pub(super) fn lanes(rows: &mut dyn Rows) -> Result<Vec<String>, Fault> {
    let mut lanes: Vec<String> = Vec::new();
    while let Some(lane) = rows.next_lane(lanes.last().map(String::as_str))? {
        assert!(!lanes.contains(&lane), "{lane} comes twice");
        lanes.push(lane);
    }
    Ok(lanes)
}

/// Returns the numbers of the records' ids, which are also their numbers in the order of acceptance.
pub(super) fn seqs(page: &Page) -> Vec<Seq> {
    page.records.iter().map(|record| record.spec.id.as_bytes()[0].into()).collect()
}

pub(super) fn at(seconds: f64) -> Wall {
    Wall::from_secs(1_800_000_000.0).after(seconds)
}

/// Returns a point in elapsed time. It differs from [`at`], so that a mix-up of the two is noticed.
pub(super) fn span(seconds: f64) -> Elapsed {
    Elapsed::from_micros(0).after(1_000.0 + seconds)
}

/// Returns the id that consists of this number.
pub(super) const fn id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

pub(super) fn owner() -> PeerId {
    static OWNER: std::sync::LazyLock<PeerId> = std::sync::LazyLock::new(PeerId::random);
    *OWNER
}

pub(super) fn lane(task_type: &str) -> String {
    let spec = task(1).spec;
    Lane::of(&Spec { task_type: task_type.to_owned(), ..spec }).to_text()
}

/// Returns a plain task whose id consists of its place in the order of acceptance.
pub(crate) fn task(seq: Seq) -> TaskRow {
    let number = u8::try_from(seq).expect("tests have few tasks");
    let spec = Spec {
        id: id(number),
        submitter: None,
        submitted_by: None,
        task_type: "echo".to_owned(),
        model_name: String::new(),
        priority: 5,
        created_at: at(f64::from(number)),
        deadline_s: None,
        labels: Vec::new(),
        requires: Vec::new(),
        session: None,
        pin_to: None,
        after: Vec::new(),
        on_parent_failure: OnParentFailure::Fail,
        concurrency_key: None,
        policy: Policy { max_attempts: 3, backoff_s: 1.0, result_ttl_s: 60.0 },
    };
    TaskRow { seq, ready_at: span(f64::from(number)), not_before: None, payload: Json::null().to_string(), spec }
}

pub(super) fn place(row: &TaskRow) -> Place {
    Place { priority: Reverse(row.spec.priority), ready_at: row.ready_at, id: row.spec.id, seq: row.seq }
}

/// Writes a fresh task.
pub(super) fn accept(rows: &mut dyn Rows, row: &TaskRow) -> Result<(), Fault> {
    rows.insert_task(row)?;
    rows.join_line(&Lane::of(&row.spec).to_text(), &place(row))
}

pub(super) fn leave(rows: &mut dyn Rows, row: &TaskRow) -> Result<(), Fault> {
    rows.leave_line(&Lane::of(&row.spec).to_text(), &place(row))
}

/// Gives out a fresh task.
pub(super) fn start(rows: &mut dyn Rows, row: &TaskRow, live: &Live) -> Result<(), Fault> {
    leave(rows, row)?;
    rows.put_live(row.seq, row.spec.id, live)
}

/// Makes a fresh task wait.
pub(super) fn wait(rows: &mut dyn Rows, row: &TaskRow, phase: Phase) -> Result<(), Fault> {
    start(rows, row, &Live { phase, ready_at: span(30.0), ..row.fresh() })?;
    rows.set_timer(Due::Deadline(span(40.0)), row.seq)?;
    if phase == Phase::Delayed { rows.set_timer(Due::Ready(span(30.0)), row.seq) } else { Ok(()) }
}

/// Ends a fresh or running task.
pub(super) fn end(rows: &mut dyn Rows, row: &TaskRow, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
    if rows.live(row.seq)?.is_some() {
        rows.remove_live(row.seq, row.spec.id)?;
    } else {
        leave(rows, row)?;
    }
    rows.set_timer(Due::Removal(ended.expires_at), row.seq)?;
    rows.insert_ended(row.seq, row.spec.id, ended, result)
}

pub(super) fn running(row: &TaskRow, counter: u64) -> Live {
    Live {
        phase: Phase::Running,
        attempt: 1,
        fence: Some(Fence { epoch: 1, counter }),
        worker: Some("w".to_owned()),
        lease_s: 0.3,
        lease_until: Some(at(9.0)),
        attempts: Attempts::of(vec![attempt("w", None)]),
        updated_at: at(8.0),
        ..row.fresh()
    }
}

/// Returns an attempt of a worker with this name. With an error it has failed.
pub(super) fn attempt(worker: &str, error: Option<&str>) -> Attempt {
    let failed =
        |error: &str| AttemptEnd { at: at(8.5), outcome: AttemptOutcome::Failed, error: Some(error.to_owned()) };
    Attempt { machine: owner(), worker: worker.to_owned(), started_at: at(8.0), end: error.map(failed) }
}

/// Returns questions and answers, which are texts by key.
pub(super) fn inputs(open: &[(&str, &str)], answers: &[(&str, &str)]) -> Arc<Inputs> {
    let texts = |of: &[(&str, &str)]| of.iter().map(|(key, text)| ((*key).to_owned(), Json::from_text(text))).collect();
    Arc::new(Inputs::new(texts(open), texts(answers)))
}

pub(crate) fn ended(status: TaskStatus, at_s: f64) -> Ended {
    Ended {
        status,
        at: at(at_s),
        expires_at: span(at_s).after(60.0),
        not_before: None,
        deadline: None,
        attempt: 1,
        fence: Some(Fence { epoch: 1, counter: 1 }),
        worker: Some("w".to_owned()),
        progress: None,
        status_message: None,
        error: None,
        dead: false,
        failed_by: None,
        attempts: Attempts::NONE,
    }
}

/// Returns a cached value that is a JSON string. Times of the last use are whole minutes.
pub(super) fn cache_row(text: &str, expires_s: Option<f64>, used_s: f64) -> CacheRow {
    CacheRow { value: Json::from_text(text), expires_at: expires_s.map(span), used_at: span(used_s) }
}

/// Texts that a careless backend confuses, splits or misreads.
pub(super) const ODD_TEXTS: [&str; 13] = [
    "",
    " ",
    "'",
    "\"",
    "\\",
    "%_*?",
    "a'; DROP TABLE task; --",
    "null",
    "1",
    "1.0",
    "ü\u{1F980}\u{10FFFF}",
    "line\nbreak\u{1}",
    "a-text-that-is-longer-than-the-others-0123456789-0123456789-0123456789-0123456789-0123456789",
];
