use std::{
    mem,
    sync::{Arc, Mutex, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    PeerId, QueueError,
    api::{Cancel, Cancelled, Complete, Completed, ErrorCode, Fail, Failed, Release, Released, Renew, Renewed},
    engine::{Admission, Claimant, Live, Record, Spec, Standing},
    store::{Leased, Submission},
    task::{Fence, Json, TaskId},
};

/// What comes over the writer's channel.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this and answer.
    Do(Command),
    /// Look at the clock and at what was given back.
    Wake,
    /// Finish what came before this, and end.
    Close,
}

/// Something to do in the writer's next transaction.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) work: Work,
    /// The caller holds the other end; closed when it has gone away.
    pub(super) reply: oneshot::Sender<Result<Answer, QueueError>>,
    /// The command's part of the bytes that may wait for the writer.
    pub(super) _bytes: OwnedSemaphorePermit,
}

/// The changes that the writer makes. Kept until the commit, so that a batch can be run again.
#[derive(Debug)]
pub(super) enum Work {
    Submit(Box<Admission>),
    Claim(Box<ClaimWork>),
    Renew(Renew),
    Complete(Complete),
    Fail(Fail),
    Release(Release),
    Cancel(Cancel),
    Remember(TaskId, PeerId),
}

impl Work {
    /// Whether its answer may only be given once the change is on stable storage. A claim or a renewal that is lost
    /// only makes the task claimable again, and no fence is issued twice (clause T2).
    pub(super) const fn needs_sync(&self) -> bool {
        !matches!(self, Self::Claim(_) | Self::Renew(_))
    }

    /// Whether it asks for room that a full disk does not have.
    pub(super) const fn adds(&self) -> bool {
        matches!(self, Self::Submit(_) | Self::Remember(..))
    }

    /// Bytes that it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        let content = match self {
            Self::Submit(admission) => admission.payload.len_bytes(),
            Self::Complete(complete) => complete.result.as_ref().map_or(0, Json::len_bytes),
            _ => 0,
        };
        content + size_of::<Command>()
    }
}

/// A claim.
#[derive(Debug)]
pub(super) struct ClaimWork {
    pub(super) claimant: Claimant,
    pub(super) worker: String,
    pub(super) lease_s: f64,
    /// Until when it waits for a task, if it does.
    pub(super) deadline: Option<Duration>,
}

/// The answers, one for each kind of [`Work`].
#[derive(Debug)]
pub(super) enum Answer {
    Submitted(Submission),
    Claimed(Option<Box<GivenOut>>),
    Renewed(Renewed),
    Completed(Completed),
    Failed(Failed),
    Released(Released),
    Cancelled(Cancelled),
    Remembered,
}

/// A task on its way to its worker. Dropped on the way, it goes back to its place.
#[derive(Debug)]
pub(super) struct GivenOut {
    spec: Spec,
    live: Live,
    payload: String,
    fence: Fence,
    /// Where it goes back to; `None` once it has arrived.
    returns: Option<Arc<Returns>>,
}

impl GivenOut {
    pub(super) const fn new(spec: Spec, live: Live, payload: String, fence: Fence, returns: Arc<Returns>) -> Self {
        Self { spec, live, payload, fence, returns: Some(returns) }
    }

    /// Hands it over to whoever answers for it from here on.
    pub(super) fn arrive(mut self) -> Result<Leased, QueueError> {
        let id = self.spec.id;
        let payload = Json::parse(mem::take(&mut self.payload)).map_err(|_| damaged(id))?;
        self.returns = None;
        let (spec, live) = (self.spec.clone(), self.live.clone());
        let record = Record { spec, payload, standing: Standing::Live(live), result: None };
        Ok(Leased { record, fence: self.fence })
    }
}

impl Drop for GivenOut {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take() {
            returns.put(self.spec.id, self.fence);
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

    fn put(&self, id: TaskId, fence: Fence) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push((id, fence));
        // A full channel keeps the writer awake anyway.
        let _ = self.writer.try_send(Message::Wake);
    }

    pub(super) fn take(&self) -> Vec<(TaskId, Fence)> {
        mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is said of a row whose content is not what was written.
pub(super) fn damaged(id: TaskId) -> QueueError {
    let message = format!("task {id}: its stored record is damaged; restore the store from a backup");
    QueueError { retryable: false, ..QueueError::new(ErrorCode::StorageError, message) }
}

/// What an error of SQLite means for somebody who asked for something.
pub(super) fn storage_error(error: &rusqlite::Error) -> QueueError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => storage_full(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            let message = "another program holds the store's file; close it";
            QueueError::new(ErrorCode::StorageError, message).with_retry_after_s(RETRY_AFTER_S)
        }
        _ => QueueError::new(ErrorCode::StorageError, format!("the store failed: {error}")),
    }
}

pub(super) fn storage_full() -> QueueError {
    let message = "no room for new tasks on the store's disk; completions and reads go on";
    QueueError::new(ErrorCode::StorageFull, message).with_retry_after_s(RETRY_AFTER_S)
}

/// Time for a person or a sweep to make room.
const RETRY_AFTER_S: f64 = 5.0;
