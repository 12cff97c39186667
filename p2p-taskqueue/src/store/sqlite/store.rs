use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::{
    command::{Answer, ClaimWork, Command, Message, Returns, Work},
    list,
    parked::Parked,
    reader::{self, Job},
    reserve::Reserve,
    schema, tally,
    turn::Memory,
    writer::{Pace, Writer},
};
use crate::{
    PeerId, QueueError,
    api::{
        Cancel, Cancelled, Claim, Complete, Completed, Durability, ErrorCode, Fail, Failed, List, QueueStatus, Release,
        Released, Renew, Renewed, Submit,
    },
    engine::{self, Claimant, Record},
    store::{Clock, Leased, Page, StoreError, Submission, SystemClock, TaskStore, Watch, Watches},
    task::{Fence, TaskId},
};

/// Tasks in one SQLite file, which this object owns as long as it is open.
///
/// Calls may come from any runtime, or from none. The work is done on the store's own threads; a call only sends it there
/// and awaits the answer.
pub struct SqliteStore {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// The writer thread holds the other end.
    writer: SyncSender<Message>,
    /// Bytes of commands that may wait for the writer.
    room: Arc<Semaphore>,
    /// The reader threads hold the other end; `None` once closed, which ends them.
    readers: Mutex<Option<SyncSender<Job>>>,
    watches: Arc<Watches>,
    closed: AtomicBool,
    threads: Mutex<Option<Threads>>,
}

/// What a [`SqliteStore`] goes by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The clocks of leases, delays and dates.
    pub clock: Arc<dyn Clock>,
    #[cfg(test)]
    pub(super) faults: Arc<super::tests::Faults>,
}

impl StoreOptions {
    /// The same options with this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            #[cfg(test)]
            faults: Arc::default(),
        }
    }
}

/// The store's threads and what shows that it has the file.
struct Threads {
    writer: JoinHandle<()>,
    /// Closes when the writer has ended.
    writer_ended: std::sync::mpsc::Receiver<()>,
    readers: Vec<JoinHandle<()>>,
    _ownership: File,
}

impl SqliteStore {
    /// Opens the store in this file, or makes it, and starts its threads. Tasks that were running keep their lease for
    /// one more length of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`], which says what to do: a newer or foreign or damaged file, one that is in use, or what the system
    /// answered.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let ownership = schema::take_ownership(path)?;
        schema::prepare(path)?;
        let failed = |error| schema::opening(path, error);
        let connection = schema::open_writer(path).map_err(failed)?;
        let fence = Fence { epoch: tally::raise_epoch(&connection).map_err(failed)?, counter: 0 };
        let now = options.clock.now();
        let memory = Memory::load(&connection, fence, now).map_err(failed)?;
        let reserve = Reserve::new(path);
        if let Err(error) = reserve.fill() {
            tracing::warn!(%error, "no room to set aside for a full disk");
        }
        let (readers, reader_threads) = reader::start(path)?;
        let (writer, messages) = sync_channel(COMMANDS_MAX);
        let watches = Arc::new(Watches::default());
        let work = Writer {
            path: path.to_owned(),
            clock: Arc::clone(&options.clock),
            messages,
            returns: Arc::new(Returns::new(writer.clone())),
            watches: Arc::clone(&watches),
            reserve,
            connection: Some(connection),
            memory,
            parked: Parked::default(),
            given_out: Vec::new(),
            pace: Pace::default(),
            #[cfg(test)]
            faults: options.faults,
        };
        let (ended, writer_ended) = sync_channel(0);
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _ended: SyncSender<()> = ended;
            work.run();
        });
        let thread = thread.map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let wake = writer.clone();
        // A full channel keeps the writer awake anyway.
        options.clock.on_move(Box::new(move || _ = wake.try_send(Message::Wake)));
        let threads = Threads { writer: thread, writer_ended, readers: reader_threads, _ownership: ownership };
        Ok(Self {
            path: path.to_owned(),
            clock: options.clock,
            writer,
            room: Arc::new(Semaphore::new(COMMAND_BYTES_MAX)),
            readers: Mutex::new(Some(readers)),
            watches,
            closed: AtomicBool::new(false),
            threads: Mutex::new(Some(threads)),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes what was accepted, copies the log into the file, and ends the threads. Blocks, for some seconds at the
    /// most; later calls are answered `shutting_down`. Dropping the store does the same.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return };
        // The readers first: the log can be emptied only when nobody reads it.
        drop(self.readers.lock().unwrap_or_else(PoisonError::into_inner).take());
        let deadline = Instant::now() + CLOSE_MAX;
        // Behind everything that was accepted; when the writer has gone, there is nobody to tell.
        while let Err(TrySendError::Full(_)) = self.writer.try_send(Message::Close) {
            let ended = threads.writer_ended.recv_timeout(CLOSE_RETRY);
            if ended == Err(RecvTimeoutError::Disconnected) || Instant::now() >= deadline {
                break;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if threads.writer_ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            // It hangs in the file system. What it has not committed was not acknowledged.
            tracing::error!(path = %self.path.display(), "the store's writer did not end in time");
            return;
        }
        for thread in threads.readers.into_iter().chain([threads.writer]) {
            if thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of the store had panicked");
            }
        }
    }

    /// Sends the writer some work and awaits its answer.
    pub(super) async fn ask<T>(&self, work: Work, answer: fn(Answer) -> Option<T>) -> Result<T, QueueError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let bytes = u32::try_from(work.bytes()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| overloaded())?;
        let (reply, answered) = oneshot::channel();
        self.writer.try_send(Message::Do(Command { work, reply, _bytes: room })).map_err(|error| match error {
            TrySendError::Full(_) => overloaded(),
            TrySendError::Disconnected(_) => gone(),
        })?;
        let answered = answered.await.map_err(|_| self.unanswered())??;
        answer(answered).ok_or_else(|| QueueError::new(ErrorCode::Internal, "the store answered something else"))
    }

    /// Runs a query on a reader thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(shutting_down)?;
        let (reply, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits for it any more: not worth reading.
            if !reply.is_closed() {
                drop(reply.send(query(connection)));
            }
        });
        readers.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => reader::too_many_reads(),
            TrySendError::Disconnected(_) => gone(),
        })?;
        drop(readers);
        answered.await.map_err(|_| self.unanswered())?
    }

    /// A thread ended with the call in its hands.
    fn unanswered(&self) -> QueueError {
        if self.closed.load(Ordering::Acquire) { shutting_down() } else { gone().with_unknown_outcome() }
    }
}

#[async_trait]
impl TaskStore for SqliteStore {
    async fn submit(&self, scope: String, submit: Submit) -> Result<Submission, QueueError> {
        let id = TaskId::random()
            .map_err(|error| QueueError::new(ErrorCode::Internal, format!("no random task id: {error}")))?;
        let admission = engine::admit(scope, submit, id, self.clock.now());
        let submitted = |answer| match answer {
            Answer::Submitted(submission) => Some(submission),
            _ => None,
        };
        self.ask(Work::Submit(Box::new(admission)), submitted).await
    }

    async fn claim(&self, peer: PeerId, claim: Claim) -> Result<Option<Leased>, QueueError> {
        let Claim { worker_id, supported_task_types, labels, session, lease_s, wait_s } = claim;
        let claimant = Claimant { peer, types: supported_task_types, labels, session };
        let wait = Some(Duration::try_from_secs_f64(wait_s).unwrap_or_default()).filter(|wait| !wait.is_zero());
        let deadline = wait.map(|wait| self.clock.now().monotonic + wait);
        let work = ClaimWork { claimant, worker: worker_id, lease_s, deadline };
        let claimed = |answer| match answer {
            Answer::Claimed(given_out) => Some(given_out),
            _ => None,
        };
        // No await between the answer and its arrival: until then, dropping this gives the task back.
        let given_out = self.ask(Work::Claim(Box::new(work)), claimed).await?;
        given_out.map(|given_out| given_out.arrive()).transpose()
    }

    async fn renew(&self, request: Renew) -> Result<Renewed, QueueError> {
        let renewed = |answer| match answer {
            Answer::Renewed(renewed) => Some(renewed),
            _ => None,
        };
        self.ask(Work::Renew(request), renewed).await
    }

    async fn complete(&self, request: Complete) -> Result<Completed, QueueError> {
        let completed = |answer| match answer {
            Answer::Completed(completed) => Some(completed),
            _ => None,
        };
        self.ask(Work::Complete(request), completed).await
    }

    async fn fail(&self, request: Fail) -> Result<Failed, QueueError> {
        let failed = |answer| match answer {
            Answer::Failed(failed) => Some(failed),
            _ => None,
        };
        self.ask(Work::Fail(request), failed).await
    }

    async fn release(&self, request: Release) -> Result<Released, QueueError> {
        let released = |answer| match answer {
            Answer::Released(released) => Some(released),
            _ => None,
        };
        self.ask(Work::Release(request), released).await
    }

    async fn cancel(&self, request: Cancel) -> Result<Cancelled, QueueError> {
        let cancelled = |answer| match answer {
            Answer::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        };
        self.ask(Work::Cancel(request), cancelled).await
    }

    async fn get(&self, ids: Vec<TaskId>) -> Result<Vec<Record>, QueueError> {
        self.read(move |connection| reader::get(connection, &ids)).await
    }

    async fn list(&self, query: List) -> Result<Page, QueueError> {
        self.read(move |connection| list::list(connection, &query)).await
    }

    async fn status(&self) -> Result<QueueStatus, QueueError> {
        let now = self.clock.now().wall;
        self.read(move |connection| reader::status(connection, now)).await
    }

    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.watches.register(ids)
    }

    fn durability(&self) -> Durability {
        Durability::Synced
    }

    fn close(&self) {
        Self::close(self);
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).field("clock", &self.clock).finish_non_exhaustive()
    }
}

fn shutting_down() -> QueueError {
    QueueError::new(ErrorCode::ShuttingDown, "the store is closed")
}

fn gone() -> QueueError {
    QueueError::new(ErrorCode::StorageError, "a thread of the store has ended; restart the node")
}

fn overloaded() -> QueueError {
    let message = format!("more than {COMMANDS_MAX} changes or {COMMAND_BYTES_MAX} bytes wait for the store already");
    QueueError::new(ErrorCode::Overloaded, message).with_retry_after_s(COMMANDS_RETRY_AFTER_S)
}

/// Commands that wait for the writer: some batches, a tenth of a second of work.
const COMMANDS_MAX: usize = 4_096;

/// What they may hold in memory: payloads and results of sixty commands at their largest.
const COMMAND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time for the writer to have done what waits.
const COMMANDS_RETRY_AFTER_S: f64 = 0.5;

/// The writer ends after one more batch and a copy of the log; longer than this the disk does not answer.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// How often a full channel is tried while closing.
const CLOSE_RETRY: Duration = Duration::from_millis(5);
