use std::collections::{BTreeSet, HashMap};

use crate::backend::{Due, Seq, Timer};

/// Timers that are due but have to stay in the rows. Chores pass over them, so that the writer does not look at them
/// again and again.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Removals of tasks whose children have not been told, with the times at which they were due.
    removals: HashMap<Seq, Due>,
    /// Timers that could not be cleared.
    stuck: BTreeSet<(Due, Seq)>,
}

impl Aside {
    /// Whether chores pass over this timer.
    pub(super) fn has(&self, due: Due, seq: Seq) -> bool {
        self.stuck.contains(&(due, seq)) || self.removals.get(&seq) == Some(&due)
    }

    /// Returns how many timers of a kind chores pass over.
    pub(super) fn count(&self, timer: Timer) -> usize {
        let removals = if timer == Timer::Removal { self.removals.len() } else { 0 };
        removals + self.stuck.iter().filter(|(due, _)| due.timer() == timer).count()
    }

    /// Sets the removal of a task aside until the task's children have been told.
    pub(super) fn put_off(&mut self, seq: Seq, removal: Due) {
        self.removals.insert(seq, removal);
    }

    /// Takes back the removal of a task whose children have been told, or that lives again. Returns since when it is
    /// due, if it was put off.
    pub(super) fn take_up(&mut self, seq: Seq) -> Option<Due> {
        self.removals.remove(&seq)
    }

    /// Sets aside a timer that could not be cleared. Returns whether there was room for it.
    pub(super) fn put_stuck(&mut self, due: Due, seq: Seq) -> bool {
        let has_room = self.stuck.len() < STUCK_MAX;
        if has_room {
            self.stuck.insert((due, seq));
        }
        has_room
    }
}

/// The most timers that are set aside because they cannot be cleared. A few come from damage of single rows; more than
/// this means that the whole file is damaged. Chores read this many more rows each time.
const STUCK_MAX: usize = 1_024;
