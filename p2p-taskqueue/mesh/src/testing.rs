//! Helpers that the tests of this crate share.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use libp2p::PeerId;
use runtime_bridge::{Runtime, Sleep, Spawned, SpawnedFuture, TokioRuntime};
use taskqueue_api::{
    Caller, Claim, Fence, QueueError, Request, Response, Submit, TaskId, TaskQueue, TaskQueueExt as _,
};
use taskqueue_store::{LocalQueue, MemoryStore, StoreOptions};
use tokio::sync::watch;

pub(crate) use crate::wire::{Pipe, pipe};
use crate::{Identity, Mesh, MeshSecret, RootKey};
pub(crate) use taskqueue_api::testing::{DEADLINE, payload};

/// Returns the runtime that drives the test.
pub(crate) fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime::new(tokio::runtime::Handle::current()))
}

/// A runtime whose clock only moves when a test advances it. Its jobs run on the runtime that drives the test.
#[derive(Debug)]
pub(crate) struct ManualRuntime {
    handle: tokio::runtime::Handle,
    start: Instant,
    /// The time since `start`.
    passed: watch::Sender<Duration>,
    /// All times until which anybody has asked to sleep, counted from `start`.
    asked: watch::Sender<BTreeSet<Duration>>,
}

impl ManualRuntime {
    pub(crate) fn new() -> Arc<Self> {
        let (handle, passed) = (tokio::runtime::Handle::current(), watch::Sender::new(Duration::ZERO));
        Arc::new(Self { handle, start: Instant::now(), passed, asked: watch::Sender::default() })
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.passed.send_modify(|passed| *passed += by);
    }

    /// Waits until somebody has asked to sleep for exactly this long from now.
    ///
    /// A job that sleeps again after each tick has then done the work of the last tick.
    pub(crate) async fn until_sleeper(&self, span: Duration) {
        let until = *self.passed.borrow() + span;
        soon(self.asked.subscribe().wait_for(|asked| asked.contains(&until))).await.expect("the runtime is there");
    }

    /// Returns all times until which anybody has asked to sleep, counted from the start.
    pub(crate) fn asked(&self) -> Vec<Duration> {
        self.asked.borrow().iter().copied().collect()
    }
}

impl Runtime for ManualRuntime {
    fn spawn_future(&self, job: SpawnedFuture) {
        drop(self.handle.spawn(job));
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        let mut passed = self.passed.subscribe();
        let until = deadline.saturating_duration_since(self.start);
        self.asked.send_if_modified(|asked| asked.insert(until));
        Sleep::new(async move {
            // The wait ends with an error only when the runtime was dropped before its timers.
            let _ended = passed.wait_for(|passed| *passed >= until).await;
        })
    }

    fn now(&self) -> Instant {
        self.start + *self.passed.borrow()
    }
}

/// Returns the value of the future. The test fails when it takes longer than [`DEADLINE`].
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes before the deadline")
}

/// Checks a condition every millisecond until it holds, for conditions that nothing signals.
pub(crate) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    soon(async {
        while !is_so().await {
            runtime().sleep_until(Instant::now() + Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A real queue in memory that counts its calls. A submit of the type `panic` makes it panic.
#[derive(Debug)]
pub(crate) struct TestQueue {
    local: LocalQueue,
    /// The store of the queue. It also serves as the routes of a node.
    pub(crate) store: Arc<MemoryStore>,
    /// The number of calls that have come, and the caller of the last one.
    pub(crate) calls: watch::Sender<(u64, Option<Caller>)>,
    /// The number of calls that are neither answered nor given up.
    pub(crate) open: watch::Sender<usize>,
}

impl TestQueue {
    pub(crate) fn new(owner: PeerId) -> Arc<Self> {
        let store = memory(owner);
        let local = LocalQueue::new(Arc::<MemoryStore>::clone(&store), owner, runtime());
        Arc::new(Self { local, store, calls: watch::Sender::new((0, None)), open: watch::Sender::new(0) })
    }

    /// Waits until at least `calls` calls have come.
    pub(crate) async fn until_calls(&self, calls: u64) {
        soon(self.calls.subscribe().wait_for(|(count, _)| *count >= calls)).await.unwrap();
    }

    /// Submits a task that no worker has.
    pub(crate) async fn put(&self, bytes: usize) -> TaskId {
        self.submit(&Caller::Local, Submit::new("echo", payload(bytes))).await.unwrap().task_id
    }

    /// Submits and claims a task, so that a worker has it. Makes two calls.
    pub(crate) async fn running(&self, bytes: usize) -> (TaskId, Fence) {
        let task_id = self.put(bytes).await;
        let task = self.claim(&Caller::Local, Claim::new("w")).await.unwrap().task.unwrap();
        assert_eq!(task.task_id, task_id, "another task waited");
        (task_id, task.fence.unwrap())
    }

    /// Waits until each of the calls has either come here or been refused. Returns those that came here.
    pub(crate) async fn crowd<T>(&self, before: u64, calls: Vec<Spawned<T>>) -> FuturesUnordered<Spawned<T>> {
        let (total, mut refused) = (calls.len() as u64, 0);
        let mut calls: FuturesUnordered<_> = calls.into_iter().collect();
        let mut come = self.calls.subscribe();
        soon(async {
            while refused + come.borrow_and_update().0 - before < total {
                tokio::select! {
                    Some(_) = calls.next() => refused += 1,
                    changed = come.changed() => changed.unwrap(),
                }
            }
        })
        .await;
        calls
    }
}

#[async_trait]
impl TaskQueue for TestQueue {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        self.calls.send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(caller.clone())));
        let _open = Open::new(&self.open);
        if let Request::Submit(submit) = &request {
            assert_ne!(submit.task_type, "panic", "as asked");
        }
        self.local.call(caller, request).await
    }
}

/// Counts a call while it is under way.
struct Open<'a>(&'a watch::Sender<usize>);

impl<'a> Open<'a> {
    fn new(open: &'a watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Returns the part of this machine in the mesh of this number, as an admin that has the root key. Machines of one number
/// know each other by the key.
pub(crate) fn mesh(number: u8, identity: &Identity) -> Mesh {
    Mesh::with_root_key(RootKey::from_secret_bytes([number; 32]), identity, "machine").unwrap()
}

/// Returns the first secret of the mesh of this number.
pub(crate) fn first_secret(number: u8) -> MeshSecret {
    RootKey::from_secret_bytes([number; 32]).first_secret()
}

/// Makes an empty store, for tasks or for routes.
pub(crate) fn memory(owner: PeerId) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(StoreOptions::new(owner)).unwrap())
}
