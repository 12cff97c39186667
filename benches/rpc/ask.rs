//! The clients.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, try_join_all};
use p2p_taskqueue::{
    Request, TaskQueueExt as _,
    api::{Claim, Complete, StatusQuery},
};
use runtime_bridge::{Bridge, ExecutorThread, Runtime, RuntimeExt as _};

use super::{Error, Latency, ME, Queue, Rate, submit};

/// The thread of the clients. It is the thread of the node that they ask, so nothing crosses between them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    bridge: Bridge,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl Place {
    pub(crate) fn on(thread: &ExecutorThread) -> Self {
        Self { bridge: thread.bridge(), runtime: thread.runtime() }
    }

    pub(crate) fn run<F>(&self, future: F) -> Result<F::Output, Error>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Ok(self.bridge.run_in_p2p_blocking(future)?)
    }
}

/// Returns a candidate in which one client repeats a request.
pub(crate) fn one_by_one(place: Place, queue: Queue, request: Request) -> Latency {
    Box::new(move |requests| {
        let (queue, request) = (Arc::clone(&queue), request.clone());
        place.run(async move {
            let mut times = Vec::new();
            for _ in 0..requests {
                let start = Instant::now();
                queue.call(&ME, request.clone()).await?;
                times.push(start.elapsed());
            }
            Ok(times)
        })?
    })
}

/// The work of each of many clients until the end. It returns how often it was done.
pub(crate) type Client = BoxFuture<'static, Result<u32, Error>>;

/// Returns a candidate with `clients` clients at once, each in a job of its own.
pub(crate) fn many(place: Place, clients: usize, client: impl Fn(usize, Instant) -> Client + 'static) -> Rate {
    Box::new(move |during: Duration| {
        let (start, runtime) = (Instant::now(), Arc::clone(&place.runtime));
        let jobs: Vec<Client> = (0..clients).map(|number| client(number, start + during)).collect();
        let counts = place.run(async move { try_join_all(jobs.into_iter().map(|job| runtime.spawn(job))).await })??;
        let total = counts.into_iter().try_fold(0, |total, count| Ok::<_, Error>(total + count?))?;
        Ok(f64::from(total) / start.elapsed().as_secs_f64())
    })
}

/// Asks for the status of the node until the end.
pub(crate) fn status(queue: Queue, end: Instant) -> Client {
    Box::pin(async move {
        let mut count = 0;
        while Instant::now() < end {
            queue.status(&ME, StatusQuery::default()).await?;
            count += 1;
        }
        Ok(count)
    })
}

/// Submits tasks until the end; `wrap` adds the target.
pub(crate) fn submits(queue: Queue, end: Instant, wrap: impl Fn(Request) -> Request + Send + 'static) -> Client {
    Box::pin(async move {
        let mut count = 0;
        while Instant::now() < end {
            queue.call(&ME, wrap(Request::Submit(submit("fill")))).await?;
            count += 1;
        }
        Ok(count)
    })
}

/// Runs cycles of submit, claim and complete, each awaited before the next. Each client has a type of its own, so its
/// own task can be claimed at once.
pub(crate) fn cycles(queue: Queue, client: usize, end: Instant) -> Client {
    Box::pin(async move {
        let task_type = format!("own-{client}");
        let claim = Claim { supported_task_types: vec![task_type.clone()], ..Claim::new("bench") };
        let mut count = 0;
        while Instant::now() < end {
            queue.submit(&ME, submit(&task_type)).await?;
            let task = queue.claim(&ME, claim.clone()).await?.task.ok_or("there was no task to claim")?;
            let fence = task.fence.ok_or("a claimed task has a fence")?;
            queue.complete(&ME, Complete::new(task.task_id, fence, None)).await?;
            count += 1;
        }
        Ok(count)
    })
}
