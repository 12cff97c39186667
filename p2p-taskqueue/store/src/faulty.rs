//! A backend that fails where a test tells it to.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use taskqueue_api::{Json, PeerId, TaskId};

use super::backend::{
    Backend, CacheRow, CacheTable, Due, EdgeTable, Fault, FileRoom, KeyRow, KeyTable, LineTable, Log, Meta, Place,
    Reads, Room, RouteTable, Rows, Seq, TaskRow, TaskTable, Timer, TimerTable, TypeRow, TypeTable,
};
use crate::{
    StoreError,
    engine::{Elapsed, Ended, Live},
};

/// The plan of failures. Every write, commit and sync passes two points: one before it and one after it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    syncs: AtomicUsize,
    /// The number of points before the failure, and the fault.
    next: Mutex<Option<(usize, Fault)>>,
    /// The writes that have no effect, and the reads that find damage.
    broken: Mutex<Vec<&'static str>>,
    /// The next operation that fails, by its name, and whether it fails after it was done.
    named: Mutex<Option<(&'static str, bool)>>,
    /// The operations that were asked of the backend and its rows, and whether they were done.
    events: Mutex<Vec<(&'static str, bool)>>,
    /// Whether commits stand still, and what wakes them.
    is_held: Mutex<bool>,
    let_go: Condvar,
}

impl Plan {
    /// Fails once, after `points` more points.
    pub(super) fn fail_after(&self, points: usize, fault: Fault) {
        *self.lock() = Some((points, fault));
    }

    /// Makes this write have no effect, or this read find damage, from now on.
    pub(super) fn break_for_good(&self, operation: &'static str) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    fn is_broken(&self, operation: &str) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).contains(&operation)
    }

    /// Fails the next operation of this name once, before or after it is done.
    pub(super) fn fail_next(&self, what: &'static str, after: bool) {
        *self.named() = Some((what, after));
    }

    fn named_point(&self, what: &'static str, after: bool) -> Result<(), Fault> {
        let planned = self.named().take_if(|named| *named == (what, after));
        planned.map_or(Ok(()), |_| Err(Fault::Failed("a test says so".to_owned())))
    }

    fn named(&self) -> MutexGuard<'_, Option<(&'static str, bool)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets commits stand still, or go on.
    pub(super) fn hold_commits(&self, hold: bool) {
        *self.is_held.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.let_go.notify_all();
    }

    fn when_let_go(&self) {
        let is_held = self.is_held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.let_go.wait_while(is_held, |is_held| *is_held));
    }

    /// Whether the planned failure has not happened yet.
    pub(super) fn is_pending(&self) -> bool {
        self.lock().is_some() || self.named().is_some()
    }

    /// The number of syncs so far.
    pub(super) fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }

    /// The changes that were asked for so far, and whether they were done.
    pub(super) fn events(&self) -> Vec<(&'static str, bool)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn noted<T>(&self, what: &'static str, done: Result<T, Fault>) -> Result<T, Fault> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push((what, done.is_ok()));
        done
    }

    fn point(&self) -> Result<(), Fault> {
        let mut next = self.lock();
        match next.take() {
            Some((0, fault)) => Err(fault),
            Some((points, fault)) => {
                *next = Some((points - 1, fault));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn around<T>(&self, what: &'static str, done: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        if what == "commit" {
            self.when_let_go();
        }
        self.named_point(what, false)?;
        self.point()?;
        let value = done()?;
        self.point()?;
        self.named_point(what, true)?;
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(usize, Fault)>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backend that passes every call on, and fails according to the plan.
#[derive(Debug)]
pub(super) struct FaultyBackend<B> {
    pub(super) inner: B,
    pub(super) plan: Arc<Plan>,
}

impl<B: Backend> Backend for FaultyBackend<B> {
    fn open_rows(&self) -> Result<Box<dyn Rows>, Fault> {
        let inner = self.plan.noted("open_rows", self.inner.open_rows())?;
        Ok(Box::new(FaultyRows { inner, plan: Arc::clone(&self.plan) }))
    }

    fn open_log(&self) -> io::Result<Option<Box<dyn Log>>> {
        let log = self.inner.open_log()?;
        Ok(log.map(|inner| -> Box<dyn Log> { Box::new(FaultyLog { inner, plan: Arc::clone(&self.plan) }) }))
    }

    fn open_reads(&self) -> Result<Box<dyn Reads>, StoreError> {
        self.inner.open_reads()
    }

    fn spend_reserve(&self) {
        self.inner.spend_reserve();
    }

    fn set_aside(&self, file: FileRoom) -> Room {
        self.inner.set_aside(file)
    }

    fn room(&self, file: FileRoom) -> Room {
        self.inner.room(file)
    }
}

#[derive(Debug)]
struct FaultyLog {
    inner: Box<dyn Log>,
    plan: Arc<Plan>,
}

impl Log for FaultyLog {
    fn sync(&mut self) -> io::Result<()> {
        self.plan.syncs.fetch_add(1, Ordering::SeqCst);
        let failed = |fault: Fault| io::Error::other(fault.to_string());
        self.plan.around("sync", || self.inner.sync().map_err(|error| Fault::Failed(error.to_string()))).map_err(failed)
    }

    fn note_synced(&mut self, batch: u64) {
        self.inner.note_synced(batch);
    }
}

#[derive(Debug)]
pub(super) struct FaultyRows {
    pub(super) inner: Box<dyn Rows>,
    pub(super) plan: Arc<Plan>,
}

/// Passes reads on. Writes fail according to the plan.
macro_rules! rows {
    ($($table:ident {
        reads { $(fn $read:ident($($ra:ident: $rt:ty),*) -> $rr:ty;)* }
        writes { $(fn $write:ident($($wa:ident: $wt:ty),*) -> $wr:ty;)* }
    })*) => {
        $(impl $table for FaultyRows {
            $(fn $read(&mut self, $($ra: $rt),*) -> Result<$rr, Fault> {
                if self.plan.is_broken(stringify!($read)) {
                    return Err(Fault::Damaged);
                }
                self.inner.$read($($ra),*)
            })*
            $(fn $write(&mut self, $($wa: $wt),*) -> Result<$wr, Fault> {
                if self.plan.is_broken(stringify!($write)) {
                    return Ok(Default::default());
                }
                let done = self.plan.around(stringify!($write), || self.inner.$write($($wa),*));
                self.plan.noted(stringify!($write), done)
            })*
        })*

        /// Every write of the rows, with the trait that it belongs to.
        pub(super) const WRITES: &[(&str, &str)] = &[$($((stringify!($table), stringify!($write)),)*)*];
    };
}

rows! {
    Rows {
        reads {
            fn file_room() -> FileRoom;
            fn meta() -> Meta;
        }
        writes {
            fn begin() -> ();
            fn commit() -> ();
            fn rollback() -> ();
            fn tidy(closing: bool) -> ();
            fn save_meta(meta: &Meta) -> ();
        }
    }
    TaskTable {
        reads {
            fn seq_of(id: TaskId) -> Option<Seq>;
            fn task(seq: Seq) -> Option<TaskRow>;
            fn live(seq: Seq) -> Option<Live>;
            fn running() -> Vec<(Seq, TaskId, Live)>;
            fn ended(seq: Seq) -> Option<(TaskId, Ended, Option<Json>)>;
        }
        writes {
            fn insert_task(row: &TaskRow) -> ();
            fn remove_task(seq: Seq, id: TaskId) -> ();
            fn put_live(seq: Seq, id: TaskId, live: &Live) -> ();
            fn remove_live(seq: Seq, id: TaskId) -> ();
            fn insert_ended(seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> ();
            fn remove_ended(seq: Seq, id: TaskId) -> ();
        }
    }
    LineTable {
        reads {
            fn line(lane: &str, behind: Option<&Place>, count_max: usize) -> Vec<Place>;
            fn next_lane(behind: Option<&str>) -> Option<String>;
        }
        writes {
            fn join_line(lane: &str, place: &Place) -> ();
            fn leave_line(lane: &str, place: &Place) -> ();
        }
    }
    TimerTable {
        reads {
            fn due(by: Due, count_max: usize) -> Vec<(Due, Seq)>;
            fn first_due(timer: Timer) -> Option<Due>;
        }
        writes {
            fn set_timer(due: Due, seq: Seq) -> ();
            fn clear_timer(due: Due, seq: Seq) -> ();
        }
    }
    EdgeTable {
        reads {
            fn has_edge(parent: Seq, child: Seq) -> bool;
            fn children(parent: Seq, count_max: usize) -> Vec<Seq>;
            fn unsettled() -> Vec<Seq>;
        }
        writes {
            fn add_edge(parent: Seq, child: Seq) -> ();
            fn remove_edge(parent: Seq, child: Seq) -> ();
        }
    }
    KeyTable {
        reads {
            fn key(scope: &str, key: &str) -> Option<KeyRow>;
            fn first_key_expiry() -> Option<Elapsed>;
        }
        writes {
            fn put_key(scope: &str, key: &str, row: &KeyRow) -> ();
            fn remove_keys(by: Elapsed, count_max: usize) -> usize;
        }
    }
    TypeTable {
        reads {
            fn types() -> Vec<(String, TypeRow)>;
            fn key_limits() -> Vec<(String, u32)>;
        }
        writes {
            fn put_type(task_type: &str, row: &TypeRow) -> ();
            fn put_key_limit(key: &str, running_max: Option<u32>) -> ();
        }
    }
    RouteTable {
        reads {}
        writes {
            fn put_route(task: TaskId, owner: PeerId, count_max: i64) -> ();
        }
    }
    CacheTable {
        reads {
            fn cache_bytes() -> u64;
            fn cache_size(key: &str) -> Option<u64>;
            fn cache_least_used(count_max: usize) -> Vec<(String, u64)>;
            fn cache_expired(by: Elapsed, count_max: usize) -> Vec<(String, u64)>;
            fn first_cache_expiry() -> Option<Elapsed>;
        }
        writes {
            fn put_cached(key: &str, row: &CacheRow) -> ();
            fn touch_cached(key: &str, used_at: Elapsed) -> ();
            fn remove_cached(key: &str) -> ();
        }
    }
}
