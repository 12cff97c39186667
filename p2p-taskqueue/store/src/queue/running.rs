use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use taskqueue_api::{Fence, PeerId, TaskId};

use super::turn::Kind;
use crate::{backend::Seq, engine::Live};

/// The running tasks with their state, and the ends of their leases on monotonic time (clause T5). The number of
/// claimed tasks bounds it.
#[derive(Debug, Default)]
pub(super) struct Running {
    tasks: HashMap<TaskId, RunningTask>,
    by_end: BTreeSet<(Duration, TaskId)>,
    /// The fences and lease ends that the open transaction has changed or removed, as they were before.
    before: HashMap<TaskId, (Option<Fence>, Duration)>,
}

/// A running task.
#[derive(Debug, Clone)]
pub(super) struct RunningTask {
    pub(super) seq: Seq,
    pub(super) kind: Arc<Kind>,
    pub(super) live: Live,
    /// The end of its lease.
    pub(super) end: Duration,
}

impl Running {
    pub(super) fn get(&self, id: TaskId) -> Option<&RunningTask> {
        self.tasks.get(&id)
    }

    /// Notes the state of a running task, in place of an older one.
    pub(super) fn set(&mut self, id: TaskId, run: RunningTask) {
        self.remember(id);
        self.by_end.insert((run.end, id));
        if let Some(before) = self.tasks.insert(id, run)
            && self.tasks.get(&id).is_some_and(|run| run.end != before.end)
        {
            self.by_end.remove(&(before.end, id));
        }
    }

    pub(super) fn remove(&mut self, id: TaskId) {
        self.remember(id);
        if let Some(run) = self.tasks.remove(&id) {
            self.by_end.remove(&(run.end, id));
        }
    }

    fn remember(&mut self, id: TaskId) {
        if let Some(run) = self.tasks.get(&id) {
            self.before.entry(id).or_insert((run.live.fence, run.end));
        }
    }

    /// Notes that the open transaction was committed.
    pub(super) fn committed(&mut self) {
        self.before.clear();
    }

    /// Takes over the ends of leases from the memory before a transaction that failed.
    pub(super) fn keep_ends(&mut self, known: &Self) {
        let unchanged = known.tasks.iter().map(|(id, run)| (*id, (run.live.fence, run.end)));
        let changed = known.before.iter().map(|(id, before)| (*id, *before));
        for (id, (fence, end)) in unchanged.chain(changed) {
            if let Some(run) = self.tasks.get(&id).filter(|run| run.live.fence == fence) {
                self.set(id, RunningTask { end, ..run.clone() });
            }
        }
        self.committed();
    }

    /// Returns the time at which the first lease ends.
    pub(super) fn first_end(&self) -> Option<Duration> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// Returns up to `count_max` tasks whose leases have ended.
    pub(super) fn ended_by(&self, now: Duration, count_max: usize) -> Vec<TaskId> {
        self.by_end.iter().take_while(|(end, _)| *end <= now).take(count_max).map(|(_, id)| *id).collect()
    }

    /// Returns the leases of a machine, the one that ends first first.
    pub(super) fn held_by(&self, machine: PeerId) -> Vec<(TaskId, Fence)> {
        let runs = self.by_end.iter().filter_map(|(_, id)| self.tasks.get(id).map(|run| (*id, &run.live)));
        let held = runs.filter(|(_, live)| live.attempts.holder() == Some(machine));
        held.filter_map(|(id, live)| Some((id, live.fence?))).collect()
    }
}
