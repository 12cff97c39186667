use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::{
    command::{damaged, storage_error},
    lanes::Lanes,
    leases::{Lease, Leases},
    rows::{self, Columns, LiveRow, RowError},
    tally::Tally,
};
use crate::{
    QueueError,
    api::ErrorCode,
    engine::{Ended, Live, Now, Phase, Record, Spec, Standing, Step, Wall},
    task::{Fence, Json, TaskId, TaskStatus},
};

/// What the writer remembers between transactions, all of it found again in the file.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) lanes: Lanes,
    pub(super) leases: Leases,
    pub(super) tally: Tally,
    /// The last fence that was issued; never goes back, whatever becomes of the transaction.
    fence: Fence,
    /// The last place in line that was given to a task that was ready at once.
    last_ready: Wall,
    /// When the first delayed task becomes ready; may be early, never late.
    pub(super) delayed_at: Option<Wall>,
    /// When the first finished task or idempotency key is to be removed; may be early, never late.
    pub(super) sweep_at: Option<Wall>,
    /// A moment at which the wall clock was believed.
    anchor: Now,
}

impl Memory {
    /// Reads it from the file. Running tasks keep their lease for one more length of it (clause T8).
    pub(super) fn load(connection: &Connection, fence: Fence, now: Now) -> rusqlite::Result<Self> {
        let mut leases = Leases::default();
        let sql = "SELECT seq, id, lease_s FROM live INDEXED BY live_running WHERE phase = 2 ORDER BY seq";
        let mut running = connection.prepare_cached(sql)?;
        let mut rows = running.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, id, lease_s) = (row.get(0)?, TaskId::from_bytes(row.get(1)?), row.get(2)?);
            leases.set(id, Lease { end: lease_end(now, lease_s), seq });
        }
        let earliest = |sql| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        let delayed_at = earliest("SELECT min(ready_at) FROM live INDEXED BY live_delayed WHERE phase = 1")?;
        let finished = earliest("SELECT min(expires_at) FROM finished")?;
        let keys = earliest("SELECT min(expires_at) FROM idempotency")?;
        Ok(Self {
            lanes: Lanes::load(connection)?,
            leases,
            tally: Tally::load(connection)?,
            fence,
            last_ready: Wall::from_micros(0),
            delayed_at: delayed_at.map(Wall::from_micros),
            sweep_at: finished.into_iter().chain(keys).min().map(Wall::from_micros),
            anchor: now,
        })
    }

    /// The time by which results and keys are removed: the wall clock's, but no later than the monotonic clock says since
    /// the wall clock was last believed. So a wall clock that is set ahead removes nothing early (clause T5).
    pub(super) fn retention(&self, now: Now) -> Wall {
        let passed = now.monotonic.saturating_sub(self.anchor.monotonic);
        now.wall.min(self.anchor.wall.after(passed.as_secs_f64()))
    }

    /// Believes the wall clock again from time to time: one that was wrong at the start must not keep results for ever.
    pub(super) fn follow(&mut self, now: Now) {
        if now.monotonic.saturating_sub(self.anchor.monotonic) >= ANCHOR_EVERY {
            self.anchor = now;
        }
    }

    /// Reads it again after a transaction that came to nothing: what the file does not have stays.
    pub(super) fn reload(&mut self, connection: &Connection, now: Now) -> rusqlite::Result<()> {
        let mut memory = Self::load(connection, self.fence, now)?;
        memory.last_ready = self.last_ready;
        memory.anchor = self.anchor;
        memory.leases.keep_ends(&self.leases);
        *self = memory;
        Ok(())
    }
}

/// One transaction of the writer and what is to follow its commit.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) connection: &'a Connection,
    pub(super) memory: &'a mut Memory,
    pub(super) now: Now,
    pub(super) effects: Effects,
}

/// What follows the commit, and is forgotten when there is none.
#[derive(Debug)]
pub(super) struct Effects {
    /// The numbers as of this transaction.
    pub(super) tally: Tally,
    /// Leases that began, moved (`Some`) or ended.
    pub(super) leases: Vec<(TaskId, Option<Lease>)>,
    /// Tasks that ended.
    pub(super) ended: Vec<TaskId>,
    /// Whether a task became ready.
    pub(super) readied: bool,
    /// Whether anything was written.
    pub(super) wrote: bool,
}

/// Why a command has no answer.
#[derive(Debug)]
pub(super) enum Halt {
    /// By its own rules; the transaction goes on.
    Refused(QueueError),
    /// A statement failed; the transaction cannot go on.
    Failed(rusqlite::Error),
}

impl From<QueueError> for Halt {
    fn from(error: QueueError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Halt {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// A task as the writer found it.
#[derive(Debug)]
pub(super) enum Found {
    Live(LiveRow),
    Ended(Ended, Option<Json>),
}

impl Found {
    /// For the engine: where the task stands, its stored result, and its row if it lives.
    pub(super) fn split(self) -> (Standing, Option<Json>, Option<LiveRow>) {
        match self {
            Self::Live(row) => (Standing::Live(row.live.clone()), None, Some(row)),
            Self::Ended(ended, result) => (Standing::Ended(ended), result, None),
        }
    }
}

impl<'a> Turn<'a> {
    pub(super) const fn new(connection: &'a Connection, memory: &'a mut Memory, now: Now) -> Self {
        let effects =
            Effects { tally: memory.tally, leases: Vec::new(), ended: Vec::new(), readied: false, wrote: false };
        Self { connection, memory, now, effects }
    }

    /// Finds a task.
    pub(super) fn find(&self, id: TaskId) -> Result<Found, Halt> {
        let seq = match self.memory.leases.get(id) {
            Some(lease) => lease.seq,
            None => self
                .connection
                .prepare_cached("SELECT seq FROM task WHERE id = ?1")?
                .query_row([id.as_bytes().as_slice()], |row| row.get(0))
                .optional()?
                .ok_or_else(|| not_found(id))?,
        };
        if let Some(row) = self.live_row(seq).map_err(|error| unusable(id, error))? {
            return if row.id == id { Ok(Found::Live(row)) } else { Err(damaged(id).into()) };
        }
        const SQL: &str = concat!("SELECT ", rows::ended_columns!(), " FROM finished f WHERE f.seq = ?1");
        let mut statement = self.connection.prepare_cached(SQL)?;
        let mut found = statement.query([seq])?;
        let Some(row) = found.next()? else { return Err(damaged(id).into()) };
        let (ended, result) = rows::read_ended(&mut Columns::new(row)).map_err(|error| unusable(id, error))?;
        let result = result.map(Json::parse).transpose().map_err(|_| damaged(id))?;
        Ok(Found::Ended(ended, result))
    }

    /// Reads a live row.
    pub(super) fn live_row(&self, seq: i64) -> Result<Option<LiveRow>, RowError> {
        const SQL: &str = concat!("SELECT ", rows::live_columns!(), " FROM live l WHERE l.seq = ?1");
        let mut statement = self.connection.prepare_cached(SQL)?;
        let mut found = statement.query([seq])?;
        found.next()?.map(|row| rows::read_live(&mut Columns::new(row))).transpose()
    }

    /// Reads what the submit fixed, and the payload.
    pub(super) fn spec(&self, seq: i64) -> Result<Option<(Spec, String)>, RowError> {
        const SQL: &str = concat!("SELECT ", rows::spec_columns!(), " FROM task t WHERE t.seq = ?1");
        let mut statement = self.connection.prepare_cached(SQL)?;
        let mut found = statement.query([seq])?;
        let Some(row) = found.next()? else { return Ok(None) };
        let (_, spec, payload) = rows::read_spec(&mut Columns::new(row))?;
        Ok(Some((spec, payload)))
    }

    /// Writes what the engine decided about a live task.
    pub(super) fn take_step(&mut self, row: LiveRow, step: Step) -> rusqlite::Result<()> {
        match step {
            Step::Stay(live) => self.stay(row, live),
            Step::End(ended) => self.end(&row, &ended, None),
        }
    }

    /// Writes a live task's new state.
    pub(super) fn stay(&mut self, row: LiveRow, live: Live) -> rusqlite::Result<()> {
        let (before, seq, id) = (row.live.phase, row.seq, row.id);
        let mut row = LiveRow { live, ..row };
        if row.live.phase == Phase::Ready && row.live.ready_at == self.now.wall {
            row.live.ready_at = self.next_place(self.now.wall);
        }
        rows::update_live(self.connection, &row)?;
        self.effects.wrote = true;
        self.leave(before, &row.lane, seq, id)?;
        self.enter(&row);
        Ok(())
    }

    /// Writes a live task's end.
    pub(super) fn end(&mut self, row: &LiveRow, ended: &Ended, result: Option<&Json>) -> rusqlite::Result<()> {
        rows::insert_ended(self.connection, row, ended, result.map(Json::get))?;
        self.effects.wrote = true;
        self.leave(row.live.phase, &row.lane, row.seq, row.id)?;
        self.effects.tally.enter(ended.status);
        self.effects.ended.push(row.id);
        self.sweep_by(ended.expires_at);
        Ok(())
    }

    /// Notes a live task's phase where the writer looks for it.
    pub(super) fn enter(&mut self, row: &LiveRow) {
        match row.live.phase {
            Phase::Ready => {
                self.memory.lanes.joined(row);
                self.effects.readied = true;
            }
            Phase::Delayed | Phase::Blocked => earliest(&mut self.memory.delayed_at, row.live.ready_at),
            Phase::Running => {
                let end = lease_end(self.now, row.live.lease_s);
                self.effects.leases.push((row.id, Some(Lease { end, seq: row.seq })));
            }
        }
        self.effects.tally.enter(row.live.status());
    }

    /// A row that cannot be used must not hold up those behind it.
    pub(super) fn set_aside(&mut self, lane: &str, seq: i64) -> Result<(), Halt> {
        let sql = "UPDATE live SET phase = ?2 WHERE seq = ?1";
        let rows = self.connection.prepare_cached(sql)?.execute((seq, rows::PHASE_DAMAGED))?;
        if rows == 0 {
            let message = "the index of ready tasks is damaged; restore the store from a backup";
            return Err(QueueError::new(ErrorCode::StorageError, message).into());
        }
        tracing::error!(seq, lane, "a task's stored record is damaged; it is set aside");
        self.effects.wrote = true;
        self.effects.tally.leave(TaskStatus::Queued);
        Ok(self.memory.lanes.left(self.connection, lane, seq)?)
    }

    /// A place in line behind all that were ready at once before: the order of acceptance holds within a batch, too.
    pub(super) fn next_place(&mut self, at: Wall) -> Wall {
        let next = Wall::from_micros(self.memory.last_ready.as_micros().saturating_add(1)).max(at);
        self.memory.last_ready = next;
        next
    }

    pub(super) fn next_fence(&mut self) -> Fence {
        self.memory.fence.counter += 1;
        self.memory.fence
    }

    pub(super) fn sweep_by(&mut self, at: Wall) {
        earliest(&mut self.memory.sweep_at, at);
    }

    fn leave(&mut self, phase: Phase, lane: &str, seq: i64, id: TaskId) -> rusqlite::Result<()> {
        match phase {
            Phase::Ready => {
                self.effects.tally.leave(TaskStatus::Queued);
                self.memory.lanes.left(self.connection, lane, seq)?;
            }
            Phase::Delayed | Phase::Blocked => self.effects.tally.leave(TaskStatus::Queued),
            Phase::Running => {
                self.effects.tally.leave(TaskStatus::Running);
                self.effects.leases.push((id, None));
            }
        }
        Ok(())
    }
}

/// When a lease of this length that starts now ends.
pub(super) fn lease_end(now: Now, lease_s: f64) -> Duration {
    now.monotonic + Duration::try_from_secs_f64(lease_s).unwrap_or(Duration::ZERO)
}

/// The answer for a task that is not there.
pub(super) fn not_found(id: TaskId) -> QueueError {
    QueueError::new(ErrorCode::NotFound, format!("no task {id}"))
}

/// The answer for a row that cannot be used: what SQLite finds broken while reading has harmed nothing else.
pub(super) fn unusable(id: TaskId, error: RowError) -> QueueError {
    match error {
        RowError::Damaged => damaged(id),
        RowError::Sqlite(error) => {
            let what = storage_error(&error);
            QueueError { message: format!("task {id}: {}", what.message), ..what }
        }
    }
}

/// Builds a record from its rows' parts.
pub(super) fn record(
    spec: Spec,
    payload: String,
    standing: Standing,
    result: Option<String>,
) -> Result<Record, QueueError> {
    let id = spec.id;
    let payload = Json::parse(payload).map_err(|_| damaged(id))?;
    let result = result.map(Json::parse).transpose().map_err(|_| damaged(id))?;
    Ok(Record { spec, payload, standing, result })
}

fn earliest(known: &mut Option<Wall>, other: Wall) {
    *known = Some(known.map_or(other, |known| known.min(other)));
}

/// Longer than anybody takes to notice a wrong clock, as long as results are kept by default.
const ANCHOR_EVERY: Duration = Duration::from_secs(86_400);
