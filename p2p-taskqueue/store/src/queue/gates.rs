use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use taskqueue_api::{ErrorCode, QueueError, TaskStatus, WaitReason, WaitingFor};

use crate::backend::{Fault, TypeRow, TypeTable};

/// The counts of every task type, and what holds tasks back from every worker: pauses, and limits of running tasks.
#[derive(Debug, Default)]
pub(super) struct Gates {
    types: HashMap<Arc<str>, TypeRow>,
    /// The number of types that are paused or limited.
    held: usize,
    /// The pause and the drain of the whole queue.
    whole: TypeRow,
    /// The types whose rows have to be written.
    changed: BTreeSet<Arc<str>>,
    keys: HashMap<Arc<str>, Key>,
    /// The types that hold less back since this was last taken. For keys, `stopped` says so at once.
    eased: Eased,
}

/// The types of which more tasks may have become claimable.
#[derive(Debug, Default)]
pub(super) struct Eased {
    pub(super) types: HashSet<Arc<str>>,
    pub(super) all: bool,
}

#[derive(Debug, Default)]
struct Key {
    running: u32,
    /// The limit; `None` when none was set. Then the limit is [`KEY_ALLOWS`].
    running_max: Option<u32>,
}

impl Key {
    const fn is_full(&self) -> bool {
        match self.running_max {
            Some(max) => self.running >= max,
            None => self.running >= KEY_ALLOWS,
        }
    }
}

impl Gates {
    /// Reads the counts and settings. Running tasks have to be added with [`started`](Self::started).
    pub(super) fn load(rows: &mut dyn TypeTable) -> Result<Self, Fault> {
        let mut gates = Self::default();
        for (name, row) in rows.types()? {
            if name.is_empty() {
                gates.whole = row;
            } else {
                gates.held += usize::from(holds(&row));
                gates.types.insert(name.into(), row);
            }
        }
        for (key, running_max) in rows.key_limits()? {
            gates.keys.insert(key.into(), Key { running: 0, running_max: Some(running_max) });
        }
        Ok(gates)
    }

    /// Writes the rows that changed.
    pub(super) fn save(&mut self, rows: &mut dyn TypeTable) -> Result<(), Fault> {
        for name in std::mem::take(&mut self.changed) {
            let row = self.of(&name).cloned().unwrap_or_default();
            rows.put_type(&name, &row)?;
            if !name.is_empty() && row == TypeRow::default() {
                self.types.remove(&name);
            }
        }
        Ok(())
    }

    /// Refuses a task whose type takes no new tasks, and a new type when there are too many. Returns whether the type
    /// is new. `beside` is the number of new types that the same request has brought already.
    pub(super) fn admit(&self, task_type: &str, beside: usize) -> Result<bool, QueueError> {
        let row = self.types.get(task_type);
        if self.whole.draining || row.is_some_and(|row| row.draining) {
            let what = if self.whole.draining { "the queue".to_owned() } else { format!("task type {task_type}") };
            let message = format!("{what} is being drained: it takes no new tasks until it is resumed");
            return Err(QueueError::new(ErrorCode::Paused, message));
        }
        if row.is_none() && self.types.len() + beside >= TYPES_MAX {
            return Err(too_many_types());
        }
        Ok(row.is_none())
    }

    /// Whether tasks of this type are held back.
    pub(super) fn closes_type(&self, task_type: &str) -> bool {
        let is_full = |row: &TypeRow| row.running_max.is_some_and(|max| running(row) >= u64::from(max));
        self.whole.paused || self.types.get(task_type).is_some_and(|row| row.paused || is_full(row))
    }

    /// Whether tasks with this key are held back.
    pub(super) fn closes_key(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(Key::is_full)
    }

    /// Whether anything but a concurrency key may hold tasks back.
    pub(super) const fn has_holds(&self) -> bool {
        self.whole.paused || self.held > 0
    }

    /// Says what holds tasks of this type and with this key back, if anything does.
    pub(super) fn reason(&self, task_type: &str, key: Option<&str>) -> Option<WaitingFor> {
        let of_type = if self.has_holds() { self.reason_of_type(task_type) } else { None };
        of_type.or_else(|| {
            let key = key?;
            let state = self.keys.get(key).filter(|state| state.is_full())?;
            let max = u64::from(state.running_max.unwrap_or(KEY_ALLOWS));
            Some(limited(u64::from(state.running), max, &format!("with the concurrency key '{key}'")))
        })
    }

    fn reason_of_type(&self, task_type: &str) -> Option<WaitingFor> {
        let paused = |message| Some(WaitingFor::new(WaitReason::Paused, message));
        if self.whole.paused {
            return paused("the queue is paused: `taskmesh resume` lets it go on".to_owned());
        }
        let row = self.types.get(task_type)?;
        if row.paused {
            return paused(format!("type '{task_type}' is paused: `taskmesh resume {task_type}` lets it go on"));
        }
        let (running, max) = (running(row), u64::from(row.running_max?));
        (running >= max).then(|| limited(running, max, &format!("of type '{task_type}'")))
    }

    /// Counts one more task of this type in this state.
    pub(super) fn enter(&mut self, task_type: &Arc<str>, status: TaskStatus) {
        self.count(task_type, status, |count| count.saturating_add(1));
    }

    /// Counts one task less of this type in this state.
    pub(super) fn leave(&mut self, task_type: &Arc<str>, status: TaskStatus) {
        let was_closed = status == TaskStatus::Running && self.closes_type(task_type);
        self.count(task_type, status, |count| count.saturating_sub(1));
        if was_closed && !self.closes_type(task_type) {
            self.eased.types.insert(Arc::clone(task_type));
        }
    }

    /// Notes that a task with this key has started. Returns whether the key now holds others back.
    pub(super) fn started(&mut self, key: &Arc<str>) -> bool {
        let key = self.keys.entry(Arc::clone(key)).or_default();
        key.running = key.running.saturating_add(1);
        key.is_full()
    }

    /// Notes that a task with this key has stopped. Returns whether the key held others back and no longer does.
    pub(super) fn stopped(&mut self, key: &Arc<str>) -> bool {
        let Some(state) = self.keys.get_mut(key) else { return false };
        let was_full = state.is_full();
        state.running = state.running.saturating_sub(1);
        let opens = was_full && !state.is_full();
        if state.running == 0 && state.running_max.is_none() {
            self.keys.remove(key);
        }
        opens
    }

    /// Changes the settings of some types, or of the whole queue if none is named. Returns how many of their tasks are
    /// queued and how many are running.
    pub(super) fn set(&mut self, task_types: &[String], change: impl Fn(&mut TypeRow)) -> (u64, u64) {
        self.eased.all = true;
        if task_types.is_empty() {
            change(&mut self.whole);
            self.changed.insert("".into());
            return total(self.types.values());
        }
        for name in task_types {
            self.change(&Arc::from(name.as_str()), &change);
        }
        total(task_types.iter().filter_map(|name| self.types.get(name.as_str())))
    }

    /// Changes the settings of the whole queue and of each type.
    pub(super) fn set_all(&mut self, change: impl Fn(&mut TypeRow)) -> (u64, u64) {
        let names: Vec<Arc<str>> = self.types.keys().cloned().collect();
        for name in names {
            self.change(&name, &change);
        }
        self.set(&[], change)
    }

    /// Sets or removes the limit of a key. Returns how many tasks with the key are running.
    pub(super) fn limit_key(&mut self, key: &str, running_max: Option<u32>) -> u64 {
        let state = self.keys.entry(key.into()).or_default();
        state.running_max = running_max;
        let running = state.running;
        if running == 0 && running_max.is_none() {
            self.keys.remove(key);
        }
        u64::from(running)
    }

    /// Refuses settings for more types than there may be. Types that are known already may always be changed.
    pub(super) fn admit_settings(&self, task_types: &[String]) -> Result<(), QueueError> {
        let new = task_types.iter().filter(|name| !self.types.contains_key(name.as_str())).count();
        if new > 0 && self.types.len() + new > TYPES_MAX { Err(too_many_types()) } else { Ok(()) }
    }

    /// Refuses a limit for a key if there are too many. A limit that is set already may always be changed.
    pub(super) fn admit_key_limit(&self, key: &str) -> Result<(), QueueError> {
        let is_known = self.keys.get(key).is_some_and(|key| key.running_max.is_some());
        let count = self.keys.values().filter(|key| key.running_max.is_some()).count();
        if is_known || count < KEY_LIMITS_MAX {
            return Ok(());
        }
        let what = "limits of concurrency keys (take some away)";
        Err(QueueError::overloaded(KEY_LIMITS_MAX, what, KEY_LIMITS_RETRY_AFTER_S))
    }

    /// Takes the types that were eased since the last call.
    pub(super) fn take_eased(&mut self) -> Eased {
        std::mem::take(&mut self.eased)
    }

    fn of(&self, name: &str) -> Option<&TypeRow> {
        if name.is_empty() { Some(&self.whole) } else { self.types.get(name) }
    }

    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut TypeRow)) {
        let before = self.types.get(name).cloned().unwrap_or_default();
        let mut row = before.clone();
        change(&mut row);
        // A type for which nobody has set anything is not remembered.
        if row != before {
            self.held += usize::from(holds(&row));
            self.held -= usize::from(holds(&before));
            self.types.insert(Arc::clone(name), row);
            self.changed.insert(Arc::clone(name));
        }
    }

    fn count(&mut self, task_type: &Arc<str>, status: TaskStatus, change: fn(u64) -> u64) {
        let row = self.types.entry(Arc::clone(task_type)).or_default();
        let counted = TaskStatus::ALL.iter().position(|known| *known == status).and_then(|at| row.counts.get_mut(at));
        if let Some(count) = counted {
            *count = change(*count);
        }
        self.changed.insert(Arc::clone(task_type));
    }
}

/// Whether the settings of a type may hold its tasks back. A drain does not: what is queued is still given out.
const fn holds(row: &TypeRow) -> bool {
    row.paused || row.running_max.is_some()
}

fn limited(running: u64, max: u64, which: &str) -> WaitingFor {
    let message = if running > max {
        // The limit was set when more of them ran.
        format!("{running} tasks {which} run, and {max} may")
    } else {
        format!("{running} of {max} tasks {which} run")
    };
    WaitingFor::new(WaitReason::Limit, message)
}

fn too_many_types() -> QueueError {
    QueueError::overloaded(TYPES_MAX, "task types in the store", TYPES_RETRY_AFTER_S)
}

/// Returns how many tasks of a type are running.
pub(super) fn running(row: &TypeRow) -> u64 {
    count_of(row, TaskStatus::Running)
}

/// Returns how many tasks of a type are in this state.
pub(super) fn count_of(row: &TypeRow, status: TaskStatus) -> u64 {
    TaskStatus::ALL.into_iter().zip(row.counts).find(|(known, _)| *known == status).map_or(0, |(_, count)| count)
}

fn total<'a>(rows: impl Iterator<Item = &'a TypeRow>) -> (u64, u64) {
    rows.fold((0, 0), |(queued, running), row| {
        (queued + count_of(row, TaskStatus::Queued), running + self::running(row))
    })
}

/// The most types with tasks or settings, at some hundred bytes each. That is far above what anybody names by hand. The
/// number is small in tests, which reach it.
const TYPES_MAX: usize = if cfg!(test) { 2_000 } else { 100_000 };

/// Types go away when their last results are removed.
const TYPES_RETRY_AFTER_S: f64 = 60.0;

/// How many tasks with the same concurrency key run at once when no limit was set.
const KEY_ALLOWS: u32 = 1;

/// The most limits of concurrency keys, at about 200 bytes each. The number is small in tests, which reach it.
const KEY_LIMITS_MAX: usize = if cfg!(test) { 100 } else { 10_000 };

/// Somebody has to remove limits first.
const KEY_LIMITS_RETRY_AFTER_S: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn a_full_type_opens_again_when_one_of_its_tasks_ends() {
        let mut gates = Gates::default();
        gates.set(&["a".to_owned()], |row| row.running_max = Some(2));
        gates.take_eased();
        gates.enter(&name("a"), TaskStatus::Running);
        assert!(!gates.closes_type("a"));
        gates.enter(&name("a"), TaskStatus::Running);
        assert!(gates.closes_type("a") && !gates.closes_type("b"));
        gates.leave(&name("a"), TaskStatus::Running);
        assert!(!gates.closes_type("a"));
        assert!(gates.take_eased().types.contains("a"));
    }

    #[test]
    fn a_key_allows_one_until_it_is_told_otherwise() {
        let mut gates = Gates::default();
        assert!(gates.started(&name("k")));
        assert!(gates.closes_key("k"));
        gates.limit_key("k", Some(2));
        assert!(!gates.closes_key("k"));
        assert!(gates.started(&name("k")));
        assert!(gates.stopped(&name("k")) && !gates.closes_key("k"));
    }

    #[test]
    fn what_is_held_back_has_a_reason_and_nothing_else_has() {
        let (mut gates, task_type, key) = (Gates::default(), name("a"), name("k"));
        let told = |gates: &Gates, key| gates.reason("a", key).map(|why| why.message);
        assert_eq!((gates.has_holds(), told(&gates, Some("k"))), (false, None));
        gates.set(&["a".to_owned()], |row| row.draining = true);
        assert_eq!((gates.has_holds(), told(&gates, Some("k"))), (false, None), "a drain holds nothing back");
        gates.enter(&task_type, TaskStatus::Running);
        gates.started(&key);
        assert_eq!(told(&gates, None), None);
        assert_eq!(told(&gates, Some("k")).unwrap(), "1 of 1 tasks with the concurrency key 'k' run");
        gates.limit_key("k", Some(2));
        assert_eq!(told(&gates, Some("k")), None);
        gates.started(&key);
        gates.enter(&task_type, TaskStatus::Running);
        gates.limit_key("k", Some(1));
        assert_eq!(told(&gates, Some("k")).unwrap(), "2 tasks with the concurrency key 'k' run, and 1 may");
        gates.set(&["a".to_owned()], |row| row.running_max = Some(2));
        assert!(gates.has_holds());
        assert_eq!(told(&gates, Some("k")).unwrap(), "2 of 2 tasks of type 'a' run");
        gates.set(&["a".to_owned()], |row| row.paused = true);
        assert_eq!(told(&gates, Some("k")).unwrap(), "type 'a' is paused: `taskmesh resume a` lets it go on");
        gates.set(&[], |row| row.paused = true);
        assert_eq!(told(&gates, Some("k")).unwrap(), "the queue is paused: `taskmesh resume` lets it go on");
        gates.set_all(|row| (row.paused, row.draining) = (false, false));
        assert_eq!(told(&gates, None).unwrap(), "2 of 2 tasks of type 'a' run");
        gates.set(&["a".to_owned()], |row| row.running_max = None);
        assert_eq!((gates.has_holds(), told(&gates, None)), (false, None));
    }

    #[test]
    fn the_whole_queue_is_held_and_drained_apart_from_its_types() {
        let mut gates = Gates::default();
        gates.enter(&name("a"), TaskStatus::Queued);
        gates.set(&[], |row| row.paused = true);
        assert!(gates.closes_type("a") && gates.closes_type("never seen") && gates.admit("a", 0).is_ok());
        gates.set(&["a".to_owned()], |row| row.draining = true);
        assert_eq!(gates.admit("a", 0).unwrap_err().code, ErrorCode::Paused);
        assert!(gates.admit("b", 0).is_ok());
        assert_eq!(gates.set_all(|row| (row.paused, row.draining) = (false, false)), (1, 0));
        assert!(!gates.closes_type("a") && gates.admit("a", 0).is_ok());
    }
}
