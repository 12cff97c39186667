//! The parts of the benchmark of the queue.

pub(crate) mod deep;
mod floor;
pub(crate) mod rates;
pub(crate) mod wake;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use p2p_taskqueue::{
    Caller, Fence, Json, PeerId, TaskId, TaskQueue,
    api::{Claim, Complete, Submit, TaskRecord},
    store::{LocalQueue, MemoryStore, SqliteStore, StoreOptions, TaskStore},
};
use runtime_bridge::TokioRuntime;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) use crate::report::{Goal, Lines, Times};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Queue = Arc<dyn TaskQueue>;

/// The caller of all requests.
pub(crate) const ME: Caller = Caller::Local;

/// The size of a payload as JSON, in bytes.
const PAYLOAD_BYTES: usize = 256;

/// The place where everything runs: clients on a tokio runtime with two workers, and files in a folder that is removed
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { runtime: runtime()?, folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))? })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name.replace('/', "-"))
    }

    /// Opens a queue over a store in this file.
    pub(crate) fn open(&self, file: &Path) -> Result<Queue, Error> {
        open(&self.runtime, file)
    }

    /// Makes a queue over a store in memory.
    pub(crate) fn memory(&self) -> Result<Queue, Error> {
        let owner = PeerId::random();
        Ok(over(&self.runtime, owner, Arc::new(MemoryStore::new(StoreOptions::new(owner))?)))
    }

    /// Opens a queue over a store in a file of its own.
    pub(crate) fn sqlite(&self, name: &str) -> Result<Queue, Error> {
        self.open(&self.file(name))
    }
}

pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

pub(crate) fn open(runtime: &Runtime, file: &Path) -> Result<Queue, Error> {
    let owner = PeerId::random();
    Ok(over(runtime, owner, Arc::new(SqliteStore::open(file, StoreOptions::new(owner))?)))
}

fn over(runtime: &Runtime, owner: PeerId, store: Arc<dyn TaskStore>) -> Queue {
    Arc::new(LocalQueue::new(store, owner, Arc::new(TokioRuntime::new(runtime.handle().clone()))))
}

pub(crate) fn submit(task_type: impl Into<String>) -> Submit {
    Submit::new(task_type, Json::from_text(&"x".repeat(PAYLOAD_BYTES - 2)))
}

pub(crate) fn claim(task_type: &str) -> Claim {
    Claim { supported_task_types: vec![task_type.to_owned()], ..Claim::new("bench") }
}

/// Returns the completion of a claimed task.
pub(crate) fn complete(task: Option<&TaskRecord>) -> Result<Complete, Error> {
    let (task_id, fence) = held(task)?;
    Ok(Complete::new(task_id, fence, Some(Json::null())))
}

fn held(task: Option<&TaskRecord>) -> Result<(TaskId, Fence), Error> {
    let task = task.ok_or("there was no task to claim")?;
    Ok((task.task_id, task.fence.ok_or("a claimed task has a fence")?))
}
