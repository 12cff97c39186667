use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
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
    /// The threads hold the other end; `None` once closed, which ends them.
    jobs: Mutex<Option<SyncSender<Job>>>,
}

/// A query, with where its answer goes.
type Job = Box<dyn FnOnce(&mut dyn Reads) + Send>;

impl Readers {
    pub(super) fn start(backend: &dyn Backend) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let (sender, jobs) = sync_channel(READS_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |number| {
            let reads = backend.open_reads()?;
            let jobs = Arc::clone(&jobs);
            let thread = thread::Builder::new().name(format!("store-reader-{number}"));
            thread.spawn(move || work(reads, &jobs)).map_err(StoreError::Threads)
        };
        let threads = (0..READERS).map(start).collect::<Result<_, _>>()?;
        Ok((Self { jobs: Mutex::new(Some(sender)) }, threads))
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
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(shutting_down)?;
        let (reply, answered) = oneshot::channel();
        let job: Job = Box::new(move |reads| {
            // Nobody waits for it any more: not worth reading.
            if !reply.is_closed() {
                drop(reply.send(query(reads)));
            }
        });
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => too_many_reads(),
            TrySendError::Disconnected(_) => gone(),
        })?;
        drop(jobs);
        answered.await.map_err(|_| self.unanswered())?
    }

    /// Ends the threads when they have done what is there.
    pub(super) fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn unanswered(&self) -> QueueError {
        let is_closed = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_closed { shutting_down() } else { gone().with_unknown_outcome() }
    }
}

fn work(mut reads: Box<dyn Reads>, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Whichever thread is free holds the lock and waits; the other one waits for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut *reads),
            Err(_) => return,
        }
    }
}

/// For callers whose read finds no room.
fn too_many_reads() -> QueueError {
    QueueError::overloaded(READS_MAX, "reads that wait", READS_RETRY_AFTER_S)
}

/// Two, so that a long list does not hold up a `get`; more would only wait for the two cores of a small machine.
const READERS: usize = 2;

/// Reads that wait: all waits for one task may be woken at once, and each reads its record.
const READS_MAX: usize = 32_768;

/// Reads take well under a millisecond each.
const READS_RETRY_AFTER_S: f64 = 0.5;
