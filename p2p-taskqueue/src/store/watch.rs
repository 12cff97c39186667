use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{api::QueueError, task::TaskId};

/// Who waits for which task to end.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_task: HashMap<TaskId, HashMap<u64, Arc<Waiter>>>,
    /// Tells watches of the same task apart.
    next_number: u64,
    /// Watches that stand.
    watches: usize,
    /// Ids of all of them.
    ids: usize,
}

/// The half of a [`Watch`] that the store holds.
#[derive(Debug)]
struct Waiter {
    /// Tasks not yet known to have ended.
    outstanding: Mutex<HashSet<TaskId>>,
    /// Told once `outstanding` is empty; keeps the word for a watch that does not listen yet.
    done: Notify,
}

impl Watches {
    /// Registers interest in the end of these tasks.
    pub(crate) fn register(self: &Arc<Self>, ids: &[TaskId]) -> Result<Watch, QueueError> {
        let outstanding: HashSet<TaskId> = ids.iter().copied().collect();
        let mut table = lock(&self.table);
        if table.watches >= WATCHES_MAX || table.ids + outstanding.len() > WATCHED_IDS_MAX {
            let (limit, what) = match table.watches {
                WATCHES_MAX.. => (WATCHES_MAX, "waits at once"),
                _ => (WATCHED_IDS_MAX, "tasks of all waits"),
            };
            return Err(QueueError::overloaded(limit, what, WATCH_RETRY_AFTER_S));
        }
        table.watches += 1;
        table.next_number += 1;
        let number = table.next_number;
        table.ids += outstanding.len();
        let ids: Vec<TaskId> = outstanding.iter().copied().collect();
        let waiter = Arc::new(Waiter { outstanding: Mutex::new(outstanding), done: Notify::new() });
        for id in &ids {
            table.by_task.entry(*id).or_default().insert(number, Arc::clone(&waiter));
        }
        drop(table);
        Ok(Watch { number, waiter, ids, registry: Arc::clone(self) })
    }

    /// How many watches stand, and the tasks of all.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.watches, table.ids)
    }

    /// Tells that these tasks have ended; readers see it already.
    pub(crate) fn ended(&self, ids: &[TaskId]) {
        if ids.is_empty() {
            return;
        }
        let mut table = lock(&self.table);
        if table.by_task.is_empty() {
            return;
        }
        for id in ids {
            for waiter in table.by_task.remove(id).into_iter().flat_map(HashMap::into_values) {
                waiter.settle(*id);
            }
        }
    }
}

impl Waiter {
    fn settle(&self, id: TaskId) {
        let mut outstanding = lock(&self.outstanding);
        outstanding.remove(&id);
        if outstanding.is_empty() {
            self.done.notify_one();
        }
    }
}

/// Interest in the end of some tasks. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    number: u64,
    waiter: Arc<Waiter>,
    ids: Vec<TaskId>,
    registry: Arc<Watches>,
}

impl Watch {
    /// Notes that a task was seen to have ended.
    pub fn settle(&self, id: TaskId) {
        self.waiter.settle(id);
    }

    /// Waits until every task has ended or was [settled](Self::settle).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn done(&self) {
        self.waiter.done.notified().await;
        // The word stays: who asks again is answered again.
        self.waiter.done.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = lock(&self.registry.table);
        table.watches = table.watches.saturating_sub(1);
        table.ids = table.ids.saturating_sub(self.ids.len());
        for id in &self.ids {
            if let Some(waiters) = table.by_task.get_mut(id) {
                waiters.remove(&self.number);
                if waiters.is_empty() {
                    table.by_task.remove(id);
                }
            }
        }
    }
}

// A panic while one of these short locks was held would be a defect here; the data is valid at every point.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits of all callers together, at about 400 bytes each: many times what one busy server is expected to hold.
const WATCHES_MAX: usize = 16_384;

/// Ids of all waits together, at about 150 bytes each.
const WATCHED_IDS_MAX: usize = 200_000;

/// A wait ends within this order of time.
const WATCH_RETRY_AFTER_S: f64 = 1.0;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::api::ErrorCode;

    fn id(byte: u8) -> TaskId {
        TaskId::from_bytes([byte; 16])
    }

    #[test]
    fn an_end_before_the_await_is_not_lost() {
        let watches = Arc::new(Watches::default());
        let watch = watches.register(&[id(1), id(2)]).unwrap();
        watches.ended(&[id(1)]);
        assert!(watch.done().now_or_never().is_none());
        watch.settle(id(2));
        assert!(watch.done().now_or_never().is_some());
        assert!(watch.done().now_or_never().is_some());
    }

    #[test]
    fn dropped_watches_leave_nothing_behind() {
        let watches = Arc::new(Watches::default());
        let one = watches.register(&[id(1), id(2), id(2)]).unwrap();
        let other = watches.register(&[id(2)]).unwrap();
        drop(one);
        watches.ended(&[id(2)]);
        assert!(other.done().now_or_never().is_some());
        drop(other);
        let table = watches.table.lock().unwrap();
        assert_eq!((table.by_task.len(), table.watches, table.ids), (0, 0, 0));
    }

    #[test]
    fn the_number_of_watches_is_bounded() {
        let watches = Arc::new(Watches::default());
        let held: Vec<_> = (0..WATCHES_MAX).map(|_| watches.register(&[id(1)]).unwrap()).collect();
        assert_eq!(watches.register(&[id(1)]).unwrap_err().code, ErrorCode::Overloaded);
        drop(held);
        assert!(watches.register(&[id(1)]).is_ok());
    }
}
