use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use super::{
    command::{damaged, storage_error},
    rows::{self, Columns, RowError},
    schema,
    tally::Tally,
    turn::{not_found, record, unusable},
};
use crate::{
    QueueError,
    api::{ErrorCode, QueueStatus},
    engine::{Record, Standing, Wall},
    store::StoreError,
    task::{Json, TaskId},
};

/// A query, with where its answer goes.
pub(super) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Starts the reader threads. They end when the sender is dropped.
pub(super) fn start(path: &Path) -> Result<(SyncSender<Job>, Vec<JoinHandle<()>>), StoreError> {
    let (sender, jobs) = sync_channel(READS_MAX);
    let jobs = Arc::new(Mutex::new(jobs));
    let start = |number| {
        let connection = schema::open_reader(path).map_err(|error| schema::opening(path, error))?;
        let jobs = Arc::clone(&jobs);
        thread::Builder::new()
            .name(format!("store-reader-{number}"))
            .spawn(move || work(&connection, &jobs))
            .map_err(|source| StoreError::Io { path: path.to_owned(), source })
    };
    let threads = (0..READERS).map(start).collect::<Result<_, _>>()?;
    Ok((sender, threads))
}

fn work(connection: &Connection, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Whichever thread is free holds the lock and waits; the other one waits for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(connection),
            Err(_) => return,
        }
    }
}

/// Reads records in the order of the ids, all as of one moment.
pub(super) fn get(connection: &Connection, ids: &[TaskId]) -> Result<Vec<Record>, QueueError> {
    let snapshot = connection.unchecked_transaction().map_err(|error| storage_error(&error))?;
    let mut records = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for id in ids {
        let record = get_one(&snapshot, *id)?;
        bytes += record_bytes(&record);
        if bytes > READ_BYTES_MAX && records.len() > 1 {
            return Err(QueueError::over_limit("task_ids", bytes, READ_BYTES_MAX, "bytes of records"));
        }
        records.push(record);
    }
    Ok(records)
}

fn get_one(connection: &Connection, id: TaskId) -> Result<Record, QueueError> {
    let failed = |error| unusable(id, RowError::from(error));
    let mut statement = connection.prepare_cached(GET).map_err(failed)?;
    let mut found = statement.query([id.as_bytes().as_slice()]).map_err(failed)?;
    let row = found.next().map_err(failed)?.ok_or_else(|| not_found(id))?;
    let record = read_record(row).map_err(|error| unusable(id, error))?;
    if record.spec.id == id { Ok(record) } else { Err(damaged(id)) }
}

const GET: &str = concat!(
    "SELECT ",
    rows::spec_columns!(),
    ", ",
    rows::live_columns!(),
    ", ",
    rows::ended_columns!(),
    " FROM task t LEFT JOIN live l ON l.seq = t.seq LEFT JOIN finished f ON f.seq = t.seq WHERE t.id = ?1"
);

/// Reads a row of the three tables' columns, one after the other.
pub(super) fn read_record(row: &rusqlite::Row<'_>) -> Result<Record, RowError> {
    let mut columns = Columns::new(row);
    let (_, spec, payload) = rows::read_spec(&mut columns)?;
    let (standing, result) = if row.get::<_, Option<i64>>(LIVE_AT)?.is_some() {
        (Standing::Live(rows::read_live(&mut columns)?.live), None)
    } else {
        columns.skip(LIVE_COUNT);
        let (ended, result) = rows::read_ended(&mut columns)?;
        (Standing::Ended(ended), result)
    };
    record(spec, payload, standing, result).map_err(|_| RowError::Damaged)
}

/// About how large the record is when it is answered.
pub(super) fn record_bytes(record: &Record) -> usize {
    RECORD_BYTES_AROUND + record.payload.len_bytes() + record.result.as_ref().map_or(0, Json::len_bytes)
}

/// Counts what is there.
pub(super) fn status(connection: &Connection, now: Wall) -> Result<QueueStatus, QueueError> {
    let failed = |error: rusqlite::Error| storage_error(&error);
    let tally = Tally::load(connection).map_err(failed)?;
    let totals = tally.counts().map(|(status, count)| (status.as_str().to_owned(), count)).collect();
    // The index has one run for each line and priority; within it the oldest is first.
    let oldest: Option<i64> = connection
        .prepare_cached(OLDEST_READY)
        .and_then(|mut oldest| oldest.query_row([], |row| row.get(0)))
        .map_err(failed)?;
    let oldest_queued_s = oldest.map(|at| (now.as_secs() - Wall::from_micros(at).as_secs()).max(0.0));
    Ok(QueueStatus { totals, oldest_queued_s })
}

/// Steps from run to run of the index instead of through all ready tasks; up to 1,000 runs, which is exact for any usual
/// number of lines.
const OLDEST_READY: &str = "
WITH RECURSIVE run (lane, priority, ready_at, step) AS (
  SELECT * FROM (SELECT lane, priority, ready_at, 1 FROM live INDEXED BY live_ready WHERE phase = 0
                 ORDER BY lane, priority DESC, ready_at LIMIT 1)
  UNION ALL
  SELECT next.lane, next.priority, next.ready_at, run.step + 1 FROM run JOIN live AS next ON next.seq =
    coalesce(
      (SELECT seq FROM live INDEXED BY live_ready WHERE phase = 0 AND lane = run.lane AND priority < run.priority
       ORDER BY priority DESC, ready_at, id LIMIT 1),
      (SELECT seq FROM live INDEXED BY live_ready WHERE phase = 0 AND lane > run.lane
       ORDER BY lane, priority DESC, ready_at, id LIMIT 1))
  WHERE run.step < 1000
)
SELECT min(ready_at) FROM run";

/// Two, so that a long list does not hold up a `get`; more would only wait for the two cores of a small machine.
const READERS: usize = 2;

/// Reads that wait: all waits for one task may be woken at once, and each reads its record.
const READS_MAX: usize = 16_384;

/// What one answer may hold in memory.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A record's other fields and their names, as JSON.
const RECORD_BYTES_AROUND: usize = 640;

/// Where the columns of `live` start after those of `task`, and how many they are.
const LIVE_AT: usize = 16;
const LIVE_COUNT: usize = 22;

/// For callers whose read finds no room.
pub(super) fn too_many_reads() -> QueueError {
    QueueError::new(ErrorCode::Overloaded, format!("more than {READS_MAX} reads wait already"))
        .with_retry_after_s(READS_RETRY_AFTER_S)
}

/// Reads take well under a millisecond each.
const READS_RETRY_AFTER_S: f64 = 0.5;
