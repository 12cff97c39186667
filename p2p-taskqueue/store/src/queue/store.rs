use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use taskqueue_api::{
    AnsweredBy, CacheGot, CacheHad, Caller, Claim, Complete, Durability, ErrorCode, Got, GotMany, List, Listed, PeerId,
    Purged, QueueError, Request, Response, Retried, Selection, StoreStatus, Submit, Submitted, TaskId, TaskQueue,
    TaskRecord,
};
use tokio::sync::{Semaphore, oneshot};

use super::{
    explain::KINDS_ASKED_MAX,
    opening,
    parked::Parked,
    readers::{Length, Readers},
    recent::{Look, Recent},
    room::Scarcity,
    sets::once,
    submit::{Prepared, Submission},
    syncer::{Durable, Syncer},
    timeline::Timeline,
    turn::{Memory, not_found},
    work::{ClaimWork, Command, CompleteWork, Demand, Done, Form, Message, Reply, ReplyTo, Returns, Work},
    writer::{Pace, Writer},
};
use crate::{
    StoreError, StoreOptions, Watch, Watches,
    backend::{Backend, CacheRow, Reads, Room, Rows},
    engine::{self, Claimant, Now, Record, Wall},
    paging::{Choosing, Filling},
};

/// A store over any backend. Callers hold this handle; its threads do the work.
pub(crate) struct Core {
    pub(super) setup: Setup,
    /// The writer thread holds the other end.
    pub(super) writer: SyncSender<Message>,
    /// The bytes that waiting commands may still take.
    pub(super) room: Arc<Semaphore>,
    /// The kinds of tasks that waiting questions may still name.
    pub(super) questions: Arc<Semaphore>,
    /// Whether anything was paused or limited at the last commit. The writer sets it.
    pub(super) holds: Arc<AtomicBool>,
    pub(super) readers: Readers,
    recent: Arc<Recent>,
    pub(super) watches: Arc<Watches>,
    durable: Arc<Durable>,
    closed: AtomicBool,
    threads: Mutex<Option<Threads>>,
}

/// The settings that hold from the opening of a store on.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(super) timeline: Arc<Timeline>,
    pub(super) durability: Durability,
    pub(super) cache_bytes_max: u64,
    owner: PeerId,
}

impl Setup {
    pub(super) fn now(&self) -> Now {
        self.timeline.now()
    }

    pub(super) fn submitted(&self, submission: Submission) -> Submitted {
        let Submission { task_id, duplicate, waiting_for } = submission;
        Submitted { task_id, peer_id: self.owner, duplicate, durability: self.durability, waiting_for }
    }

    pub(super) fn task(&self, record: Record) -> TaskRecord {
        record.into_task(self.owner, self.now())
    }
}

/// The store's threads.
struct Threads {
    writer: JoinHandle<()>,
    /// Closed when the writer has ended.
    writer_ended: std::sync::mpsc::Receiver<()>,
    readers: Vec<JoinHandle<()>>,
}

impl Core {
    /// Starts the threads over a backend whose rows were just opened. `durability` is the one that the backend offers
    /// for the one that was asked for.
    ///
    /// # Errors
    ///
    /// The reason why the rows cannot be read, or why a thread cannot be started.
    pub(crate) fn start(
        backend: Box<dyn Backend>,
        mut rows: Box<dyn Rows>,
        options: StoreOptions,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let StoreOptions { owner, clock, cache_bytes_max, .. } = options;
        let (mut log, threads_log) =
            (backend.open_log().map_err(StoreError::Threads)?, backend.open_log().map_err(StoreError::Threads)?);
        let timeline = Arc::new(Timeline::resume(clock, rows.meta()?.clocks));
        let setup = Setup { timeline, durability, cache_bytes_max, owner };
        opening::begin(&mut *rows, &mut log, &setup.timeline)?;
        let memory = Memory::load(&mut *rows, setup.now())?;
        let scarcity = match backend.set_aside(rows.file_room()?) {
            Room::Ample => None,
            Room::Scarce { adding, .. } => {
                tracing::warn!(
                    bytes = adding,
                    "the store's disk is nearly full: new tasks are taken while there is room"
                );
                Some(Scarcity::at_start())
            }
        };
        let (readers, reader_threads) = Readers::start(&*backend)?;
        let (writer, messages) = sync_channel(COMMANDS_MAX);
        let watches = Arc::new(Watches::default());
        let durable = Arc::new(Durable::new(memory.meta.batch));
        let syncer = Syncer::start(log, threads_log, Arc::clone(&watches), Arc::clone(&durable), writer.clone())
            .map_err(StoreError::Threads)?;
        let recent = Arc::new(Recent::default());
        let holds = Arc::new(AtomicBool::new(memory.gates.has_holds()));
        let work = Writer {
            backend,
            setup: setup.clone(),
            messages,
            returns: Arc::new(Returns::new(writer.clone())),
            durable: Arc::clone(&durable),
            recent: Arc::clone(&recent),
            watches: Arc::clone(&watches),
            syncer,
            rows: Some(rows),
            memory,
            parked: Parked::default(),
            given_out: Vec::new(),
            waiting: VecDeque::new(),
            questions: Vec::new(),
            holds: Arc::clone(&holds),
            pace: Pace::new(scarcity),
        };
        let (ended, writer_ended) = sync_channel(0);
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _ended: SyncSender<()> = ended;
            work.run();
        });
        let thread = thread.map_err(StoreError::Threads)?;
        let wake = writer.clone();
        // If the channel is full, the writer is awake anyway.
        setup.timeline.clock().on_move(Box::new(move || _ = wake.try_send(Message::Wake)));
        let threads = Threads { writer: thread, writer_ended, readers: reader_threads };
        Ok(Self {
            setup,
            writer,
            room: Arc::new(Semaphore::new(COMMAND_BYTES_MAX)),
            questions: Arc::new(Semaphore::new(KINDS_ASKED_MAX)),
            holds,
            readers,
            recent,
            watches,
            durable,
            closed: AtomicBool::new(false),
            threads: Mutex::new(Some(threads)),
        })
    }

    /// Does what [`TaskStore::watch`](crate::TaskStore::watch) describes.
    pub(crate) fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.watches.register(ids)
    }

    /// Does what [`TaskStore::state`](crate::TaskStore::state) describes.
    pub(crate) fn state(&self, kind: &str, problems: Option<u64>) -> StoreStatus {
        StoreStatus { kind: kind.to_owned(), durability: self.setup.durability, problems }
    }

    /// Does what [`TaskStore::close`](crate::TaskStore::close) describes.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return };
        // The readers end first, because the log can be emptied only when nobody reads it.
        self.readers.close();
        let deadline = Instant::now() + CLOSE_MAX;
        // This message comes after everything that was accepted. If the writer has gone, there is nobody to tell.
        while let Err(TrySendError::Full(_)) = self.writer.try_send(Message::Close) {
            let ended = threads.writer_ended.recv_timeout(CLOSE_RETRY);
            if ended == Err(RecvTimeoutError::Disconnected) || Instant::now() >= deadline {
                break;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if threads.writer_ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            // The writer hangs in the file system. What it has not committed was not acknowledged.
            tracing::error!("the store's writer did not end in time");
            return;
        }
        for thread in threads.readers.into_iter().chain([threads.writer]) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
    }

    /// Notes which peer keeps a task.
    pub(crate) async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError> {
        self.ask(Work::Remember(task, owner), Demand::ROW).await.map(drop)
    }

    /// Returns the peer that keeps a task, if that was noted.
    pub(crate) async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        self.read(move |reads| reads.route(task)).await
    }

    /// Prepares a submit for the writer.
    fn prepare(&self, caller: &Caller, submit: Submit) -> Result<Prepared, QueueError> {
        let submit = Submit { labels: once(submit.labels), requires: once(submit.requires), ..submit };
        let (is_named, id) = (submit.task_id.is_some(), submit.task_id.map_or_else(TaskId::random, Ok));
        let id = id.map_err(|error| QueueError::new(ErrorCode::Internal, format!("no random task id: {error}")))?;
        Ok(Prepared::new(engine::admit(caller, submit, id, self.setup.now()), is_named))
    }

    fn prepare_all(&self, caller: &Caller, submits: Vec<Submit>) -> Result<Vec<Prepared>, QueueError> {
        submits.into_iter().map(|submit| self.prepare(caller, submit)).collect()
    }

    fn claim_work(&self, caller: &Caller, claim: Claim, max_tasks: u32, form: Form) -> ClaimWork {
        let Claim { worker_id, supported_task_types, labels, session, lease_s, wait_s } = claim;
        let peer = caller.machine().unwrap_or(self.setup.owner);
        let claimant = Claimant::new(peer, supported_task_types, labels, session);
        let wait = Some(Duration::try_from_secs_f64(wait_s).unwrap_or_default()).filter(|wait| !wait.is_zero());
        let deadline = wait.map(|wait| self.setup.now().monotonic + wait);
        ClaimWork { claimant, worker: worker_id, lease_s, max_tasks, deadline, form }
    }

    async fn complete(&self, caller: &Caller, mut request: Complete, demand: Demand) -> Result<Response, QueueError> {
        let mut submit = std::mem::take(&mut request.submit);
        for (place, child) in submit.iter_mut().enumerate() {
            child.task_id.get_or_insert_with(|| engine::child_id(request.task_id, request.fence, place));
        }
        let children = self.prepare_all(caller, submit)?;
        let claim = request.claim_next.take().map(|claim| self.claim_work(caller, claim, 1, Form::One));
        self.change(Work::Complete(Box::new(CompleteWork { request, children, claim })), demand).await
    }

    /// Sends work to the writer and waits for its answer.
    async fn change(&self, work: Work, demand: Demand) -> Result<Response, QueueError> {
        match self.ask(work, demand).await? {
            Done::With(response) => Ok(*response),
            // There is no `await` between the answer and the arrival of the tasks. Until they arrive, dropping the
            // answer gives them back.
            Done::Claimed(given_out) => given_out.arrive(&self.setup),
            Done::Changed { .. } | Done::Held(_) | Done::Noted => {
                Err(QueueError::new(ErrorCode::Internal, "the store answered something else"))
            }
        }
    }

    pub(super) async fn ask(&self, work: Work, demand: Demand) -> Result<Done, QueueError> {
        self.send(work, demand)?.await.map_err(|_| self.unanswered())?
    }

    /// Sends work to the writer, and returns the receiver of its answer.
    fn send(&self, work: Work, demand: Demand) -> Result<oneshot::Receiver<Reply>, QueueError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let bytes = u32::try_from(demand.bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| out_of_room())?;
        let (reply, answered) = oneshot::channel();
        let command = Command { work, demand, reply_to: ReplyTo::new(reply, room) };
        self.writer.try_send(Message::Do(Box::new(command))).map_err(|error| match error {
            TrySendError::Full(_) => overloaded(),
            TrySendError::Disconnected(_) => gone(),
        })?;
        Ok(answered)
    }

    /// Runs a query on a reader thread. What the query saw is on stable storage when this returns.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut dyn Reads) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let found = self.readers.read(query).await?;
        self.durable.when_seen_is_synced().await;
        Ok(found)
    }

    /// Does the same as [`read`](Self::read), piece by piece.
    pub(super) async fn read_pieces<T: Send + 'static>(
        &self,
        length: Length,
        state: T,
        piece: fn(&mut dyn Reads, &mut T) -> Result<bool, QueueError>,
    ) -> Result<T, QueueError> {
        let found = self.readers.read_pieces(length, state, piece).await?;
        self.durable.when_seen_is_synced().await;
        Ok(found)
    }

    /// Waits until what the writer has committed is on stable storage.
    pub(super) async fn when_seen_is_synced(&self) {
        self.durable.when_seen_is_synced().await;
    }

    /// Returns one record, from the recent ones or by reading it.
    async fn record(&self, id: TaskId) -> Result<Option<Record>, QueueError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let ticket = match self.recent.look(id).await {
            Look::Known(record) => return Ok(Some(Record::clone(&record))),
            Look::Read(ticket) => ticket,
        };
        let record = self.read(move |reads| reads.get(&[id])).await?.pop().flatten();
        if let Some(ticket) = ticket {
            self.recent.keep(&ticket, record.as_ref());
        }
        Ok(record)
    }

    async fn get(&self, ids: Vec<TaskId>) -> Result<GotMany, QueueError> {
        let asked = ids.clone();
        let found = match ids.as_slice() {
            [id] => vec![self.record(*id).await?],
            _ => self.read(move |reads| reads.get(&ids)).await?,
        };
        let mut got = GotMany { tasks: Vec::with_capacity(found.len()), missing: Vec::new() };
        for (id, record) in asked.into_iter().zip(found) {
            match record {
                Some(record) => got.tasks.push(self.setup.task(record)),
                None => got.missing.push(id),
            }
        }
        Ok(got)
    }

    async fn get_one(&self, id: TaskId) -> Result<Got, QueueError> {
        let record = self.record(id).await?.ok_or_else(|| not_found(id))?;
        Ok(Got { task: self.setup.task(record) })
    }

    /// Changes the selected tasks, some at a time. Answers how many were changed, how many were passed over, and
    /// whether there are more.
    async fn each_selected(
        &self,
        mut selection: Selection,
        work: fn(Vec<TaskId>) -> Work,
        demand: Demand,
    ) -> Result<(u64, u64, bool), QueueError> {
        selection.task_types = once(selection.task_types);
        let (ids, more) = if selection.status.is_some() {
            let ended_by = Wall::from_secs(self.setup.now().wall.as_secs() - selection.older_than_s);
            let choosing = Choosing::new(selection, ended_by);
            self.read_pieces(Length::Long, choosing, |reads, choosing| reads.select_on(choosing)).await?.into_ids()
        } else {
            (selection.task_ids, false)
        };
        let (mut changed_all, mut skipped_all) = (0, 0);
        for ids in ids.chunks(SELECTED_AT_ONCE) {
            if let Done::Changed { changed, skipped } = self.ask(work(ids.to_vec()), demand).await? {
                changed_all += changed;
                skipped_all += skipped;
            }
        }
        Ok((changed_all, skipped_all, more))
    }

    /// Returns a value of the cache that has not expired. That it was used is noted once a minute.
    async fn cached(&self, key: String) -> Result<Option<CacheRow>, QueueError> {
        let now = self.setup.now().elapsed;
        let asked = key.clone();
        let row = self.readers.read(move |reads| reads.cached(&asked)).await?;
        let row = row.filter(|row| row.expires_at.is_none_or(|at| at > now));
        if row.as_ref().is_some_and(|row| row.used_at.after(USED_AGAIN_S) <= now) {
            // This is only a note: it does not matter whether there is room for it, and nobody waits for the answer.
            drop(self.send(Work::CacheUsed(key), Demand::NOTE));
        }
        Ok(row)
    }

    /// Returns the error for a call whose thread has ended without an answer.
    fn unanswered(&self) -> QueueError {
        (if self.closed.load(Ordering::Acquire) { shutting_down() } else { gone() }).with_unknown_outcome()
    }
}

#[async_trait]
impl TaskQueue for Core {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        let demand = Demand::of(&request);
        match request {
            Request::Submit(submit) => self.change(Work::Submit(Box::new(self.prepare(caller, submit)?)), demand).await,
            Request::SubmitMany(many) => {
                self.change(Work::SubmitMany(self.prepare_all(caller, many.tasks)?), demand).await
            }
            Request::Claim(claim) => {
                let claim = self.claim_work(caller, claim, 1, Form::One);
                self.change(Work::Claim(Box::new(claim)), demand).await
            }
            Request::ClaimMany(many) => {
                let claim = self.claim_work(caller, many.claim, many.max_tasks, Form::Many);
                self.change(Work::Claim(Box::new(claim)), demand).await
            }
            Request::Complete(request) => self.complete(caller, request, demand).await,
            Request::Get(get) => self.get_one(get.task_id).await.map(Response::Got),
            Request::GetMany(get) => self.get(get.task_ids).await.map(Response::GotMany),
            Request::List(query) => {
                let page = Filling::new(List { task_types: once(query.task_types), ..query })?;
                let page = self.read_pieces(Length::Short, page, |reads, page| reads.list_on(page)).await?.into_page();
                let tasks = page.records.into_iter().map(|record| self.setup.task(record)).collect();
                Ok(Response::Listed(Listed { tasks, next_cursor: page.next_cursor }))
            }
            Request::StatsQuery(_) => self.stats().await.map(Response::Stats),
            Request::Retry(retry) => {
                let (retried, skipped, more) = self.each_selected(retry.selection, Work::Retry, demand).await?;
                Ok(Response::Retried(Retried { retried, skipped, more }))
            }
            Request::Purge(purge) => {
                let (purged, skipped, more) = self.each_selected(purge.selection, Work::Purge, demand).await?;
                Ok(Response::Purged(Purged { purged, skipped, more }))
            }
            Request::Free(free) => self.end_leases(free.machine, demand).await,
            Request::CacheGet(get) => {
                let row = self.cached(get.key).await?;
                let hit = row.is_some();
                Ok(Response::CacheGot(CacheGot { hit, value: row.map(|row| row.value).unwrap_or_default() }))
            }
            Request::CacheHas(has) => Ok(Response::CacheHad(CacheHad { hit: self.cached(has.key).await?.is_some() })),
            request if request.facts().answered_by != AnsweredBy::Store => Err(not_of_store(&request)),
            request => self.change(Work::Plain(Box::new(request)), demand).await,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("setup", &self.setup).finish_non_exhaustive()
    }
}

pub(super) fn not_of_store(request: &Request) -> QueueError {
    let message = format!("{}: not answered by the store, but by the queue or node over it", request.name());
    QueueError::new(ErrorCode::Unsupported, message)
}

pub(super) fn shutting_down() -> QueueError {
    QueueError::new(ErrorCode::ShuttingDown, "the store is closed")
}

pub(super) fn gone() -> QueueError {
    QueueError::new(ErrorCode::StorageError, "a thread of the store has ended; restart the node")
}

fn overloaded() -> QueueError {
    QueueError::overloaded(COMMANDS_MAX, "changes that wait for the store", COMMANDS_RETRY_AFTER_S)
}

fn out_of_room() -> QueueError {
    QueueError::overloaded(COMMAND_BYTES_MAX, "bytes of changes that wait for the store", COMMANDS_RETRY_AFTER_S)
}

/// The most commands that wait for the writer. Ten thousand workers that come back after a restart fit in, at some
/// hundred bytes each.
const COMMANDS_MAX: usize = 16_384;

/// The most bytes of memory in waiting commands: the payloads and results of some sixty commands of the largest size.
pub(super) const COMMAND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// After this time, in seconds, the writer has done the waiting commands.
const COMMANDS_RETRY_AFTER_S: f64 = 0.5;

/// The number of tasks that one command of a `retry` or `purge` changes. Other commands have their turn in between.
const SELECTED_AT_ONCE: usize = 256;

/// A use of a cached value is noted again after this time, in seconds. So the last use is known to the minute.
const USED_AGAIN_S: f64 = 60.0;

/// The longest time that closing waits for the writer: for one more batch and a copy of the log. If it takes longer,
/// the disk does not answer.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The pause between two tries to send the last message to a full channel.
const CLOSE_RETRY: Duration = Duration::from_millis(5);
