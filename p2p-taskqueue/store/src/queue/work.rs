use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use taskqueue_api::{
    CacheSet, Complete, Completed, Fail, Fence, Json, Limit, Pause, PeerId, QueueError, Release, Renew, Response,
    Resume, Task, TaskId,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{store::Opened, submit::Prepared};
use crate::{
    backend::Fault,
    engine::{Claimant, Live, Record, Spec, Standing},
};

/// What comes over the writer's channel.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this and answer. Boxed: the channel has a place for each from the start.
    Do(Box<Command>),
    /// Look at the clock, at what was given back, and at syncs that failed.
    Wake,
    /// Finish what came before this, and end.
    Close,
    /// A test asks how the writer stands.
    #[cfg(test)]
    Look(super::vitals::Look),
}

/// Something to do in the writer's next transaction.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) work: Work,
    pub(super) asker: Asker,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) struct Asker {
    /// The caller holds the other end; closed when it has gone away.
    reply: oneshot::Sender<Reply>,
    /// The command's part of the bytes that may wait for the writer.
    bytes: OwnedSemaphorePermit,
}

impl Asker {
    pub(super) const fn new(reply: oneshot::Sender<Reply>, bytes: OwnedSemaphorePermit) -> Self {
        Self { reply, bytes }
    }

    /// The caller of a command that was carried out and whose answer waits: of its bytes it holds no more than a plain
    /// claim does.
    pub(super) fn waiting(mut self) -> Self {
        if let Some(kept) = self.bytes.split(size_of::<Command>()) {
            self.bytes = kept;
        }
        self
    }

    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    /// Answers. A caller that has gone away misses it; tasks that it was given then go back by themselves.
    pub(super) fn answer(self, answer: Reply) {
        drop(self.reply.send(answer));
    }
}

/// What a command is answered with.
pub(super) type Reply = Result<Done, QueueError>;

/// The changes that the writer makes, prepared as far as that goes without it. Kept until the commit, so that a batch can
/// be run again.
#[derive(Debug)]
pub(super) enum Work {
    Submit(Box<Prepared>),
    SubmitMany(Vec<Prepared>),
    Claim(Box<ClaimWork>),
    Complete(Box<CompleteWork>),
    Renew(Renew),
    Fail(Fail),
    Release(Release),
    Cancel(taskqueue_api::Cancel),
    Answer(taskqueue_api::Answer),
    Retry(Vec<TaskId>),
    Purge(Vec<TaskId>),
    Pause(Pause),
    Resume(Resume),
    Limit(Limit),
    CacheSet(CacheSet),
    CacheDelete(String),
    /// Notes that a value of the cache was used.
    CacheUsed(String),
    /// Notes which peer keeps a task.
    Remember(TaskId, PeerId),
}

impl Work {
    /// Whether its answer may only be given once the change is on stable storage. A claim or a renewal that is lost only
    /// makes the task claimable again, and no fence is issued twice (clause T2); a cache may forget. But what a worker asks is
    /// shown to people, and an answer that it was given must not be another one after a crash.
    pub(super) fn needs_sync(&self) -> bool {
        match self {
            Self::Claim(_) | Self::CacheSet(_) | Self::CacheDelete(_) | Self::CacheUsed(_) => false,
            Self::Renew(renew) => !renew.input_requests.is_empty(),
            _ => true,
        }
    }

    /// Whether it asks for room that a full disk does not have.
    pub(super) fn adds(&self) -> bool {
        match self {
            Self::Submit(_) | Self::SubmitMany(_) | Self::Remember(..) | Self::CacheSet(_) => true,
            Self::Complete(work) => !work.children.is_empty(),
            _ => false,
        }
    }

    /// Bytes that it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        let payloads = |submits: &[Prepared]| -> usize {
            submits.iter().map(|submit| submit.row.payload.len() + size_of::<Prepared>()).sum()
        };
        let content = match self {
            Self::Submit(submit) => submit.row.payload.len(),
            Self::SubmitMany(submits) => payloads(submits),
            Self::Complete(work) => payloads(&work.children) + work.request.result.as_ref().map_or(0, Json::len_bytes),
            Self::CacheSet(set) => set.value.len_bytes(),
            Self::Renew(renew) => bytes_of(&renew.input_requests),
            Self::Answer(answer) => bytes_of(&answer.input_responses),
            _ => 0,
        };
        content + size_of::<Command>()
    }

    /// About how much room it takes in the rows: its content, and at most a page for each task that it adds. Nothing if it
    /// rather frees some.
    pub(super) fn room_bytes(&self) -> u64 {
        let bytes = match self {
            work if work.adds() => work.bytes() + work.weight() * PAGE_BYTES,
            Self::Renew(renew) if renew.input_requests.is_empty() => 0,
            Self::Complete(_) | Self::Fail(_) | Self::Renew(_) | Self::Answer(_) => self.bytes(),
            _ => 0,
        };
        bytes as u64
    }

    /// About how many tasks it changes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::SubmitMany(submits) => submits.len(),
            Self::Complete(work) => 1 + work.children.len(),
            Self::Claim(claim) => claim.max_tasks as usize,
            Self::Retry(ids) | Self::Purge(ids) => ids.len(),
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
    /// Until when it waits for a task, if it does.
    pub(super) deadline: Option<Duration>,
    /// What it is answered as.
    pub(super) form: Form,
}

/// What a claim's tasks are answered in.
#[derive(Debug, Clone)]
pub(super) enum Form {
    One,
    Many,
    /// Beside the completion that asked for it.
    Next(Box<Completed>),
}

impl Form {
    /// Whether something was applied that the answer has to tell, whatever becomes of the claim.
    pub(super) const fn is_beside_completion(&self) -> bool {
        matches!(self, Self::Next(_))
    }
}

/// A completion with what it does besides.
#[derive(Debug)]
pub(super) struct CompleteWork {
    pub(super) request: Complete,
    pub(super) children: Vec<Prepared>,
    pub(super) claim: Option<ClaimWork>,
}

fn bytes_of(inputs: &BTreeMap<String, Json>) -> usize {
    inputs.iter().map(|(key, value)| key.len() + value.len_bytes()).sum()
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    /// Answered with this.
    With(Box<Response>),
    /// These tasks were given out.
    Claimed(GivenOut),
    /// Of the named tasks so many were changed, and so many passed over.
    Changed { changed: u64, skipped: u64 },
    /// Nothing is to be said of it.
    Noted,
}

impl From<Response> for Done {
    fn from(response: Response) -> Self {
        Self::With(Box::new(response))
    }
}

/// Tasks on their way to their worker. Dropped on the way, they go back to their places.
#[derive(Debug)]
pub(super) struct GivenOut {
    pub(super) tasks: Vec<Given>,
    pub(super) form: Form,
    /// Where they go back to; `None` once they have arrived.
    returns: Option<Arc<Returns>>,
}

/// One of them.
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

    /// Hands them over to whoever answers for them from here on.
    pub(super) fn arrive(mut self, opened: &Opened) -> Result<Response, QueueError> {
        let given = mem::take(&mut self.tasks);
        let fences: Vec<_> = given.iter().map(|given| (given.spec.id, given.fence)).collect();
        let tasks: Result<Vec<Task>, _> = given.into_iter().map(|given| given.into_task(opened)).collect();
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
    fn into_task(self, opened: &Opened) -> Result<Task, QueueError> {
        let id = self.spec.id;
        let payload = Json::parse(self.payload).map_err(|_| damaged(id))?;
        let record = Record { spec: self.spec, payload, standing: Standing::Live(self.live), result: None };
        Ok(Task { fence: Some(self.fence), ..opened.task(record) })
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
    fn answer(self, mut tasks: Vec<Task>) -> Response {
        use taskqueue_api::{Claimed, ClaimedMany};
        match self {
            Self::One => Response::Claimed(Claimed { task: tasks.pop() }),
            Self::Many => Response::ClaimedMany(ClaimedMany { tasks }),
            Self::Next(completed) => Response::Completed(Completed { next: tasks.pop(), ..*completed }),
        }
    }
}

/// Tasks that were given out to callers that had gone away. Bounded by the number of claims under way.
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
        // A full channel keeps the writer awake anyway.
        let _ = self.writer.try_send(Message::Wake);
    }

    pub(super) fn take(&self) -> Vec<(TaskId, Fence)> {
        mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is said of a row whose content is not what was written.
pub(crate) fn damaged(id: TaskId) -> QueueError {
    use taskqueue_api::ErrorCode;
    let message = format!("task {id}: its stored record is damaged; restore the store from a backup");
    QueueError::new(ErrorCode::StorageError, message).not_retryable()
}

/// What a fault of the rows means for somebody who asked for something.
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

/// What a row that is alone needs of a file.
const PAGE_BYTES: usize = 4096;

/// Room is looked for as often as somebody asks, but for the first second.
const FULL_RETRY_AFTER_S: f64 = 1.0;

/// Time for a person to close the other program.
const RETRY_AFTER_S: f64 = 5.0;
