//! The interface between the logic that all stores share and the place of their rows: SQLite, memory, and later
//! PostgreSQL.
//!
//! The writer thread of a store holds the one [`Rows`] and decides everything, so a backend only keeps and finds rows.
//! Each reader thread holds a [`Reads`]. Every backend passes the same test suite (`backend_tests`).

use std::{cmp::Reverse, fmt, io, time::Duration};

#[cfg(test)]
use super::Page;
use super::{
    BootId, StoreError,
    paging::{Choosing, Filling},
};
use taskqueue_api::{Json, PeerId, QueueError, TaskId, TaskStatus};
#[cfg(test)]
use taskqueue_api::{List, Selection};

use crate::engine::{Elapsed, Ended, Live, Now, Phase, Record, Spec, Wall};

/// The place of a store's rows, and the handles to them.
pub(crate) trait Backend: Send + fmt::Debug {
    /// Opens the rows for writing: at the start, and again after a failure. Everything that they then show is on stable
    /// storage.
    ///
    /// # Errors
    ///
    /// As [`Rows`].
    fn open_rows(&self) -> Result<Box<dyn Rows>, Fault>;

    /// Opens a handle that makes commits durable; `None` when there is no stable storage.
    ///
    /// Several handles may be in use at once, because each handle learns of every failed write.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn open_log(&self) -> io::Result<Option<Box<dyn Log>>>;

    /// Opens a reader.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why the rows cannot be read.
    fn open_reads(&self) -> Result<Box<dyn Reads>, StoreError>;

    /// Gives up the reserve, the disk space that was set aside, so that completions go on while the disk is full.
    fn spend_reserve(&self) {}

    /// Sets the reserve aside as far as there is disk space, and answers what room is left. `_file` is the room in the
    /// store's file.
    fn set_aside(&self, _file: FileRoom) -> Room {
        Room::Ample
    }

    /// Answers what room is left, as [`set_aside`](Self::set_aside) does, but leaves the reserve as it is.
    fn room(&self, _file: FileRoom) -> Room {
        Room::Ample
    }
}

/// Room in a store's file, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileRoom {
    /// The length of the file once every commit has been copied into it.
    pub(crate) bytes: u64,
    /// The part of `bytes` that no row needs.
    pub(crate) free: u64,
    /// The bytes by which the file still has to grow to reach that length.
    pub(crate) to_grow: u64,
}

/// The room that is left for a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The whole reserve is set aside, and there is more room. No count is needed: the disk itself shows when it is
    /// full.
    Ample,
    /// There is less room than that.
    Scarce {
        /// The bytes that may be added until only the room for completions is left.
        adding: u64,
        /// The bytes that may be written in all. After that, only operations that free room, such as a purge, have some
        /// left.
        in_all: u64,
    },
}

/// Makes commits durable.
pub(crate) trait Log: Send + fmt::Debug {
    /// Waits until everything that was committed before the call is on stable storage.
    ///
    /// # Errors
    ///
    /// The system's error. The sync must not be tried again: the data that the system then holds in memory may not be
    /// on the disk.
    fn sync(&mut self) -> io::Result<()>;

    /// Notes up to which batch commits are on stable storage, without waiting for the note to be stored. If the log
    /// later ends before that batch, the loss is noticed.
    fn note_synced(&mut self, batch: u64);
}

/// A number in the order of acceptance. It names a task inside its store, and is never given twice.
pub(crate) type Seq = i64;

/// The reason why rows could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(any(test, feature = "sqlite")), expect(dead_code, reason = "for stores on a disk"))]
pub(crate) enum Fault {
    /// The content of a row is not the content that was written. Only this row is affected.
    #[error("a stored record is damaged")]
    Damaged,
    /// The disk is full.
    #[error("{0}")]
    Full(String),
    /// Another program holds the rows.
    #[error("{0}")]
    Busy(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// The store's running numbers. They are written with every batch, so that nothing has to be counted when the store is
/// opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The first half of every fence of this opening.
    pub(crate) epoch: u64,
    /// The number of committed batches that changed something.
    pub(crate) batch: u64,
    /// The next task's place in the order of acceptance.
    pub(crate) next_seq: Seq,
    /// The clocks at the last batch; `None` in a new store.
    pub(crate) clocks: Option<Clocks>,
}

/// The clocks at one moment. Elapsed time goes on from there when the store is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) elapsed: Elapsed,
    pub(crate) wall: Wall,
    /// The machine's uptime in microseconds; `boot` says which boot of which machine it belongs to.
    pub(crate) uptime: i64,
    pub(crate) boot: Option<BootId>,
}

/// The part of a task that the submit fixed, with its place in the order of acceptance. It never changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskRow {
    pub(crate) seq: Seq,
    pub(crate) spec: Spec,
    /// The task's place in line while it is fresh; see [`TaskTable::live`].
    pub(crate) ready_at: Elapsed,
    /// As [`Live::not_before`], while the task is fresh.
    pub(crate) not_before: Option<Wall>,
    /// A JSON text.
    pub(crate) payload: String,
}

impl TaskRow {
    /// Returns the state of a task to which nothing has happened since it was accepted.
    pub(crate) fn fresh(&self) -> Live {
        // A task with a deadline has a row of its own from the start.
        Live { not_before: self.not_before, ..Live::unclaimed(self.ready_at, self.spec.created_at, self.spec.policy) }
    }
}

/// The place of a ready task in its line: the order of clause T6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) priority: Reverse<u8>,
    pub(crate) ready_at: Elapsed,
    pub(crate) id: TaskId,
    pub(crate) seq: Seq,
}

/// The kinds of timer that a task may have. Each kind has a timeline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// The end of a delay or a backoff.
    Ready,
    /// The deadline of the task.
    Deadline,
    /// The removal of the task with its result.
    Removal,
    /// The date for which the task was scheduled.
    Date,
}

impl Timer {
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Deadline, Self::Removal, Self::Date];

    /// A timer of this kind that ends at `micros` microseconds of its clock.
    pub(crate) const fn at(self, micros: i64) -> Due {
        match self {
            Self::Ready => Due::Ready(Elapsed::from_micros(micros)),
            Self::Deadline => Due::Deadline(Elapsed::from_micros(micros)),
            Self::Removal => Due::Removal(Elapsed::from_micros(micros)),
            Self::Date => Due::Date(Wall::from_micros(micros)),
        }
    }

    /// The latest timer of this kind that has ended by now.
    pub(crate) const fn by(self, now: Now) -> Due {
        match self {
            Self::Ready => Due::Ready(now.elapsed),
            Self::Deadline => Due::Deadline(now.elapsed),
            Self::Removal => Due::Removal(now.elapsed),
            Self::Date => Due::Date(now.wall),
        }
    }
}

/// The end of a timer, on the clock of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Due {
    Ready(Elapsed),
    Deadline(Elapsed),
    Removal(Elapsed),
    Date(Wall),
}

impl Due {
    /// Returns the timer after which a task in this state becomes claimable by itself, if it has one.
    pub(crate) fn claimable(live: &Live) -> Option<Self> {
        match live.phase {
            Phase::Delayed => Some(Self::Ready(live.ready_at)),
            Phase::Scheduled => live.not_before.map(Self::Date),
            Phase::Ready | Phase::Blocked | Phase::Running => None,
        }
    }

    pub(crate) const fn timer(self) -> Timer {
        match self {
            Self::Ready(_) => Timer::Ready,
            Self::Deadline(_) => Timer::Deadline,
            Self::Removal(_) => Timer::Removal,
            Self::Date(_) => Timer::Date,
        }
    }

    #[cfg_attr(not(any(test, feature = "sqlite")), expect(dead_code, reason = "for stores on a disk"))]
    pub(crate) const fn as_micros(self) -> i64 {
        match self {
            Self::Ready(at) | Self::Deadline(at) | Self::Removal(at) => at.as_micros(),
            Self::Date(at) => at.as_micros(),
        }
    }

    /// Returns the time until the timer ends, as the clocks are now.
    pub(crate) fn wait(self, now: Now) -> Duration {
        match self {
            Self::Ready(at) | Self::Deadline(at) | Self::Removal(at) => now.elapsed.until(at),
            Self::Date(at) => now.wall.until(at),
        }
    }
}

/// Stands for `parent` in the edges of children that were told that the parent has not completed.
///
/// These children failed because of it, or had failed before, and may run if the parent completes later after all. No
/// task has this number, so the children are not told again.
pub(crate) const fn failed_parent(parent: Seq) -> Seq {
    !parent
}

/// Stands for the parent in the edges of children whose parent was removed without having completed. Such children can
/// never run.
pub(crate) const LOST_PARENT: Seq = Seq::MIN;

/// An idempotency key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) content: [u8; 32],
    pub(crate) id: TaskId,
    pub(crate) expires_at: Elapsed,
}

/// The counts and settings of one task type. The type with the empty name stands for the whole queue, and its counts
/// are not used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TypeRow {
    /// The number of tasks in each state, in the order of [`TaskStatus::ALL`].
    pub(crate) counts: [u64; TaskStatus::ALL.len()],
    pub(crate) paused: bool,
    pub(crate) draining: bool,
    pub(crate) running_max: Option<u32>,
}

/// A value of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheRow {
    pub(crate) value: Json,
    pub(crate) expires_at: Option<Elapsed>,
    /// The last use of the value, to the minute.
    pub(crate) used_at: Elapsed,
}

/// The rows of a store, for the one thread that changes them: its tables, and the transactions over all of them.
///
/// Reads see the changes of the open transaction. Arguments named `count_max` bound the number of rows in an answer.
/// The order of the rows is the one that the method names.
///
/// No method of a table has a default, so every layer between the writer and its rows must pass each of them on.
///
/// # Errors
///
/// [`Fault::Damaged`] concerns only the requested row, and the transaction stays usable. After any other fault the
/// transaction must be rolled back. After a fault of `commit` the rows must be opened anew.
pub(crate) trait Rows:
    TaskTable + LineTable + TimerTable + EdgeTable + KeyTable + TypeTable + RouteTable + CacheTable + Send + fmt::Debug
{
    /// Starts a transaction.
    fn begin(&mut self) -> Result<(), Fault>;
    /// Ends the transaction. Readers see it from here on. It is durable after [`Log::sync`].
    fn commit(&mut self) -> Result<(), Fault>;
    /// Discards the transaction.
    fn rollback(&mut self) -> Result<(), Fault>;
    /// Tidies up when there is nothing else to do. `closing` says that this is the last time. Call it outside
    /// transactions.
    fn tidy(&mut self, closing: bool) -> Result<(), Fault>;
    /// Measures the room in the file. Call it outside transactions.
    fn file_room(&mut self) -> Result<FileRoom, Fault> {
        Ok(FileRoom::default())
    }

    fn meta(&mut self) -> Result<Meta, Fault>;
    fn save_meta(&mut self, meta: &Meta) -> Result<(), Fault>;
}

/// The rows of tasks: what was submitted, and the task's present state or its end.
///
/// Each change names the task that it belongs to, so that a layer that passes the change on knows whose record changes.
pub(crate) trait TaskTable {
    /// Finds a task, whether or not it has ended.
    fn seq_of(&mut self, id: TaskId) -> Result<Option<Seq>, Fault>;
    fn task(&mut self, seq: Seq) -> Result<Option<TaskRow>, Fault>;
    fn insert_task(&mut self, row: &TaskRow) -> Result<(), Fault>;
    /// Removes the row that [`insert_task`](Self::insert_task) wrote. The other rows of the task must have been removed
    /// before.
    fn remove_task(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault>;

    /// Reads the state of a task that has not ended.
    ///
    /// A task that has neither this row nor an ended row is *fresh*: its state is as [`TaskRow::fresh`] says, and it is
    /// in line.
    fn live(&mut self, seq: Seq) -> Result<Option<Live>, Fault>;
    /// Writes the row, in place of an older one.
    fn put_live(&mut self, seq: Seq, id: TaskId, live: &Live) -> Result<(), Fault>;
    fn remove_live(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault>;
    /// Every task that is running.
    fn running(&mut self) -> Result<Vec<(Seq, TaskId, Live)>, Fault>;

    /// Reads how a task has ended, with its id and its result.
    fn ended(&mut self, seq: Seq) -> Result<Option<(TaskId, Ended, Option<Json>)>, Fault>;
    fn insert_ended(&mut self, seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> Result<(), Fault>;
    fn remove_ended(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault>;
}

/// The lines of ready tasks. The name of a lane is the text from [`Lane::to_text`](crate::engine::Lane::to_text).
pub(crate) trait LineTable {
    /// Puts a task into a line.
    fn join_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault>;
    fn leave_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault>;
    /// The first places of a line, or the first places behind `behind`.
    fn line(&mut self, lane: &str, behind: Option<&Place>, count_max: usize) -> Result<Vec<Place>, Fault>;
    /// The first lane that has a line, or the next one behind `behind`. The order may be any fixed order.
    fn next_lane(&mut self, behind: Option<&str>) -> Result<Option<String>, Fault>;
}

/// The timers of tasks.
pub(crate) trait TimerTable {
    fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault>;
    fn clear_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault>;
    /// The first timers of a kind that end at `by` or before, the earliest first.
    fn due(&mut self, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault>;
    /// Returns the end of the first timer of a kind.
    fn first_due(&mut self, timer: Timer) -> Result<Option<Due>, Fault>;
}

/// The dependencies: which task waits for the end of which other task.
pub(crate) trait EdgeTable {
    /// Notes that `child` waits for the end of `parent`.
    fn add_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault>;
    fn remove_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault>;
    fn has_edge(&mut self, parent: Seq, child: Seq) -> Result<bool, Fault>;
    /// The first tasks that wait for the end of `parent`.
    fn children(&mut self, parent: Seq, count_max: usize) -> Result<Vec<Seq>, Fault>;
    /// The ended tasks whose children have not all been told.
    fn unsettled(&mut self) -> Result<Vec<Seq>, Fault>;
}

/// The idempotency keys that were used.
pub(crate) trait KeyTable {
    fn key(&mut self, scope: &str, key: &str) -> Result<Option<KeyRow>, Fault>;
    /// Writes the key, in place of an older row.
    fn put_key(&mut self, scope: &str, key: &str, row: &KeyRow) -> Result<(), Fault>;
    /// Removes keys that expired at `by` or before, and answers how many.
    fn remove_keys(&mut self, by: Elapsed, count_max: usize) -> Result<usize, Fault>;
    fn first_key_expiry(&mut self) -> Result<Option<Elapsed>, Fault>;
}

/// The counts and settings of task types, and the limits that were set for concurrency keys.
pub(crate) trait TypeTable {
    fn types(&mut self) -> Result<Vec<(String, TypeRow)>, Fault>;
    /// Writes the row, in place of an older one. A row with only defaults is removed instead.
    fn put_type(&mut self, task_type: &str, row: &TypeRow) -> Result<(), Fault>;
    fn key_limits(&mut self) -> Result<Vec<(String, u32)>, Fault>;
    fn put_key_limit(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Fault>;
}

/// The peers that keep the tasks that were submitted through this node.
pub(crate) trait RouteTable {
    /// Notes the owner of a task. The oldest notes beyond `count_max` are dropped.
    fn put_route(&mut self, task: TaskId, owner: PeerId, count_max: i64) -> Result<(), Fault>;
}

/// The values of the cache. The size of a value in bytes includes its key.
pub(crate) trait CacheTable {
    /// The bytes of all values.
    fn cache_bytes(&mut self) -> Result<u64, Fault>;
    /// The bytes of one value; `None` when there is no such value.
    fn cache_size(&mut self, key: &str) -> Result<Option<u64>, Fault>;
    /// Writes the value, in place of an older one.
    fn put_cached(&mut self, key: &str, row: &CacheRow) -> Result<(), Fault>;
    fn touch_cached(&mut self, key: &str, used_at: Elapsed) -> Result<(), Fault>;
    fn remove_cached(&mut self, key: &str) -> Result<(), Fault>;
    /// The least recently used values, with their bytes.
    fn cache_least_used(&mut self, count_max: usize) -> Result<Vec<(String, u64)>, Fault>;
    /// Values that expired at `by` or before, with their bytes.
    fn cache_expired(&mut self, by: Elapsed, count_max: usize) -> Result<Vec<(String, u64)>, Fault>;
    fn first_cache_expiry(&mut self) -> Result<Option<Elapsed>, Fault>;
}

/// The rows of a store, for a thread that only reads. Each answer shows the rows as of one moment.
///
/// A read that may look at many rows is done in pieces, and each piece shows its own moment.
///
/// A piece looks at most at [`EXAMINED_AT_ONCE`](super::paging::EXAMINED_AT_ONCE) rows, whether or not they pass a
/// filter, so that other reads get their turn.
///
/// # Errors
///
/// `storage_error`, which names the damaged task, and the errors of the query's own rules.
pub(crate) trait Reads: Send + fmt::Debug {
    /// Reads records, in the order of the ids; `None` for an id without a record. `limit_exceeded` when the records are
    /// too large for one answer.
    fn get(&mut self, ids: &[TaskId]) -> Result<Vec<Option<Record>>, QueueError>;
    /// Reads the next piece of a page, and answers whether the page is done. See [`List`].
    fn list_on(&mut self, page: &mut Filling) -> Result<bool, QueueError>;
    /// Looks at the next piece of ended tasks and chooses those that pass a filter, in the order of submission. Answers
    /// whether the choice is done.
    fn select_on(&mut self, choosing: &mut Choosing) -> Result<bool, QueueError>;
    /// The counts and settings of the first types by name, or of the types behind `behind`.
    fn types(&mut self, behind: Option<&str>, count_max: usize) -> Result<Vec<(String, TypeRow)>, QueueError>;
    /// Returns the time since when the oldest ready task has been ready.
    fn oldest_ready(&mut self) -> Result<Option<Elapsed>, QueueError>;
    fn route(&mut self, task: TaskId) -> Result<Option<PeerId>, QueueError>;
    fn cached(&mut self, key: &str) -> Result<Option<CacheRow>, QueueError>;

    /// Reads a whole page at once.
    #[cfg(test)]
    fn list(&mut self, query: &List) -> Result<Page, QueueError> {
        let mut page = Filling::new(query.clone())?;
        while !self.list_on(&mut page)? {}
        Ok(page.into_page())
    }

    /// Makes the whole choice at once.
    #[cfg(test)]
    fn select(&mut self, selection: &Selection, ended_by: Wall) -> Result<(Vec<TaskId>, bool), QueueError> {
        let mut choosing = Choosing::new(selection.clone(), ended_by);
        while !self.select_on(&mut choosing)? {}
        Ok(choosing.into_ids())
    }
}
