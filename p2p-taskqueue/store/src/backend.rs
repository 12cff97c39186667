//! The seam between what every store does alike and where its rows are: SQLite, memory, later PostgreSQL.
//!
//! The writer thread of a store holds the one [`Rows`]; it decides everything, so that an implementation only keeps and
//! finds rows. Reader threads hold a [`Reads`] each. Every implementation passes the same suite (`backend_tests`).

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

/// Where a store's rows are, and how to get at them.
pub(crate) trait Backend: Send + fmt::Debug {
    /// Opens the rows for writing: at the start, and again after a failure. What it then shows is on stable storage.
    ///
    /// # Errors
    ///
    /// As [`Rows`].
    fn open_rows(&self) -> Result<Box<dyn Rows>, Fault>;

    /// Opens a way to make commits durable; `None` when there is no stable storage. Each handle learns of each failed
    /// write, so it may be used beside others.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn open_log(&self) -> io::Result<Option<Box<dyn Log>>>;

    /// Opens a reader.
    ///
    /// # Errors
    ///
    /// Why the rows cannot be read.
    fn open_reads(&self) -> Result<Box<dyn Reads>, StoreError>;

    /// Gives up room that was set aside, so that completions go on while the disk is full.
    fn spend_reserve(&self) {}

    /// Sets that room aside as far as it is there, for a file that has this room, and answers what else there is.
    fn set_aside(&self, _file: FileRoom) -> Room {
        Room::Ample
    }

    /// The same, and leaves what is set aside as it is.
    fn room(&self, _file: FileRoom) -> Room {
        Room::Ample
    }
}

/// Room in a store's file, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileRoom {
    /// How long the file is once all that was committed is in it.
    pub(crate) bytes: u64,
    /// What of that no row needs.
    pub(crate) free: u64,
    /// What the file has yet to grow by until then.
    pub(crate) to_grow: u64,
}

/// What room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// All that is to be set aside is, and there is more: the disk itself shows when it is full.
    Ample,
    /// There is less.
    Scarce {
        /// So many bytes may be added before only what is for completions is left.
        adding: u64,
        /// So many bytes may be written before only what frees room, such as a purge, has some left.
        in_all: u64,
    },
}

/// Makes what was committed durable.
pub(crate) trait Log: Send + fmt::Debug {
    /// Waits until everything that was committed before the call is on stable storage.
    ///
    /// # Errors
    ///
    /// The system's. The sync must not be tried again: what the system then holds in memory need not be on the disk.
    fn sync(&mut self) -> io::Result<()>;

    /// Notes, without waiting for it, up to which batch commits are on stable storage, so that a log which later ends
    /// before it is noticed.
    fn note_synced(&mut self, batch: u64);
}

/// The order of acceptance; names a task inside its store. Never given twice.
pub(crate) type Seq = i64;

/// Why rows could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(any(test, feature = "sqlite")), expect(dead_code, reason = "for stores on a disk"))]
pub(crate) enum Fault {
    /// A row's content is not what was written. Only this row is concerned.
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

/// The store's running numbers: written with every batch, so that opening it counts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The first half of every fence of this opening.
    pub(crate) epoch: u64,
    /// Committed batches that changed something.
    pub(crate) batch: u64,
    /// The next task's place in the order of acceptance.
    pub(crate) next_seq: Seq,
    /// The clocks at the last batch; none in a store that was just made.
    pub(crate) clocks: Option<Clocks>,
}

/// What the clocks showed at one moment: where elapsed time goes on from when the store is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) elapsed: Elapsed,
    pub(crate) wall: Wall,
    /// The machine's uptime in microseconds, and which boot of which machine it is of.
    pub(crate) uptime: i64,
    pub(crate) boot: Option<BootId>,
}

/// What a submit fixed, with its place in the order of acceptance. It never changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskRow {
    pub(crate) seq: Seq,
    pub(crate) spec: Spec,
    /// Its place in line while it is fresh: see [`TaskTable::live`].
    pub(crate) ready_at: Elapsed,
    /// As [`Live::not_before`] says it while the task is fresh.
    pub(crate) not_before: Option<Wall>,
    /// A JSON text.
    pub(crate) payload: String,
}

impl TaskRow {
    /// How the task stands as long as nothing has happened to it since it was accepted.
    pub(crate) fn fresh(&self) -> Live {
        // A task with a deadline has a row of its own from the start.
        Live { not_before: self.not_before, ..Live::unclaimed(self.ready_at, self.spec.created_at, self.spec.policy) }
    }
}

/// A ready task's place in its line: the order of clause T6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) priority: Reverse<u8>,
    pub(crate) ready_at: Elapsed,
    pub(crate) id: TaskId,
    pub(crate) seq: Seq,
}

/// What a clock sets off for a task. Each kind has a timeline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// Its delay or its backoff ends.
    Ready,
    /// It is given up.
    Deadline,
    /// It is removed with its result.
    Removal,
    /// Its date comes.
    Date,
}

impl Timer {
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Deadline, Self::Removal, Self::Date];

    /// A timer of this kind that ends at this many microseconds of its clock.
    pub(crate) const fn at(self, micros: i64) -> Due {
        match self {
            Self::Ready => Due::Ready(Elapsed::from_micros(micros)),
            Self::Deadline => Due::Deadline(Elapsed::from_micros(micros)),
            Self::Removal => Due::Removal(Elapsed::from_micros(micros)),
            Self::Date => Due::Date(Wall::from_micros(micros)),
        }
    }

    /// The latest timer of this kind that has ended now.
    pub(crate) const fn by(self, now: Now) -> Due {
        match self {
            Self::Ready => Due::Ready(now.elapsed),
            Self::Deadline => Due::Deadline(now.elapsed),
            Self::Removal => Due::Removal(now.elapsed),
            Self::Date => Due::Date(now.wall),
        }
    }
}

/// When a timer ends, on the clock of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Due {
    Ready(Elapsed),
    Deadline(Elapsed),
    Removal(Elapsed),
    Date(Wall),
}

impl Due {
    /// When a task that stands like this becomes claimable by itself.
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

    /// How long until it ends, as the clocks stand now.
    pub(crate) fn wait(self, now: Now) -> Duration {
        match self {
            Self::Ready(at) | Self::Deadline(at) | Self::Removal(at) => now.elapsed.until(at),
            Self::Date(at) => now.wall.until(at),
        }
    }
}

/// Stands for `parent` in the edges of children that were told that it has not completed. They failed because of it, or had
/// failed already, and may run once it has completed after all. No task has this number, so they are not told again.
pub(crate) const fn failed_parent(parent: Seq) -> Seq {
    !parent
}

/// Stands for the parent in the edges of children whose parent was removed without having completed. They can never run.
pub(crate) const LOST_PARENT: Seq = Seq::MIN;

/// An idempotency key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) content: [u8; 32],
    pub(crate) id: TaskId,
    pub(crate) expires_at: Elapsed,
}

/// The numbers and settings of one task type. The type of the empty name stands for the whole queue; it counts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TypeRow {
    /// In the order of [`TaskStatus::ALL`].
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
    /// When it was last used, to the minute.
    pub(crate) used_at: Elapsed,
}

/// The rows of a store, for the one thread that changes them: its tables, and the transactions over all of them.
///
/// Reads see what the open transaction has written. Counts bound how many rows an answer has; order is as named.
///
/// No method of a table has a default: what stands between the writer and its rows has to pass each of them on.
///
/// # Errors
///
/// [`Fault::Damaged`] concerns the row that was asked for and leaves the transaction usable. After any other fault the
/// transaction must be rolled back; after one of `commit` the rows must be opened anew.
pub(crate) trait Rows:
    TaskTable + LineTable + TimerTable + EdgeTable + KeyTable + TypeTable + RouteTable + CacheTable + Send + fmt::Debug
{
    /// Starts a transaction.
    fn begin(&mut self) -> Result<(), Fault>;
    /// Ends it. Readers see it from here on; it is durable after [`Log::sync`].
    fn commit(&mut self) -> Result<(), Fault>;
    /// Forgets it.
    fn rollback(&mut self) -> Result<(), Fault>;
    /// Tidies up, when there is nothing else to do. `closing`: for the last time. Outside transactions.
    fn tidy(&mut self, closing: bool) -> Result<(), Fault>;
    /// What room the rows have. Outside transactions.
    fn file_room(&mut self) -> Result<FileRoom, Fault> {
        Ok(FileRoom::default())
    }

    fn meta(&mut self) -> Result<Meta, Fault>;
    fn save_meta(&mut self, meta: &Meta) -> Result<(), Fault>;
}

/// The rows of tasks: what was submitted, and how the task stands or how it ended. Each change names the task that it
/// belongs to, so that whoever passes it on knows whose record changes.
pub(crate) trait TaskTable {
    /// Finds a task, whether it lives or has ended.
    fn seq_of(&mut self, id: TaskId) -> Result<Option<Seq>, Fault>;
    fn task(&mut self, seq: Seq) -> Result<Option<TaskRow>, Fault>;
    fn insert_task(&mut self, row: &TaskRow) -> Result<(), Fault>;
    /// Removes what [`insert_task`](Self::insert_task) wrote; the rest has been removed before.
    fn remove_task(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault>;

    /// How a task stands that has not ended. A task without this row and without an ended one is *fresh*: it stands as
    /// [`TaskRow::fresh`] says, and in line.
    fn live(&mut self, seq: Seq) -> Result<Option<Live>, Fault>;
    /// Writes it, in place of an older one.
    fn put_live(&mut self, seq: Seq, id: TaskId, live: &Live) -> Result<(), Fault>;
    fn remove_live(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault>;
    /// Every task that is running.
    fn running(&mut self) -> Result<Vec<(Seq, TaskId, Live)>, Fault>;

    /// How a task has ended, with its id and its result.
    fn ended(&mut self, seq: Seq) -> Result<Option<(TaskId, Ended, Option<Json>)>, Fault>;
    fn insert_ended(&mut self, seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> Result<(), Fault>;
    fn remove_ended(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault>;
}

/// The lines of ready tasks. A lane is named as [`Lane::to_text`](crate::engine::Lane::to_text) has it.
pub(crate) trait LineTable {
    /// Puts a task into a line.
    fn join_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault>;
    fn leave_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault>;
    /// The first places of a line, or those behind one of its places.
    fn line(&mut self, lane: &str, behind: Option<&Place>, count_max: usize) -> Result<Vec<Place>, Fault>;
    /// The first lane with a line, or the one behind a lane, in any fixed order.
    fn next_lane(&mut self, behind: Option<&str>) -> Result<Option<String>, Fault>;
}

/// The timers of tasks.
pub(crate) trait TimerTable {
    fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault>;
    fn clear_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault>;
    /// The first timers of a kind that end at `by` or before, the earliest first.
    fn due(&mut self, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault>;
    /// When the first timer of a kind ends.
    fn first_due(&mut self, timer: Timer) -> Result<Option<Due>, Fault>;
}

/// Which task waits for the end of which.
pub(crate) trait EdgeTable {
    /// Notes that `child` waits for the end of `parent`.
    fn add_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault>;
    fn remove_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault>;
    fn has_edge(&mut self, parent: Seq, child: Seq) -> Result<bool, Fault>;
    /// The first tasks that wait for the end of `parent`.
    fn children(&mut self, parent: Seq, count_max: usize) -> Result<Vec<Seq>, Fault>;
    /// Tasks that have ended while others still have to be told.
    fn unsettled(&mut self) -> Result<Vec<Seq>, Fault>;
}

/// The idempotency keys that were used.
pub(crate) trait KeyTable {
    fn key(&mut self, scope: &str, key: &str) -> Result<Option<KeyRow>, Fault>;
    /// Writes it, in place of an older one.
    fn put_key(&mut self, scope: &str, key: &str, row: &KeyRow) -> Result<(), Fault>;
    /// Removes keys whose time ended at `by` or before; answers how many.
    fn remove_keys(&mut self, by: Elapsed, count_max: usize) -> Result<usize, Fault>;
    fn first_key_expiry(&mut self) -> Result<Option<Elapsed>, Fault>;
}

/// The numbers and settings of task types, and the limits of concurrency keys that were set.
pub(crate) trait TypeTable {
    fn types(&mut self) -> Result<Vec<(String, TypeRow)>, Fault>;
    /// Writes it, in place of an older one; a row that says nothing is removed.
    fn put_type(&mut self, task_type: &str, row: &TypeRow) -> Result<(), Fault>;
    fn key_limits(&mut self) -> Result<Vec<(String, u32)>, Fault>;
    fn put_key_limit(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Fault>;
}

/// Which peer keeps a task that was submitted from here.
pub(crate) trait RouteTable {
    /// Notes it, and lets the oldest notes go beyond `count_max`.
    fn put_route(&mut self, task: TaskId, owner: PeerId, count_max: i64) -> Result<(), Fault>;
}

/// The values of the cache. Bytes are those of a value with its key.
pub(crate) trait CacheTable {
    /// Bytes of all values.
    fn cache_bytes(&mut self) -> Result<u64, Fault>;
    /// Bytes of one value; `None` when it is not there.
    fn cache_size(&mut self, key: &str) -> Result<Option<u64>, Fault>;
    /// Writes it, in place of an older one.
    fn put_cached(&mut self, key: &str, row: &CacheRow) -> Result<(), Fault>;
    fn touch_cached(&mut self, key: &str, used_at: Elapsed) -> Result<(), Fault>;
    fn remove_cached(&mut self, key: &str) -> Result<(), Fault>;
    /// The values that were not used for longest, with their bytes.
    fn cache_least_used(&mut self, count_max: usize) -> Result<Vec<(String, u64)>, Fault>;
    /// Values whose time ended at `by` or before, with their bytes.
    fn cache_expired(&mut self, by: Elapsed, count_max: usize) -> Result<Vec<(String, u64)>, Fault>;
    fn first_cache_expiry(&mut self) -> Result<Option<Elapsed>, Fault>;
}

/// The rows of a store, for a thread that only reads. Each answer is as of one moment.
///
/// What may have to look at many rows is done in pieces, each as of its own moment: a piece looks at
/// [`EXAMINED_AT_ONCE`](super::paging::EXAMINED_AT_ONCE) rows at the most, whether they pass a filter or not, so that other
/// reads have their turn.
///
/// # Errors
///
/// `storage_error`, naming the task that is damaged; and what the query's own rules say.
pub(crate) trait Reads: Send + fmt::Debug {
    /// Reads records, in the order of the ids; `None` for those that are not there. `limit_exceeded` when they are too
    /// large for one answer.
    fn get(&mut self, ids: &[TaskId]) -> Result<Vec<Option<Record>>, QueueError>;
    /// Goes on with a page; whether it is done. See [`List`].
    fn list_on(&mut self, page: &mut Filling) -> Result<bool, QueueError>;
    /// Goes on choosing ended tasks that pass a filter, the first submitted first; whether the choice is done.
    fn select_on(&mut self, choosing: &mut Choosing) -> Result<bool, QueueError>;
    /// The numbers and settings of the first types by name, or of those behind a name.
    fn types(&mut self, behind: Option<&str>, count_max: usize) -> Result<Vec<(String, TypeRow)>, QueueError>;
    /// Since when the oldest ready task is ready.
    fn oldest_ready(&mut self) -> Result<Option<Elapsed>, QueueError>;
    fn route(&mut self, task: TaskId) -> Result<Option<PeerId>, QueueError>;
    fn cached(&mut self, key: &str) -> Result<Option<CacheRow>, QueueError>;

    /// Reads a page in one go.
    #[cfg(test)]
    fn list(&mut self, query: &List) -> Result<Page, QueueError> {
        let mut page = Filling::new(query.clone())?;
        while !self.list_on(&mut page)? {}
        Ok(page.into_page())
    }

    /// Chooses in one go.
    #[cfg(test)]
    fn select(&mut self, selection: &Selection, ended_by: Wall) -> Result<(Vec<TaskId>, bool), QueueError> {
        let mut choosing = Choosing::new(selection.clone(), ended_by);
        while !self.select_on(&mut choosing)? {}
        Ok(choosing.into_ids())
    }
}
