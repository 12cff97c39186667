use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use taskqueue_api::QueueError;
use tokio::sync::oneshot;

use super::store::{gone, shutting_down};
use crate::{
    StoreError,
    backend::{Backend, Reads},
};

/// The reader threads, each with a [`Reads`] of its own.
#[derive(Debug)]
pub(super) struct Readers {
    /// The threads hold clones.
    desk: Arc<Desk>,
}

/// The place where queries wait for a thread. A query that arrives wakes one thread and no more.
struct Desk {
    jobs: Mutex<Jobs>,
    comes: Condvar,
}

#[derive(Default)]
struct Jobs {
    /// Queries of one piece, and the first pieces of queries that mostly have only one.
    single: VecDeque<Query>,
    /// Queries with many pieces, in the order in which they have waited.
    long: VecDeque<Query>,
    is_closed: bool,
    /// The number of threads that have not ended.
    threads: usize,
}

/// A query with the channel for its answer. It is called for each of its pieces, and returns whether that was the last
/// one.
type Query = Box<dyn FnMut(&mut dyn Reads) -> bool + Send>;

/// The usual length of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// One piece is mostly enough.
    Short,
    /// Many pieces are usual.
    Long,
}

impl Readers {
    pub(super) fn start(backend: &dyn Backend) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let jobs = Jobs { threads: READERS, ..Jobs::default() };
        let desk = Arc::new(Desk { jobs: Mutex::new(jobs), comes: Condvar::new() });
        let readers = Self { desk: Arc::clone(&desk) };
        let start = |number| {
            let reads = backend.open_reads()?;
            let desk = Arc::clone(&desk);
            let thread = thread::Builder::new().name(format!("store-reader-{number}"));
            thread.spawn(move || desk.work(reads)).map_err(StoreError::Threads)
        };
        let threads = (0..READERS).map(start).collect::<Result<_, _>>();
        // If a thread could not be started, those that have started end.
        threads.inspect_err(|_| readers.close()).map(|threads| (readers, threads))
    }

    /// Runs a query on one of the threads.
    ///
    /// # Errors
    ///
    /// The query's errors; `overloaded` when too many queries wait, `shutting_down` after the close.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut dyn Reads) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answered) = oneshot::channel();
        let mut once = Some((reply, query));
        let job: Query = Box::new(move |reads| {
            // If nobody waits for the answer any more, nothing is read.
            if let Some((reply, query)) = once.take().filter(|(reply, _)| !reply.is_closed()) {
                drop(reply.send(query(reads)));
            }
            true
        });
        self.desk.put(job, Length::Short)?;
        answered.await.map_err(|_| self.desk.unanswered())?
    }

    /// Returns the number of waiting queries.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let jobs = self.desk.lock();
        jobs.single.len() + jobs.long.len()
    }

    /// Runs a query piece by piece. `piece` returns whether it was the last one. Other queries have their turn in
    /// between.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn read_pieces<T: Send + 'static>(
        &self,
        length: Length,
        state: T,
        mut piece: impl FnMut(&mut dyn Reads, &mut T) -> Result<bool, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answered) = oneshot::channel();
        let mut left = Some((reply, state));
        let job: Query = Box::new(move |reads| {
            let Some((reply, mut state)) = left.take().filter(|(reply, _)| !reply.is_closed()) else { return true };
            let answer = match piece(reads, &mut state) {
                Ok(false) => {
                    left = Some((reply, state));
                    return false;
                }
                Ok(true) => Ok(state),
                Err(error) => Err(error),
            };
            drop(reply.send(answer));
            true
        });
        self.desk.put(job, length)?;
        answered.await.map_err(|_| self.desk.unanswered())?
    }

    /// Ends the threads when they have done the waiting queries. Long queries are given up.
    pub(super) fn close(&self) {
        let given_up = {
            let mut jobs = self.desk.lock();
            jobs.is_closed = true;
            std::mem::take(&mut jobs.long)
        };
        self.desk.comes.notify_all();
        drop(given_up);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Nothing that can panic runs while the lock is held.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Query, length: Length) -> Result<(), QueueError> {
        let mut jobs = self.lock();
        if jobs.is_closed {
            return Err(shutting_down());
        }
        if jobs.threads == 0 {
            return Err(gone());
        }
        if jobs.single.len() + jobs.long.len() >= READS_MAX {
            return Err(QueueError::overloaded(READS_MAX, "reads that wait", READS_RETRY_AFTER_S));
        }
        match length {
            Length::Short => jobs.single.push_back(job),
            Length::Long => jobs.long.push_back(job),
        }
        drop(jobs);
        self.comes.notify_one();
        Ok(())
    }

    /// Puts back a query that has more pieces.
    fn put_back(&self, job: Query) {
        let mut jobs = self.lock();
        if jobs.is_closed {
            drop(jobs);
            // The lock is released first, because dropping the query wakes its caller.
            return drop(job);
        }
        jobs.long.push_back(job);
        drop(jobs);
        self.comes.notify_one();
    }

    /// Works on queries until the desk is closed. Short queries and pieces of long ones take turns. So a short query
    /// waits for one piece at most, however many long ones there are, and the long ones go on, however many short ones
    /// come.
    fn work(&self, mut reads: Box<dyn Reads>) {
        let _leaves = Leaves(self);
        let mut turn = Length::Short;
        while let Some((length, mut job)) = self.next(turn) {
            turn = if length == Length::Short { Length::Long } else { Length::Short };
            if !job(&mut *reads) {
                self.put_back(job);
            }
        }
    }

    /// Waits for the next query: one of the kind whose turn it is, or else one of the other kind. Returns `None` once
    /// the desk is closed and empty.
    fn next(&self, turn: Length) -> Option<(Length, Query)> {
        let idle = |jobs: &mut Jobs| jobs.single.is_empty() && jobs.long.is_empty() && !jobs.is_closed;
        let mut jobs = self.comes.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let Jobs { single, long, .. } = &mut *jobs;
        let short = |jobs: &mut VecDeque<Query>| jobs.pop_front().map(|job| (Length::Short, job));
        let piece = |jobs: &mut VecDeque<Query>| jobs.pop_front().map(|job| (Length::Long, job));
        match turn {
            Length::Short => short(single).or_else(|| piece(long)),
            Length::Long => piece(long).or_else(|| short(single)),
        }
    }

    fn unanswered(&self) -> QueueError {
        if self.lock().is_closed { shutting_down() } else { gone().with_unknown_outcome() }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// Counts a thread as ended when dropped, also by a panic. When the last thread ends, all waiting queries are given up.
struct Leaves<'a>(&'a Desk);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut jobs = self.0.lock();
        jobs.threads -= 1;
        if jobs.threads == 0 {
            let given_up = (std::mem::take(&mut jobs.single), std::mem::take(&mut jobs.long));
            // The lock is released first, because dropping the queries wakes their callers.
            drop(jobs);
            drop(given_up);
        }
    }
}

/// Two, so that a slow read does not hold up a `get`. More would only compete for the two cores of a small machine.
const READERS: usize = 2;

/// The most queries that wait. All waits for one task may be woken at once, and each reads its record.
const READS_MAX: usize = 32_768;

/// Reads and the pieces of long reads take well under a millisecond each.
const READS_RETRY_AFTER_S: f64 = 0.5;
