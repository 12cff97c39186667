use rusqlite::{CachedStatement, Connection, Row, types::FromSql};

use super::{
    checksum::{ended_crc, live_crc, spec_crc},
    lanes::Head,
};
use crate::{
    PeerId,
    engine::{Ended, Lane, Live, Phase, Spec, Terms, Wall},
    task::{Fence, TaskId, TaskStatus},
};

/// The columns of `task`, in the order in which [`read_spec`] takes them.
macro_rules! spec_columns {
    () => {
        "t.seq, t.id, t.task_type, t.model_name, t.priority, t.created_at, t.deadline, \
     t.labels, t.requires, t.session, t.pin_to, t.max_attempts, t.backoff_s, t.result_ttl_s, t.crc, t.payload"
    };
}
pub(super) use spec_columns;

/// The columns of `live`, in the order in which [`read_live`] takes them.
macro_rules! live_columns {
    () => {
        "l.seq, l.id, l.lane, l.priority, l.phase, l.ready_at, l.not_before, l.attempt, \
     l.fence_epoch, l.fence_counter, l.worker, l.lease_s, l.lease_until, l.cancel, l.progress, l.status_message, \
     l.error, l.updated_at, l.max_attempts, l.backoff_s, l.result_ttl_s, l.crc"
    };
}
pub(super) use live_columns;

/// The columns of `finished`, in the order in which [`read_ended`] takes them.
macro_rules! ended_columns {
    () => {
        "f.seq, f.id, f.status, f.at, f.expires_at, f.not_before, f.attempt, \
     f.fence_epoch, f.fence_counter, f.worker, f.progress, f.status_message, f.error, f.dead, f.crc, f.result"
    };
}
pub(super) use ended_columns;

/// What the store keeps beside the engine's part of a live row.
#[derive(Debug, Clone)]
pub(super) struct LiveRow {
    pub(super) seq: i64,
    pub(super) id: TaskId,
    /// The lane, as [`lane_key`] writes it.
    pub(super) lane: String,
    pub(super) priority: u8,
    pub(super) live: Live,
}

impl LiveRow {
    /// Its place in its lane.
    pub(super) fn head(&self) -> Head {
        Head::new(self.priority, self.live.ready_at, self.id, self.seq)
    }
}

/// Why a row cannot be used.
#[derive(Debug)]
pub(super) enum RowError {
    /// Its content is not what was written.
    Damaged,
    /// SQLite could not read it.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(..) => Self::Sqlite(error),
            // A value of another type or out of its range was not written here.
            _ => Self::Damaged,
        }
    }
}

/// Takes the columns of a row one after the other.
pub(super) struct Columns<'a, 'stmt> {
    row: &'a Row<'stmt>,
    at: usize,
}

impl<'a, 'stmt> Columns<'a, 'stmt> {
    pub(super) const fn new(row: &'a Row<'stmt>) -> Self {
        Self { row, at: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> Result<T, RowError> {
        let value = self.row.get(self.at)?;
        self.at += 1;
        Ok(value)
    }

    /// Passes over columns.
    pub(super) const fn skip(&mut self, count: usize) {
        self.at += count;
    }

    fn id(&mut self) -> Result<TaskId, RowError> {
        self.take().map(TaskId::from_bytes)
    }

    fn wall(&mut self) -> Result<Wall, RowError> {
        self.take().map(Wall::from_micros)
    }

    fn wall_if_any(&mut self) -> Result<Option<Wall>, RowError> {
        Ok(self.take::<Option<i64>>()?.map(Wall::from_micros))
    }

    fn fence(&mut self) -> Result<Option<Fence>, RowError> {
        let (epoch, counter) = (self.take::<Option<i64>>()?, self.take::<Option<i64>>()?);
        let part = |value: i64| u64::try_from(value).map_err(|_| RowError::Damaged);
        match (epoch, counter) {
            (Some(epoch), Some(counter)) => Ok(Some(Fence { epoch: part(epoch)?, counter: part(counter)? })),
            (None, None) => Ok(None),
            _ => Err(RowError::Damaged),
        }
    }

    fn words(&mut self) -> Result<Vec<String>, RowError> {
        match self.take::<Option<String>>()? {
            Some(text) => serde_json::from_str(&text).map_err(|_| RowError::Damaged),
            None => Ok(Vec::new()),
        }
    }

    fn terms(&mut self) -> Result<Terms, RowError> {
        Ok(Terms { max_attempts: self.take()?, backoff_s: self.take()?, result_ttl_s: self.take()? })
    }

    fn checked(&mut self, crc: u32) -> Result<(), RowError> {
        if self.take::<i64>()? == i64::from(crc) { Ok(()) } else { Err(RowError::Damaged) }
    }
}

/// Reads the columns of `spec_columns`: the sequence number, what the submit fixed, and the payload's text.
pub(super) fn read_spec(columns: &mut Columns<'_, '_>) -> Result<(i64, Spec, String), RowError> {
    let seq = columns.take()?;
    let spec = Spec {
        id: columns.id()?,
        task_type: columns.take()?,
        model_name: columns.take()?,
        priority: columns.take()?,
        created_at: columns.wall()?,
        deadline_s: columns.take()?,
        labels: columns.words()?,
        requires: columns.words()?,
        session: columns.take()?,
        pin_to: match columns.take::<Option<Vec<u8>>>()? {
            Some(bytes) => Some(PeerId::from_bytes(&bytes).map_err(|_| RowError::Damaged)?),
            None => None,
        },
        after: Vec::new(),
        on_parent_failure: crate::api::OnParentFailure::Fail,
        concurrency_key: None,
        terms: columns.terms()?,
    };
    let stored: i64 = columns.take()?;
    let payload: String = columns.take()?;
    if stored == i64::from(spec_crc(seq, &spec, &payload)) { Ok((seq, spec, payload)) } else { Err(RowError::Damaged) }
}

/// Reads the columns of `live_columns`.
pub(super) fn read_live(columns: &mut Columns<'_, '_>) -> Result<LiveRow, RowError> {
    let (seq, id, lane, priority) = (columns.take()?, columns.id()?, columns.take()?, columns.take()?);
    let phase = match columns.take::<i64>()? {
        PHASE_READY => Phase::Ready,
        PHASE_DELAYED => Phase::Delayed,
        PHASE_RUNNING => Phase::Running,
        _ => return Err(RowError::Damaged),
    };
    let live = Live {
        phase,
        ready_at: columns.wall()?,
        not_before: columns.wall_if_any()?,
        deadline: None,
        waiting: 0,
        attempt: columns.take()?,
        fence: columns.fence()?,
        worker: columns.take()?,
        lease_s: columns.take()?,
        lease_until: columns.wall_if_any()?,
        cancel: columns.take()?,
        progress: columns.take()?,
        status_message: columns.take()?,
        error: columns.take()?,
        updated_at: columns.wall()?,
        terms: columns.terms()?,
    };
    let row = LiveRow { seq, id, lane, priority, live };
    columns.checked(live_crc(&row))?;
    Ok(row)
}

/// Reads the columns of `ended_columns`: how the task ended, and its result's text.
pub(super) fn read_ended(columns: &mut Columns<'_, '_>) -> Result<(Ended, Option<String>), RowError> {
    let (seq, id) = (columns.take()?, columns.id()?);
    let ended = Ended {
        status: match columns.take::<i64>()? {
            STATUS_COMPLETED => TaskStatus::Completed,
            STATUS_FAILED => TaskStatus::Failed,
            STATUS_CANCELLED => TaskStatus::Cancelled,
            _ => return Err(RowError::Damaged),
        },
        at: columns.wall()?,
        expires_at: columns.wall()?,
        not_before: columns.wall_if_any()?,
        deadline: None,
        attempt: columns.take()?,
        fence: columns.fence()?,
        worker: columns.take()?,
        progress: columns.take()?,
        status_message: columns.take()?,
        error: columns.take()?,
        dead: columns.take()?,
    };
    let stored: i64 = columns.take()?;
    let result: Option<String> = columns.take()?;
    if stored == i64::from(ended_crc(seq, id, &ended, result.as_deref())) {
        Ok((ended, result))
    } else {
        Err(RowError::Damaged)
    }
}

/// Writes the row that stays as long as the task does.
pub(super) fn insert_spec(connection: &Connection, seq: i64, spec: &Spec, payload: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO task (seq, id, task_type, model_name, priority, created_at, deadline, labels, requires, session, \
         pin_to, max_attempts, backoff_s, result_ttl_s, crc, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    statement.execute((
        seq,
        spec.id.as_bytes().as_slice(),
        &spec.task_type,
        &spec.model_name,
        spec.priority,
        spec.created_at.as_micros(),
        spec.deadline_s,
        words(&spec.labels),
        words(&spec.requires),
        &spec.session,
        spec.pin_to.map(PeerId::to_bytes),
        spec.terms.max_attempts,
        spec.terms.backoff_s,
        spec.terms.result_ttl_s,
        spec_crc(seq, spec, payload),
        payload,
    ))?;
    Ok(())
}

/// Writes a new live row.
pub(super) fn insert_live(connection: &Connection, row: &LiveRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO live (seq, id, lane, priority, max_attempts, backoff_s, result_ttl_s, \
         phase, ready_at, not_before, attempt, fence_epoch, fence_counter, worker, lease_s, lease_until, cancel, \
         progress, status_message, error, updated_at, crc) \
         VALUES (?1, ?17, ?18, ?19, ?20, ?21, ?22, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    bind_changing(&mut statement, row)?;
    statement.raw_bind_parameter(17, row.id.as_bytes().as_slice())?;
    statement.raw_bind_parameter(18, &row.lane)?;
    statement.raw_bind_parameter(19, row.priority)?;
    statement.raw_bind_parameter(20, row.live.terms.max_attempts)?;
    statement.raw_bind_parameter(21, row.live.terms.backoff_s)?;
    statement.raw_bind_parameter(22, row.live.terms.result_ttl_s)?;
    statement.raw_execute()?;
    Ok(())
}

/// Writes everything that may change in a live row.
pub(super) fn update_live(connection: &Connection, row: &LiveRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE live SET phase = ?2, ready_at = ?3, not_before = ?4, attempt = ?5, fence_epoch = ?6, \
         fence_counter = ?7, worker = ?8, lease_s = ?9, lease_until = ?10, cancel = ?11, progress = ?12, \
         status_message = ?13, error = ?14, updated_at = ?15, crc = ?16 WHERE seq = ?1",
    )?;
    bind_changing(&mut statement, row)?;
    statement.raw_execute()?;
    Ok(())
}

fn bind_changing(statement: &mut CachedStatement<'_>, row: &LiveRow) -> rusqlite::Result<()> {
    let live = &row.live;
    let (fence_epoch, fence_counter) = fence_columns(live.fence);
    statement.raw_bind_parameter(1, row.seq)?;
    statement.raw_bind_parameter(2, phase_number(live.phase))?;
    statement.raw_bind_parameter(3, live.ready_at.as_micros())?;
    statement.raw_bind_parameter(4, live.not_before.map(Wall::as_micros))?;
    statement.raw_bind_parameter(5, live.attempt)?;
    statement.raw_bind_parameter(6, fence_epoch)?;
    statement.raw_bind_parameter(7, fence_counter)?;
    statement.raw_bind_parameter(8, &live.worker)?;
    statement.raw_bind_parameter(9, live.lease_s)?;
    statement.raw_bind_parameter(10, live.lease_until.map(Wall::as_micros))?;
    statement.raw_bind_parameter(11, &live.cancel)?;
    statement.raw_bind_parameter(12, live.progress)?;
    statement.raw_bind_parameter(13, &live.status_message)?;
    statement.raw_bind_parameter(14, &live.error)?;
    statement.raw_bind_parameter(15, live.updated_at.as_micros())?;
    statement.raw_bind_parameter(16, live_crc(row))
}

/// Writes what a renewal changes: no column of an index, which keeps it cheap.
pub(super) fn update_lease(connection: &Connection, row: &LiveRow) -> rusqlite::Result<()> {
    let live = &row.live;
    let mut statement = connection.prepare_cached(
        "UPDATE live SET lease_s = ?2, lease_until = ?3, progress = ?4, status_message = ?5, updated_at = ?6, crc = ?7 \
         WHERE seq = ?1",
    )?;
    statement.execute((
        row.seq,
        live.lease_s,
        live.lease_until.map(Wall::as_micros),
        live.progress,
        &live.status_message,
        live.updated_at.as_micros(),
        live_crc(row),
    ))?;
    Ok(())
}

/// Moves a task from `live` to `finished`.
pub(super) fn insert_ended(
    connection: &Connection,
    row: &LiveRow,
    ended: &Ended,
    result: Option<&str>,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM live WHERE seq = ?1")?.execute([row.seq])?;
    let (fence_epoch, fence_counter) = fence_columns(ended.fence);
    let mut statement = connection.prepare_cached(
        "INSERT INTO finished (seq, id, status, at, expires_at, not_before, attempt, fence_epoch, fence_counter, \
         worker, progress, status_message, error, dead, crc, result) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    statement.execute((
        row.seq,
        row.id.as_bytes().as_slice(),
        status_number(ended.status),
        ended.at.as_micros(),
        ended.expires_at.as_micros(),
        ended.not_before.map(Wall::as_micros),
        ended.attempt,
        fence_epoch,
        fence_counter,
        &ended.worker,
        ended.progress,
        &ended.status_message,
        &ended.error,
        ended.dead,
        ended_crc(row.seq, row.id, ended, result),
        result,
    ))?;
    Ok(())
}

/// The lane as the index has it: a JSON array that ends with its last demand.
pub(super) fn lane_key(lane: &Lane) -> String {
    let pin_to = lane.pin_to.map(|peer| peer.to_string());
    serde_json::json!([lane.task_type, lane.requires, lane.session, pin_to]).to_string()
}

/// Reads what [`lane_key`] wrote.
pub(super) fn parse_lane(key: &str) -> Option<Lane> {
    let (task_type, requires, session, pin_to): (_, _, _, Option<String>) = serde_json::from_str(key).ok()?;
    let pin_to = pin_to.map(|peer| peer.parse()).transpose().ok()?;
    Some(Lane { task_type, requires, session, pin_to, concurrency_key: None })
}

fn words(words: &[String]) -> Option<String> {
    if words.is_empty() { None } else { serde_json::to_string(words).ok() }
}

pub(super) fn fence_columns(fence: Option<Fence>) -> (Option<i64>, Option<i64>) {
    // The counters start at zero and grow by one: they do not pass i64::MAX in the life of a store.
    let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    (fence.map(|fence| part(fence.epoch)), fence.map(|fence| part(fence.counter)))
}

pub(super) const fn phase_number(phase: Phase) -> i64 {
    match phase {
        Phase::Ready => PHASE_READY,
        Phase::Delayed => PHASE_DELAYED,
        Phase::Running => PHASE_RUNNING,
        Phase::Blocked => PHASE_DAMAGED,
    }
}

/// The number of a status in `finished`; a task that has not ended has none.
pub(super) const fn status_number(status: TaskStatus) -> Option<i64> {
    match status {
        TaskStatus::Queued | TaskStatus::Running => None,
        TaskStatus::Completed => Some(STATUS_COMPLETED),
        TaskStatus::Failed => Some(STATUS_FAILED),
        TaskStatus::Cancelled => Some(STATUS_CANCELLED),
    }
}

const PHASE_READY: i64 = 0;
const PHASE_DELAYED: i64 = 1;
const PHASE_RUNNING: i64 = 2;
/// Found damaged when it was to be given out: out of every line, so that it does not hold up the rest.
pub(super) const PHASE_DAMAGED: i64 = 9;

pub(super) const STATUS_COMPLETED: i64 = 3;
const STATUS_FAILED: i64 = 4;
const STATUS_CANCELLED: i64 = 5;
