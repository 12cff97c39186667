use taskqueue_api::{Json, PeerId, TaskId};

use crate::{
    backend::{
        CacheRow, CacheTable, Due, EdgeTable, Fault, KeyRow, KeyTable, LineTable, Place, RouteTable, Rows, Seq,
        TaskRow, TaskTable, Timer, TimerTable, TypeRow, TypeTable,
    },
    engine::{Elapsed, Ended, Live},
};

/// The rows as a turn sees them. Every write goes through here and is recorded. A turn has no other way to the rows, so
/// it can neither write without a record, nor record a write that it did not make.
///
/// This type does not implement [`Rows`]: a turn neither begins nor ends the transaction, and may not write the running
/// numbers.
#[derive(Debug)]
pub(super) struct Recorder<'a> {
    rows: &'a mut dyn Rows,
    written: Written,
}

/// The writes of a transaction, as far as something follows from them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Whether anything was written.
    pub(super) anything: bool,
    /// Tasks whose records were changed or removed. A record that was read before must not be answered after the
    /// commit. A task that was just accepted is not among them, because nobody has read its record.
    pub(super) changed: Vec<TaskId>,
    /// Tasks that have ended. Those who wait for them have to be told.
    pub(super) ended: Vec<TaskId>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(rows: &'a mut dyn Rows) -> Self {
        Self { rows, written: Written::default() }
    }

    /// Returns what was written so far.
    #[cfg(test)]
    pub(super) const fn written(&self) -> &Written {
        &self.written
    }

    /// Returns everything that was written.
    pub(super) fn into_written(self) -> Written {
        self.written
    }

    /// Returns the rows for a write that does not change a record: a place in line, a timer, an edge, a key, a count,
    /// or a value of the cache.
    fn write(&mut self) -> &mut dyn Rows {
        self.written.anything = true;
        self.rows
    }

    /// Returns the rows for a write that changes the record of this task.
    fn write_record(&mut self, id: TaskId) -> &mut dyn Rows {
        let changed = &mut self.written.changed;
        // The end and the removal of a task take two writes each.
        if changed.last() != Some(&id) {
            changed.push(id);
        }
        self.write()
    }
}

/// Methods that pass reads on to the rows.
macro_rules! reads {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&mut self, $($argument: $type),*) -> Result<$answer, Fault> {
            self.rows.$name($($argument),*)
        })*
    };
}

impl TaskTable for Recorder<'_> {
    reads! {
        fn seq_of(id: TaskId) -> Option<Seq>;
        fn task(seq: Seq) -> Option<TaskRow>;
        fn live(seq: Seq) -> Option<Live>;
        fn running() -> Vec<(Seq, TaskId, Live)>;
        fn ended(seq: Seq) -> Option<(TaskId, Ended, Option<Json>)>;
    }

    fn insert_task(&mut self, row: &TaskRow) -> Result<(), Fault> {
        self.write().insert_task(row)
    }

    fn remove_task(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault> {
        self.write_record(id).remove_task(seq, id)
    }

    fn put_live(&mut self, seq: Seq, id: TaskId, live: &Live) -> Result<(), Fault> {
        self.write_record(id).put_live(seq, id, live)
    }

    fn remove_live(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault> {
        self.write_record(id).remove_live(seq, id)
    }

    fn insert_ended(&mut self, seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
        self.written.ended.push(id);
        self.write_record(id).insert_ended(seq, id, ended, result)
    }

    fn remove_ended(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault> {
        self.write_record(id).remove_ended(seq, id)
    }
}

impl LineTable for Recorder<'_> {
    reads! {
        fn line(lane: &str, behind: Option<&Place>, count_max: usize) -> Vec<Place>;
        fn next_lane(behind: Option<&str>) -> Option<String>;
    }

    fn join_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        self.write().join_line(lane, place)
    }

    fn leave_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        self.write().leave_line(lane, place)
    }
}

impl TimerTable for Recorder<'_> {
    reads! {
        fn due(by: Due, count_max: usize) -> Vec<(Due, Seq)>;
        fn first_due(timer: Timer) -> Option<Due>;
    }

    fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        self.write().set_timer(due, seq)
    }

    fn clear_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        self.write().clear_timer(due, seq)
    }
}

impl EdgeTable for Recorder<'_> {
    reads! {
        fn has_edge(parent: Seq, child: Seq) -> bool;
        fn children(parent: Seq, count_max: usize) -> Vec<Seq>;
        fn unsettled() -> Vec<Seq>;
    }

    fn add_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        self.write().add_edge(parent, child)
    }

    fn remove_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        self.write().remove_edge(parent, child)
    }
}

impl KeyTable for Recorder<'_> {
    reads! {
        fn key(scope: &str, key: &str) -> Option<KeyRow>;
        fn first_key_expiry() -> Option<Elapsed>;
    }

    fn put_key(&mut self, scope: &str, key: &str, row: &KeyRow) -> Result<(), Fault> {
        self.write().put_key(scope, key, row)
    }

    fn remove_keys(&mut self, by: Elapsed, count_max: usize) -> Result<usize, Fault> {
        let removed = self.rows.remove_keys(by, count_max)?;
        self.written.anything |= removed > 0;
        Ok(removed)
    }
}

impl TypeTable for Recorder<'_> {
    reads! {
        fn types() -> Vec<(String, TypeRow)>;
        fn key_limits() -> Vec<(String, u32)>;
    }

    fn put_type(&mut self, task_type: &str, row: &TypeRow) -> Result<(), Fault> {
        self.write().put_type(task_type, row)
    }

    fn put_key_limit(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Fault> {
        self.write().put_key_limit(key, running_max)
    }
}

impl RouteTable for Recorder<'_> {
    fn put_route(&mut self, task: TaskId, owner: PeerId, count_max: i64) -> Result<(), Fault> {
        self.write().put_route(task, owner, count_max)
    }
}

impl CacheTable for Recorder<'_> {
    reads! {
        fn cache_bytes() -> u64;
        fn cache_size(key: &str) -> Option<u64>;
        fn cache_least_used(count_max: usize) -> Vec<(String, u64)>;
        fn cache_expired(by: Elapsed, count_max: usize) -> Vec<(String, u64)>;
        fn first_cache_expiry() -> Option<Elapsed>;
    }

    fn put_cached(&mut self, key: &str, row: &CacheRow) -> Result<(), Fault> {
        self.write().put_cached(key, row)
    }

    fn touch_cached(&mut self, key: &str, used_at: Elapsed) -> Result<(), Fault> {
        self.write().touch_cached(key, used_at)
    }

    fn remove_cached(&mut self, key: &str) -> Result<(), Fault> {
        self.write().remove_cached(key)
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
