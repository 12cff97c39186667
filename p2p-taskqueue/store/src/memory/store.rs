use async_trait::async_trait;
use taskqueue_api::{
    Caller, Durability, PeerId, QueueError, Request, Response, RouteBook, StoreStatus, TaskId, TaskQueue, TaskRecord,
};

use super::MemoryBackend;
use crate::{Backend as _, StoreError, StoreOptions, TaskStore, Watch, queue::Core};

/// A store in memory, for tests, simulations, and work that may be lost. Its tasks are gone with this object. Its
/// answers give the `durability` as `volatile`.
#[derive(Debug)]
pub struct MemoryStore(Core);

impl MemoryStore {
    /// Creates an empty store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Threads`] when the system gives no threads.
    pub fn new(options: StoreOptions) -> Result<Self, StoreError> {
        Self::over(MemoryBackend::default(), options)
    }

    /// Creates a store over the rows of a backend.
    pub(crate) fn over(backend: MemoryBackend, options: StoreOptions) -> Result<Self, StoreError> {
        let rows = backend.open_rows()?;
        Core::start(Box::new(backend), rows, options, Durability::Volatile).map(Self)
    }
}

#[async_trait]
impl TaskQueue for MemoryStore {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.0.call(caller, request).await
    }
}

#[async_trait]
impl TaskStore for MemoryStore {
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.0.watch(ids)
    }

    async fn explain(&self, tasks: &mut [TaskRecord]) {
        self.0.explain(tasks).await;
    }

    fn state(&self) -> StoreStatus {
        self.0.state("memory", None)
    }

    fn close(&self) {
        self.0.close();
    }

    #[cfg(test)]
    fn vitals(&self, with_memory: bool) -> crate::queue::Vitals {
        self.0.vitals(with_memory)
    }
}

#[async_trait]
impl RouteBook for MemoryStore {
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError> {
        self.0.remember(task, owner).await
    }

    async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        self.0.owner_of(task).await
    }
}
