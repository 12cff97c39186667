use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taskqueue_api::{QueueError, TaskId};
use tokio::sync::Notify;

/// The renewals that wait until there is news for a worker, by task.
#[derive(Debug, Default)]
pub(super) struct Nudges(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_task: HashMap<TaskId, HashMap<u64, Arc<Notify>>>,
    /// Distinguishes renewals of the same task.
    next_number: u64,
    waiting: usize,
}

impl Nudges {
    /// Starts to wait for news of this task.
    ///
    /// # Errors
    ///
    /// `overloaded` when too many wait.
    pub(super) fn expect(&self, task: TaskId) -> Result<Nudge<'_>, QueueError> {
        let mut table = self.lock();
        if table.waiting >= WAITERS_MAX {
            return Err(QueueError::overloaded(WAITERS_MAX, "renewals that wait", RETRY_AFTER_S));
        }
        table.waiting += 1;
        table.next_number += 1;
        let (number, told) = (table.next_number, Arc::new(Notify::new()));
        table.by_task.entry(task).or_default().insert(number, Arc::clone(&told));
        drop(table);
        Ok(Nudge { task, number, told, nudges: self })
    }

    /// Tells the waiting renewals of this task that there is news.
    pub(super) fn tell(&self, task: TaskId) {
        self.lock().by_task.get(&task).into_iter().flat_map(HashMap::values).for_each(|told| told.notify_one());
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    // A panic under this short lock would be a defect here. The data is valid at every point.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A renewal that waits. Dropping it ends the wait.
#[derive(Debug)]
pub(super) struct Nudge<'a> {
    task: TaskId,
    number: u64,
    told: Arc<Notify>,
    nudges: &'a Nudges,
}

impl Nudge<'_> {
    /// Waits for news that no earlier call has reported.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Nudge<'_> {
    fn drop(&mut self) {
        let mut table = self.nudges.lock();
        table.waiting = table.waiting.saturating_sub(1);
        if let Some(of_task) = table.by_task.get_mut(&self.task) {
            of_task.remove(&self.number);
            if of_task.is_empty() {
                table.by_task.remove(&self.task);
            }
        }
    }
}

/// The most renewals that wait, at about 300 bytes each: as many as waits for tasks.
const WAITERS_MAX: usize = 16_384;

/// The order of magnitude in which a renewal ends, in seconds.
const RETRY_AFTER_S: f64 = 1.0;

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use taskqueue_api::ErrorCode;

    use super::*;

    const TASK: TaskId = TaskId::from_bytes([1; 16]);

    #[test]
    fn news_before_the_await_is_not_lost_and_other_tasks_hear_nothing() {
        let nudges = Nudges::default();
        let other = nudges.expect(TaskId::from_bytes([2; 16])).unwrap();
        let both = [nudges.expect(TASK).unwrap(), nudges.expect(TASK).unwrap()];
        nudges.tell(TASK);
        assert!(both.iter().all(|one| one.told().now_or_never().is_some()));
        assert!(both.iter().all(|one| one.told().now_or_never().is_none()), "once");
        assert!(other.told().now_or_never().is_none());
    }

    #[test]
    fn they_are_bounded_and_leave_nothing_behind() {
        let nudges = Nudges::default();
        let all: Vec<_> = (0..WAITERS_MAX).map(|_| nudges.expect(TASK).unwrap()).collect();
        assert_eq!(nudges.expect(TASK).unwrap_err().code, ErrorCode::Overloaded);
        drop(all);
        assert!(nudges.expect(TASK).is_ok());
        assert!(nudges.lock().by_task.is_empty() && nudges.lock().waiting == 0);
    }
}
