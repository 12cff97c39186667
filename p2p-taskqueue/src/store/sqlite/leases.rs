use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::task::TaskId;

/// When each lease ends, on monotonic time (clause T5). Bounded by the running tasks, each of which was claimed.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_task: HashMap<TaskId, Lease>,
    by_end: BTreeSet<(Duration, TaskId)>,
}

/// A lease as the timer sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) end: Duration,
    pub(super) seq: i64,
}

impl Leases {
    pub(super) fn get(&self, id: TaskId) -> Option<Lease> {
        self.by_task.get(&id).copied()
    }

    pub(super) fn set(&mut self, id: TaskId, lease: Lease) {
        self.remove(id);
        self.by_task.insert(id, lease);
        self.by_end.insert((lease.end, id));
    }

    pub(super) fn remove(&mut self, id: TaskId) {
        if let Some(lease) = self.by_task.remove(&id) {
            self.by_end.remove(&(lease.end, id));
        }
    }

    /// Takes over the ends of leases that were known before.
    pub(super) fn keep_ends(&mut self, known: &Self) {
        for (id, lease) in &known.by_task {
            if self.by_task.contains_key(id) {
                self.set(*id, *lease);
            }
        }
    }

    /// When the first lease ends.
    pub(super) fn first_end(&self) -> Option<Duration> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// Up to `count_max` leases that have ended.
    pub(super) fn ended_by(&self, now: Duration, count_max: usize) -> Vec<(TaskId, i64)> {
        let ended = self.by_end.iter().take_while(|(end, _)| *end <= now).take(count_max);
        ended.filter_map(|(_, id)| self.by_task.get(id).map(|lease| (*id, lease.seq))).collect()
    }
}
