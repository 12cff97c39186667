use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Opened, SqliteBackend};
use crate::{
    Caller, PeerId, QueueError, Request, Response, TaskId, TaskQueue,
    carrier::RouteBook,
    store::{StoreError, StoreOptions, TaskStore, Watch, core::Core},
};

/// Tasks in one SQLite file, which this object owns as long as it is open.
///
/// Calls may come from any runtime, or from none. The work is done on the store's own threads; a call only sends it there
/// and awaits the answer.
#[derive(Debug)]
pub struct SqliteStore {
    core: Core,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the store in this file, or makes it, and starts its threads. Tasks that were running keep their lease for
    /// one more length of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`], which says what to do: a newer or foreign or damaged file, one that is in use, one whose last
    /// commits are missing, or what the system answered.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let Opened { backend, rows, .. } = SqliteBackend::open(path)?;
        let durability = options.durability;
        let core = Core::start(Box::new(backend), rows, options, durability)?;
        Ok(Self { core, path: path.to_owned() })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl TaskQueue for SqliteStore {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.core.call(caller, request).await
    }
}

impl TaskStore for SqliteStore {
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.core.watch(ids)
    }

    fn close(&self) {
        self.core.close();
    }
}

#[async_trait]
impl RouteBook for SqliteStore {
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError> {
        self.core.remember(task, owner).await
    }

    async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        self.core.owner_of(task).await
    }
}
