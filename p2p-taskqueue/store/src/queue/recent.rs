use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use hashlink::LruCache;
use taskqueue_api::TaskId;

use crate::{engine::Record, paging::record_bytes};

/// A cache of records that were read lately and have not changed since. A caller that asks for one of them again is
/// answered on its own thread, without a reader thread.
///
/// The writer removes a record before the commit that changes it, and until that commit is done, no read that begins
/// may keep its record. A record that is kept was on stable storage when it was read. So an answer from here is one
/// that a reader could have given at the same moment.
#[derive(Default)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    slots: LruCache<TaskId, Slot>,
    /// The bytes of the records in the slots.
    bytes: usize,
    /// Whether a commit is under way, or the rows have to be opened again after a failure. Then nothing is looked up.
    is_held: bool,
    /// The last ticket that was given out.
    ticket: u64,
    /// The number of known records that were answered since a caller last had to yield.
    in_a_row: u32,
}

#[derive(Debug)]
enum Slot {
    /// A record that is being read. It may be kept by those who have this ticket.
    Reading(u64),
    Full(Arc<Record>),
}

/// The outcome of a look-up.
#[derive(Debug)]
pub(super) enum Look {
    Known(Arc<Record>),
    /// The record has to be read. With the ticket, it can be kept.
    Read(Option<Ticket>),
}

/// Allows a record that is read now to be kept, unless the record changes before it is kept.
#[derive(Debug)]
pub(super) struct Ticket {
    id: TaskId,
    number: u64,
}

impl Recent {
    /// Looks a record up. A known record is answered at once. A caller that asks again and again without a pause yields
    /// now and then, so that other tasks on the same thread run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn look(&self, id: TaskId) -> Look {
        let look = self.look_now(id);
        if matches!(look, Look::Known(_)) && self.is_others_turn() {
            let mut waited = false;
            poll_fn(|context| {
                if std::mem::replace(&mut waited, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        look
    }

    fn look_now(&self, id: TaskId) -> Look {
        let mut kept = self.lock();
        if kept.is_held {
            return Look::Read(None);
        }
        let number = match kept.slots.get(&id) {
            Some(Slot::Full(record)) => return Look::Known(Arc::clone(record)),
            Some(Slot::Reading(number)) => *number,
            None => kept.reserve(id),
        };
        Look::Read(Some(Ticket { id, number }))
    }

    fn is_others_turn(&self) -> bool {
        let mut kept = self.lock();
        kept.in_a_row = (kept.in_a_row + 1) % IN_A_ROW_MAX;
        kept.in_a_row == 0
    }

    /// Keeps a record that was read with a ticket, and that is on stable storage.
    pub(super) fn keep(&self, ticket: &Ticket, record: Option<&Record>) {
        // The copy is made before the lock is taken.
        let record = record.cloned().map(Arc::new);
        let mut kept = self.lock();
        let is_awaited = matches!(kept.slots.peek(&ticket.id), Some(Slot::Reading(number)) if *number == ticket.number);
        match record {
            Some(record) if is_awaited => kept.fill(ticket.id, record),
            None if is_awaited => kept.remove(ticket.id),
            _ => {}
        }
    }

    /// Removes the records that a commit is about to change, and stops look-ups until [`release`](Self::release).
    pub(super) fn hold(&self, changed: &[TaskId]) {
        let mut kept = self.lock();
        kept.is_held = true;
        changed.iter().for_each(|id| kept.remove(*id));
    }

    /// Removes all records, because any of them may change, and stops look-ups until [`release`](Self::release).
    pub(super) fn hold_all(&self) {
        let mut kept = self.lock();
        kept.is_held = true;
        kept.slots.clear();
        kept.bytes = 0;
    }

    /// Allows look-ups again: the records that readers see from here on stand until the next commit.
    pub(super) fn release(&self) {
        self.lock().is_held = false;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing that can panic runs while the lock is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn reserve(&mut self, id: TaskId) -> u64 {
        self.ticket += 1;
        self.slots.insert(id, Slot::Reading(self.ticket));
        self.shrink();
        self.ticket
    }

    fn fill(&mut self, id: TaskId, record: Arc<Record>) {
        self.bytes += record_bytes(&record);
        self.slots.insert(id, Slot::Full(record));
        self.shrink();
    }

    fn remove(&mut self, id: TaskId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.bytes -= slot.bytes();
        }
    }

    /// Removes the records that nobody has asked for for the longest time, until the bounds are met.
    fn shrink(&mut self) {
        while self.slots.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((_, slot)) = self.slots.remove_lru() else { break };
            self.bytes -= slot.bytes();
        }
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self { slots: LruCache::new_unbounded(), bytes: 0, is_held: false, ticket: 0, in_a_row: 0 }
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Self::Reading(_) => 0,
            Self::Full(record) => record_bytes(record),
        }
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").finish_non_exhaustive()
    }
}

/// The most tasks that are kept: those that callers ask for again and again. Names, labels, messages
/// and attempts beside payload
/// and result and attempts are at most 50 KB each.
const RECENT_MAX: usize = 1_024;

/// The most bytes of payloads and results of all records together.
const RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The number of known records after which a caller yields: some ten microseconds of answers.
const IN_A_ROW_MAX: u32 = 16;

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
