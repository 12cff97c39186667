use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use taskqueue_api::{ErrorCode, QueueError, TaskId};
use tokio::sync::watch;

use super::work::{Message, Reply, ReplyTo};
use crate::{Watches, backend::Log};

/// A committed transaction with the answers and notices that are still to be given.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) answers: Vec<(ReplyTo, Reply)>,
    /// Tasks that ended.
    pub(super) ended: Vec<TaskId>,
    /// The batch's number; see [`Durable`].
    pub(super) number: u64,
}

/// The number of the last batch on stable storage. Readers that saw a later batch wait for it, so that nobody is told
/// what a power cut could undo.
#[derive(Debug)]
pub(super) struct Durable {
    /// The last batch that readers may see.
    committed: AtomicU64,
    /// The last batch that is on stable storage. Readers hold the other ends.
    synced: watch::Sender<u64>,
}

impl Durable {
    pub(super) fn new(batch: u64) -> Self {
        Self { committed: AtomicU64::new(batch), synced: watch::Sender::new(batch) }
    }

    /// Notes that a batch is about to be committed, so that readers may see it.
    pub(super) fn committing(&self, batch: u64) {
        self.committed.store(batch, Ordering::Release);
    }

    pub(super) fn synced(&self, batch: u64) {
        self.synced.send_if_modified(|synced| {
            let is_later = *synced < batch;
            *synced = batch.max(*synced);
            is_later
        });
    }

    /// Notes that every committed batch is on stable storage, or was lost, or need not be waited for.
    pub(super) fn settled(&self) {
        self.synced(self.committed.load(Ordering::Acquire));
    }

    /// Waits until what a reader has just seen is on stable storage.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn when_seen_is_synced(&self) {
        let seen = self.committed.load(Ordering::Acquire);
        if *self.synced.borrow() < seen {
            let mut synced = self.synced.subscribe();
            // This cannot fail, because `self` holds the sender.
            let _ = synced.wait_for(|synced| *synced >= seen).await;
        }
    }
}

/// Makes batches durable and answers them, either at once or on a thread of its own while the writer works on the next
/// batch.
#[derive(Debug)]
pub(super) struct Syncer {
    /// The thread holds the other end. Closing this end ends the thread.
    batches: Option<SyncSender<ToSettle>>,
    shared: Arc<Shared>,
    /// The writer's own handle, used when nothing else is to be done. `None` where there is no stable storage.
    log: Option<Box<dyn Log>>,
    thread: Option<JoinHandle<()>>,
}

enum ToSettle {
    Settle(Batch),
    /// The rows were opened anew after a failure; go on with this handle.
    Reopened(Option<Box<dyn Log>>),
}

#[derive(Debug)]
struct Shared {
    watches: Arc<Watches>,
    durable: Arc<Durable>,
    /// The number of batches that the thread has not answered.
    under_way: AtomicUsize,
    /// The batches whose sync failed, and the reason.
    failed: Mutex<Option<(Vec<Batch>, String)>>,
    /// Wakes the writer.
    writer: SyncSender<Message>,
}

impl Syncer {
    pub(super) fn start(
        log: Option<Box<dyn Log>>,
        threads_log: Option<Box<dyn Log>>,
        watches: Arc<Watches>,
        durable: Arc<Durable>,
        writer: SyncSender<Message>,
    ) -> std::io::Result<Self> {
        let (under_way, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let shared = Arc::new(Shared { watches, durable, under_way, failed, writer });
        let (batches, jobs) = sync_channel(BATCHES_MAX);
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("store-syncer".to_owned());
        let thread = thread.spawn(move || for_thread.work(&jobs, threads_log))?;
        Ok(Self { batches: Some(batches), shared, log, thread: Some(thread) })
    }

    /// Whether batches wait for their sync.
    pub(super) fn is_busy(&self) -> bool {
        self.shared.under_way.load(Ordering::Acquire) > 0
    }

    /// Answers a batch that needs no sync of its own, but not before those that came before it.
    pub(super) fn settle_unsynced(&self, batch: Batch) {
        if self.is_busy() {
            self.hand_over(batch);
        } else {
            self.shared.settle(batch);
        }
    }

    /// Makes a batch durable, then answers it. `busy` says that other commands wait; then the thread does the sync.
    ///
    /// # Errors
    ///
    /// The batch and the reason, when its sync failed on this thread.
    pub(super) fn settle_synced(&mut self, batch: Batch, busy: bool) -> Result<(), (Batch, String)> {
        if busy || self.is_busy() {
            self.hand_over(batch);
            return Ok(());
        }
        if let Err(why) = self.sync(batch.number) {
            return Err((batch, why));
        }
        self.shared.settle(batch);
        Ok(())
    }

    /// Syncs everything that was committed up to batch `number`.
    ///
    /// # Errors
    ///
    /// The reason, when the sync failed.
    pub(super) fn sync(&mut self, number: u64) -> Result<(), String> {
        if let Some(log) = &mut self.log {
            log.sync().map_err(|error| error.to_string())?;
            log.note_synced(number);
        }
        self.shared.durable.synced(number);
        Ok(())
    }

    /// Takes the batches whose sync failed on the thread, and the reason.
    pub(super) fn take_failed(&self) -> Option<(Vec<Batch>, String)> {
        self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the thread has nothing more to do.
    pub(super) fn when_idle(&self) {
        while self.is_busy() && self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            thread::park_timeout(IDLE_RECHECK);
        }
    }

    /// Goes on with new handles after the rows were opened anew.
    pub(super) fn reopened(&mut self, log: Option<Box<dyn Log>>, threads_log: Option<Box<dyn Log>>) {
        self.log = log;
        self.shared.durable.settled();
        if let Some(batches) = &self.batches {
            let _ = batches.send(ToSettle::Reopened(threads_log));
        }
    }

    fn hand_over(&self, batch: Batch) {
        self.shared.under_way.fetch_add(1, Ordering::AcqRel);
        if let Some(batches) = &self.batches
            && let Err(unsent) = batches.send(ToSettle::Settle(batch))
            && let ToSettle::Settle(batch) = unsent.0
        {
            // The thread panicked, so nobody can sync the batch: its callers learn that the outcome is unknown.
            self.shared.under_way.fetch_sub(1, Ordering::AcqRel);
            refuse(batch, &unknown("the store's sync thread has ended"));
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's sync thread had panicked");
        }
    }
}

impl Shared {
    fn work(&self, jobs: &Receiver<ToSettle>, mut log: Option<Box<dyn Log>>) {
        let mut broken = false;
        while let Ok(first) = jobs.recv() {
            let mut batches = Vec::new();
            for job in std::iter::once(first).chain(std::iter::from_fn(|| jobs.try_recv().ok())) {
                match job {
                    ToSettle::Settle(batch) => batches.push(batch),
                    ToSettle::Reopened(reopened) => (log, broken) = (reopened, false),
                }
            }
            let Some(last) = batches.iter().map(|batch| batch.number).max() else { continue };
            let synced = match &mut log {
                _ if broken => Err("an earlier sync failed".to_owned()),
                Some(log) => log.sync().map_err(|error| error.to_string()),
                None => Ok(()),
            };
            if let Err(error) = synced {
                broken = true;
                self.fail(batches, error);
                continue;
            }
            if let Some(log) = &mut log {
                log.note_synced(last);
            }
            self.durable.synced(last);
            for batch in batches {
                self.settle(batch);
                self.under_way.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Wakes the waits for the tasks that ended, and gives the answers.
    fn settle(&self, batch: Batch) {
        self.watches.ended(&batch.ended);
        for (reply_to, answer) in batch.answers {
            reply_to.answer(answer);
        }
    }

    fn fail(&self, batches: Vec<Batch>, error: String) {
        let count = batches.len();
        {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *failed {
                Some((earlier, _)) => earlier.extend(batches),
                None => *failed = Some((batches, error)),
            }
        }
        self.under_way.fetch_sub(count, Ordering::AcqRel);
        // If the channel is full, the writer is awake anyway.
        let _ = self.writer.try_send(Message::Wake);
    }
}

/// Answers every caller of a batch with an error, except those whose commands were refused anyway.
pub(super) fn refuse(batch: Batch, error: &QueueError) {
    for (reply_to, answer) in batch.answers {
        // An operation that was refused by its own rules stays refused. Nobody has been told of a claim.
        reply_to.answer(answer.and_then(|_| Err(error.clone())));
    }
}

/// Returns the error for an operation that may have been applied.
pub(super) fn unknown(why: &str) -> QueueError {
    QueueError::new(ErrorCode::StorageError, format!("the store failed: {why}")).with_unknown_outcome()
}

/// One batch may be under way and one behind it. With more, answers would come later and batches would be smaller.
const BATCHES_MAX: usize = 1;

/// The pause between two looks at whether the thread has nothing more to do.
const IDLE_RECHECK: std::time::Duration = std::time::Duration::from_millis(1);
