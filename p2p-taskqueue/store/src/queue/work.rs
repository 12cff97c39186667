use std::{
    mem,
    sync::{Arc, Mutex, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use taskqueue_api::{
    Adds, Complete, Completed, Fence, Json, PeerId, QueueError, Request, Response, TaskId, TaskRecord,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{explain::Question, store::Setup, submit::Prepared};
use crate::{
    backend::Fault,
    engine::{Claimant, Live, Record, Spec, Standing},
};

/// A message on the writer's channel.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this and answer. Boxed, because the channel reserves the space of every message when it is created.
    Do(Box<Command>),
    /// Say what holds tasks back. Boxed for the same reason.
    Explain(Box<Question>),
    /// Look at the clock, at tasks that were given back, and at syncs that failed.
    Wake,
    /// Finish the messages before this one, and end.
    Close,
    /// A test asks for the state of the writer.
    #[cfg(test)]
    Look(super::vitals::Look),
}

/// Something to do in the writer's next transaction.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) work: Work,
    pub(super) demand: Demand,
    pub(super) reply_to: ReplyTo,
}

/// The demands of a command on the writer. They are taken from the request before it is taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// Whether the answer may only be given once the change is on stable storage.
    pub(super) needs_sync: bool,
    /// Whether the command asks for room that a full disk does not have.
    pub(super) adds: bool,
    /// The bytes of memory that the command holds while it waits.
    pub(super) bytes: usize,
    /// About how many bytes the command takes in the rows: its content, and at most a page for each task that it adds.
    /// Zero if it rather frees room.
    pub(super) room_bytes: u64,
}

impl Demand {
    /// The demand of a note that may be lost.
    pub(super) const NOTE: Self = Self { needs_sync: false, adds: false, bytes: size_of::<Command>(), room_bytes: 0 };

    /// The demand of a row that is kept for good.
    pub(super) const ROW: Self =
        Self { needs_sync: true, adds: true, bytes: size_of::<Command>(), room_bytes: PAGE_BYTES as u64 };

    pub(super) fn of(request: &Request) -> Self {
        let added = match request.adds() {
            Adds::Nothing => 0,
            Adds::Tasks(tasks) => tasks.len(),
            Adds::Value => 1,
        };
        let (content, needs_sync, adds) = (request.content_bytes(), request.needs_sync(), added > 0);
        let bytes = content + added * size_of::<Prepared>() + size_of::<Command>();
        let writes_an_end = request.facts().keeps_lease && needs_sync;
        let room_bytes = match () {
            // The task that is completed along with the submits may need a page, too.
            () if adds => bytes + (added + 1) * PAGE_BYTES,
            () if content > 0 || writes_an_end => bytes,
            () => 0,
        };
        Self { needs_sync, adds, bytes, room_bytes: room_bytes as u64 }
    }
}

/// A caller that waits for an answer.
#[derive(Debug)]
pub(super) struct ReplyTo {
    /// The caller holds the other end. It is closed when the caller has gone away.
    reply: oneshot::Sender<Reply>,
    /// The command's share of the bytes that may wait for the writer.
    bytes: OwnedSemaphorePermit,
}

impl ReplyTo {
    pub(super) const fn new(reply: oneshot::Sender<Reply>, bytes: OwnedSemaphorePermit) -> Self {
        Self { reply, bytes }
    }

    /// Returns the caller of a command that was carried out but whose answer has to wait. It keeps only as many of its
    /// bytes as a plain claim holds, and gives back the others.
    pub(super) fn waiting(mut self) -> Self {
        if let Some(kept) = self.bytes.split(size_of::<Command>()) {
            self.bytes = kept;
        }
        self
    }

    /// Whether the caller has gone away.
    pub(super) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    /// Sends the answer. A caller that has gone away misses it, and tasks that were given out to it then go back by
    /// themselves.
    pub(super) fn answer(self, answer: Reply) {
        drop(self.reply.send(answer));
    }
}

/// The answer to a command.
pub(super) type Reply = Result<Done, QueueError>;

/// A change for the writer, prepared as far as possible without it. It is kept until the commit, so that a batch can be
/// run again.
#[derive(Debug)]
pub(super) enum Work {
    Submit(Box<Prepared>),
    SubmitMany(Vec<Prepared>),
    Claim(Box<ClaimWork>),
    Complete(Box<CompleteWork>),
    /// A request that needs no preparation.
    Plain(Box<Request>),
    Retry(Vec<TaskId>),
    Purge(Vec<TaskId>),
    /// Names the leases that a machine holds.
    Held(PeerId),
    /// Ends these leases, unless they have ended.
    Free(Vec<(TaskId, Fence)>),
    /// Notes that a value of the cache was used.
    CacheUsed(String),
    /// Notes which peer keeps a task.
    Remember(TaskId, PeerId),
}

impl Work {
    /// Returns about how many tasks the work changes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::SubmitMany(submits) => submits.len(),
            Self::Complete(work) => 1 + work.children.len(),
            Self::Claim(claim) => claim.max_tasks as usize,
            Self::Retry(ids) | Self::Purge(ids) => ids.len(),
            Self::Free(leases) => leases.len(),
            _ => 1,
        }
    }
}

/// A claim.
#[derive(Debug, Clone)]
pub(super) struct ClaimWork {
    pub(super) claimant: Claimant,
    pub(super) worker: String,
    pub(super) lease_s: f64,
    pub(super) max_tasks: u32,
    /// The end of the wait for a task on monotonic time; `None` if the claim does not wait.
    pub(super) deadline: Option<Duration>,
    /// The form of the answer.
    pub(super) form: Form,
}

/// The form in which the tasks of a claim are answered.
#[derive(Debug, Clone)]
pub(super) enum Form {
    One,
    Many,
    /// The next task, in the answer of the completion that asked for it.
    Next(Box<Completed>),
}

impl Form {
    /// Whether the answer also has to report a completion that was applied, whatever becomes of the claim.
    pub(super) const fn is_beside_completion(&self) -> bool {
        matches!(self, Self::Next(_))
    }
}

/// A completion with the submits and the claim that go with it.
#[derive(Debug)]
pub(super) struct CompleteWork {
    pub(super) request: Complete,
    pub(super) children: Vec<Prepared>,
    pub(super) claim: Option<ClaimWork>,
}

/// The outcome of work that was done.
#[derive(Debug)]
pub(super) enum Done {
    /// The answer to give.
    With(Box<Response>),
    /// Tasks that were given out.
    Claimed(GivenOut),
    /// How many of the named tasks were changed, and how many were passed over.
    Changed { changed: u64, skipped: u64 },
    /// The leases that a machine holds.
    Held(Vec<(TaskId, Fence)>),
    /// Done, and there is nothing to answer.
    Noted,
}

impl From<Response> for Done {
    fn from(response: Response) -> Self {
        Self::With(Box::new(response))
    }
}

/// Tasks on their way to their worker. If this is dropped on the way, they go back to their places.
#[derive(Debug)]
pub(super) struct GivenOut {
    pub(super) tasks: Vec<Given>,
    pub(super) form: Form,
    /// Where the tasks go back to; `None` once they have arrived.
    returns: Option<Arc<Returns>>,
}

/// One task that was given out.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) spec: Spec,
    pub(super) live: Live,
    pub(super) payload: String,
    pub(super) fence: Fence,
}

impl GivenOut {
    pub(super) fn new(tasks: Vec<Given>, form: Form, returns: &Arc<Returns>) -> Self {
        let returns = (!tasks.is_empty()).then(|| Arc::clone(returns));
        Self { tasks, form, returns }
    }

    /// Turns the tasks into the answer. From here on, they no longer go back by themselves.
    pub(super) fn arrive(mut self, setup: &Setup) -> Result<Response, QueueError> {
        let given = mem::take(&mut self.tasks);
        let fences: Vec<_> = given.iter().map(|given| (given.spec.id, given.fence)).collect();
        let tasks: Result<Vec<TaskRecord>, _> = given.into_iter().map(|given| given.into_task(setup)).collect();
        match (tasks, self.returns.take()) {
            (Ok(tasks), _) => Ok(mem::replace(&mut self.form, Form::One).answer(tasks)),
            (Err(error), returns) => {
                returns.iter().for_each(|returns| returns.put(&fences));
                Err(error)
            }
        }
    }
}

impl Given {
    fn into_task(self, setup: &Setup) -> Result<TaskRecord, QueueError> {
        let id = self.spec.id;
        let payload = Json::parse(self.payload).map_err(|_| damaged(id))?;
        let record = Record { spec: self.spec, payload, standing: Standing::Live(self.live), result: None };
        Ok(TaskRecord { fence: Some(self.fence), ..setup.task(record) })
    }
}

impl Drop for GivenOut {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take() {
            returns.put(&self.tasks.iter().map(|given| (given.spec.id, given.fence)).collect::<Vec<_>>());
        }
    }
}

impl Form {
    fn answer(self, mut tasks: Vec<TaskRecord>) -> Response {
        use taskqueue_api::{Claimed, ClaimedMany};
        match self {
            Self::One => Response::Claimed(Claimed { task: tasks.pop() }),
            Self::Many => Response::ClaimedMany(ClaimedMany { tasks }),
            Self::Next(completed) => Response::Completed(Completed { next: tasks.pop(), ..*completed }),
        }
    }
}

/// Tasks that were given out to callers that had gone away. Their number is bounded by that of the claims under way.
#[derive(Debug)]
pub(super) struct Returns {
    tasks: Mutex<Vec<(TaskId, Fence)>>,
    /// Wakes the writer.
    writer: SyncSender<Message>,
}

impl Returns {
    pub(super) const fn new(writer: SyncSender<Message>) -> Self {
        Self { tasks: Mutex::new(Vec::new()), writer }
    }

    fn put(&self, tasks: &[(TaskId, Fence)]) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(tasks);
        // If the channel is full, the writer is awake anyway.
        let _ = self.writer.try_send(Message::Wake);
    }

    pub(super) fn take(&self) -> Vec<(TaskId, Fence)> {
        mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the error for a row whose content is not the content that was written.
pub(crate) fn damaged(id: TaskId) -> QueueError {
    use taskqueue_api::ErrorCode;
    let message = format!("task {id}: its stored record is damaged; restore the store from a backup");
    QueueError::new(ErrorCode::StorageError, message).not_retryable()
}

/// Returns the error that a caller gets for a fault of the rows.
pub(super) fn storage_error(fault: &Fault) -> QueueError {
    use taskqueue_api::ErrorCode;
    match fault {
        Fault::Full(_) => storage_full(),
        Fault::Busy(_) => {
            let message = "another program holds the store's file; close it";
            QueueError::new(ErrorCode::StorageError, message).with_retry_after_s(RETRY_AFTER_S)
        }
        fault => QueueError::new(ErrorCode::StorageError, format!("the store failed: {fault}")),
    }
}

pub(super) fn storage_full() -> QueueError {
    let message =
        "no room for this on the store's disk: free some of it, or purge ended tasks; what needs no more room goes on";
    QueueError::new(taskqueue_api::ErrorCode::StorageFull, message).with_retry_after_s(FULL_RETRY_AFTER_S)
}

/// The bytes that a single row needs in a file.
const PAGE_BYTES: usize = 4096;

/// After this time, in seconds, the store looks for room again when a caller asks.
const FULL_RETRY_AFTER_S: f64 = 1.0;

/// Time for a person to close the other program.
const RETRY_AFTER_S: f64 = 5.0;
