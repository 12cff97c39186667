use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taskqueue_api::PeerId;
use taskqueue_api::{Json, QueueError, TaskId, TaskRecord};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::engine::{Now, Record};

/// The waits for the ends of tasks.
#[derive(Debug)]
pub(crate) struct Watches {
    table: Mutex<Table>,
    /// The room in bytes for removed records that are kept for waits.
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Table {
    by_task: HashMap<TaskId, HashMap<u64, Arc<Waiter>>>,
    /// Distinguishes watches of the same task.
    next_number: u64,
    /// The number of watches.
    watches: usize,
    /// The number of ids in all watches.
    ids: usize,
}

/// The half of a [`Watch`] that the store holds.
#[derive(Debug)]
struct Waiter {
    /// Tasks that are not yet known to have ended.
    outstanding: Mutex<HashSet<TaskId>>,
    /// Notified once `outstanding` is empty. It stores the notification for a watch that does not listen yet.
    done: Notify,
    /// Records that were removed during this watch.
    removed: Mutex<HashMap<TaskId, Arc<Removed>>>,
}

/// A record as it was when the store removed it.
#[derive(Debug)]
struct Removed {
    record: Record,
    /// The time of the removal.
    at: Now,
    /// Its share of the room for all removed records.
    _room: OwnedSemaphorePermit,
}

impl Default for Watches {
    fn default() -> Self {
        Self { table: Mutex::default(), room: Arc::new(Semaphore::new(REMOVED_BYTES_MAX)) }
    }
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
        let (outstanding, removed) = (Mutex::new(outstanding), Mutex::default());
        let waiter = Arc::new(Waiter { outstanding, done: Notify::new(), removed });
        for id in &ids {
            table.by_task.entry(*id).or_default().insert(number, Arc::clone(&waiter));
        }
        drop(table);
        Ok(Watch { number, waiter, ids, registry: Arc::clone(self) })
    }

    /// The number of watches, and the number of tasks in all of them.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.watches, table.ids)
    }

    /// Reports that these tasks have ended. Readers can already see that.
    pub(crate) fn ended(&self, ids: &[TaskId]) {
        if ids.is_empty() {
            return;
        }
        let table = lock(&self.table);
        if table.by_task.is_empty() {
            return;
        }
        for id in ids {
            // The waits stay registered, because another task of theirs may end long after this record is removed.
            for waiter in table.by_task.get(id).into_iter().flat_map(HashMap::values) {
                waiter.settle(*id);
            }
        }
    }

    /// Whether somebody waits for this task. It counts even when this task has ended and the others of the same wait
    /// have not.
    pub(crate) fn are_for(&self, id: TaskId) -> bool {
        lock(&self.table).by_task.contains_key(&id)
    }

    /// Gives the record that is about to be removed to those who wait for its task.
    ///
    /// This comes before the commit of the removal, so a caller that finds no record any more finds this one.
    pub(crate) fn keep(&self, record: Record, at: Now) {
        let id = record.spec.id;
        let bytes = record.payload.len_bytes() + record.result.as_ref().map_or(0, Json::len_bytes) + RECORD_BYTES;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            tracing::warn!(task = %id, "no room to keep a removed record for those who wait for it");
            return;
        };
        let removed = Arc::new(Removed { record, at, _room: room });
        for waiter in lock(&self.table).by_task.get(&id).into_iter().flat_map(HashMap::values) {
            lock(&waiter.removed).insert(id, Arc::clone(&removed));
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

/// Interest in the end of some tasks. Dropping it ends the interest.
#[derive(Debug)]
pub struct Watch {
    number: u64,
    waiter: Arc<Waiter>,
    ids: Vec<TaskId>,
    registry: Arc<Watches>,
}

impl Watch {
    /// Notes that the caller has seen the end of a task.
    pub fn settle(&self, id: TaskId) {
        self.waiter.settle(id);
    }

    /// Returns the record of a task that was removed since the watch was registered. `owner` is the peer that keeps the
    /// store.
    pub(crate) fn removed(&self, id: TaskId, owner: PeerId) -> Option<TaskRecord> {
        let removed = lock(&self.waiter.removed).get(&id).cloned()?;
        Some(removed.record.clone().into_task(owner, removed.at))
    }

    /// Waits until every task has ended or was [settled](Self::settle).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn done(&self) {
        self.waiter.done.notified().await;
        // The notification is stored again, so that a second call is answered too.
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

// A panic under one of these short locks would be a defect here. The data is valid at every point.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most watches of all callers together, at about 400 bytes each: many times what one busy server is expected to
/// hold.
const WATCHES_MAX: usize = 16_384;

/// The most ids of all watches together, at about 150 bytes each.
const WATCHED_IDS_MAX: usize = 200_000;

/// The most bytes of removed records that are kept for all waits together. It is enough for a purge of a few hundred
/// large results while callers wait for them.
const REMOVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The estimated bytes of a record besides its payload and its result.
const RECORD_BYTES: usize = 1_024;

/// The order of magnitude in which a wait ends, in seconds.
const WATCH_RETRY_AFTER_S: f64 = 1.0;

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use taskqueue_api::ErrorCode;

    use super::*;

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
