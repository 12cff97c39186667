use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::store::{gone, shutting_down};
use crate::{
    QueueError,
    store::{
        StoreError,
        backend::{Backend, Reads},
    },
};

/// The threads that read, each with rows of its own to read from.
#[derive(Debug)]
pub(super) struct Readers {
    /// The threads hold clones.
    desk: Arc<Desk>,
}

/// Where queries wait for a thread. One that comes wakes one thread and no more.
struct Desk {
    jobs: Mutex<Jobs>,
    comes: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_closed: bool,
    /// Those that have not panicked.
    threads: usize,
}

/// A query, with where its answer goes.
type Job = Box<dyn FnOnce(&mut dyn Reads) + Send>;

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
        // Those that have started end when another one could not.
        threads.inspect_err(|_| readers.close()).map(|threads| (readers, threads))
    }

    /// Runs a query on one of the threads.
    ///
    /// # Errors
    ///
    /// The query's; `overloaded` when too many wait, `shutting_down` once closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut dyn Reads) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answered) = oneshot::channel();
        let job: Job = Box::new(move |reads| {
            // Nobody waits for it any more: not worth reading.
            if !reply.is_closed() {
                drop(reply.send(query(reads)));
            }
        });
        self.desk.put(job)?;
        answered.await.map_err(|_| self.desk.unanswered())?
    }

    /// How many queries wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.desk.lock().waiting.len()
    }

    /// Ends the threads when they have done what is there.
    pub(super) fn close(&self) {
        self.desk.lock().is_closed = true;
        self.desk.comes.notify_all();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Nothing that can panic runs under the lock.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Job) -> Result<(), QueueError> {
        let mut jobs = self.lock();
        if jobs.is_closed {
            return Err(shutting_down());
        }
        if jobs.threads == 0 {
            return Err(gone());
        }
        if jobs.waiting.len() >= READS_MAX {
            return Err(QueueError::overloaded(READS_MAX, "reads that wait", READS_RETRY_AFTER_S));
        }
        jobs.waiting.push_back(job);
        drop(jobs);
        self.comes.notify_one();
        Ok(())
    }

    fn work(&self, mut reads: Box<dyn Reads>) {
        let _leaves = Leaves(self);
        while let Some(job) = self.next() {
            job(&mut *reads);
        }
    }

    /// The next query; none when there is none and none will come.
    fn next(&self) -> Option<Job> {
        let idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.is_closed;
        self.comes.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner).waiting.pop_front()
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

/// A thread that ends, in order or by a panic: with the last one, what waits is given up.
struct Leaves<'a>(&'a Desk);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut jobs = self.0.lock();
        jobs.threads -= 1;
        if jobs.threads == 0 {
            let given_up = std::mem::take(&mut jobs.waiting);
            // Their callers hear of it outside the lock.
            drop(jobs);
            drop(given_up);
        }
    }
}

/// Two, so that a long list does not hold up a `get`; more would only wait for the two cores of a small machine.
const READERS: usize = 2;

/// Reads that wait: all waits for one task may be woken at once, and each reads its record.
const READS_MAX: usize = 32_768;

/// Reads take well under a millisecond each.
const READS_RETRY_AFTER_S: f64 = 0.5;
