//! Stores and queues for tests on tokio's stopped clock.

use std::sync::{Mutex, mpsc};

use async_trait::async_trait;
use p2p_taskqueue::{
    Caller, QueueError, Request, Response, TaskId, TaskQueue,
    api::{StoreStatus, TaskRecord},
    store::{TaskStore, Watch},
};

/// Keeps tokio's stopped clock from going on while other threads work on an answer. The runtime has nothing to do in
/// that time, and would move the clock to the next timer.
#[derive(Debug)]
pub(crate) struct Steady<Q> {
    inner: Q,
    stops: Mutex<Stops>,
}

/// How many answers are being worked on, and what ends the blocking job beside them. The clock stands while such a job
/// runs.
#[derive(Debug, Default)]
struct Stops {
    calls: usize,
    job: Option<mpsc::SyncSender<()>>,
}

impl<Q> Steady<Q> {
    pub(crate) fn new(inner: Q) -> Self {
        Self { inner, stops: Mutex::default() }
    }

    fn stop_clock(&self) -> Stopped<'_, Q> {
        let mut stops = self.stops.lock().unwrap();
        stops.calls += 1;
        stops.job.get_or_insert_with(|| {
            let (job, ended) = mpsc::sync_channel(0);
            tokio::task::spawn_blocking(move || ended.recv());
            job
        });
        Stopped(self)
    }
}

/// One answer that is being worked on.
struct Stopped<'a, Q>(&'a Steady<Q>);

impl<Q> Drop for Stopped<'_, Q> {
    fn drop(&mut self) {
        let mut stops = self.0.stops.lock().unwrap();
        stops.calls -= 1;
        if stops.calls == 0 {
            stops.job = None;
        }
    }
}

#[async_trait]
impl<Q: TaskQueue> TaskQueue for Steady<Q> {
    async fn call(&self, caller: &Caller, request: Request) -> Result<Response, QueueError> {
        // A request that waits for a task depends on others, so the clock goes on for it.
        let _stopped = (request.wait_s() <= 0.0).then(|| self.stop_clock());
        self.inner.call(caller, request).await
    }
}

#[async_trait]
impl<Q: TaskStore> TaskStore for Steady<Q> {
    fn watch(&self, ids: &[TaskId]) -> Result<Watch, QueueError> {
        self.inner.watch(ids)
    }

    async fn explain(&self, tasks: &mut [TaskRecord]) {
        let _stopped = self.stop_clock();
        self.inner.explain(tasks).await;
    }

    fn state(&self) -> StoreStatus {
        self.inner.state()
    }

    fn close(&self) {
        self.inner.close();
    }
}
