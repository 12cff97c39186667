use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::select_all};
use p2p_taskqueue::{
    TaskQueueExt as _,
    api::{Claim, Complete, Get, SubmitMany, Wait},
};
use runtime_bridge::{Bridge, RuntimeExt as _, Spawned};

use super::{Error, Latency, ME, Pair, Place, Queue, submit};

/// The number of waits that stay pending, each for a task of its own.
const CROWD: usize = 1_000;

/// The timeout of a wait, in seconds: longer than the measurement.
const WAIT_S: f64 = 900.0;

/// Returns a candidate that measures the time from the answer to a completion, in the owner's process, until the waiter
/// at the other node knows of it.
pub(crate) fn candidate(pair: &Pair) -> Latency {
    let (place, remote) = (Place::on(&pair.here.thread), Arc::clone(&pair.remote));
    let owner = Owner { bridge: pair.there.thread.bridge(), queue: pair.in_process() };
    Box::new(move |times| {
        let (remote, owner, runtime) = (Arc::clone(&remote), owner.clone(), Arc::clone(&place.runtime));
        place.run(async move {
            let mut woken = Vec::new();
            for _ in 0..times {
                let id = remote.submit(&ME, submit("wake")).await?.task_id;
                let waiting = Arc::clone(&remote);
                let waiter = runtime.spawn(async move {
                    let waited = waiting.wait(&ME, Wait::one(id, WAIT_S)).await;
                    (Instant::now(), waited)
                });
                // When the second answer has come, the owner knows of the waiter.
                for _ in 0..2 {
                    remote.get(&ME, Get { task_id: id }).await?;
                }
                let answered = owner.complete().await?;
                let (at, waited) = waiter.await?;
                if !waited?.done {
                    return Err("the waiter gave up".into());
                }
                woken.push(at.saturating_duration_since(answered).max(Duration::from_nanos(1)));
            }
            Ok(woken)
        })?
    })
}

/// The worker in the owner's process.
#[derive(Clone)]
struct Owner {
    bridge: Bridge,
    queue: Queue,
}

impl Owner {
    /// Completes the only task that there is, and returns the moment of the acknowledgement.
    async fn complete(&self) -> Result<Instant, Error> {
        let queue = Arc::clone(&self.queue);
        let completing = async move {
            let task = queue.claim(&ME, Claim::new("bench")).await?.task.ok_or("there was no task to claim")?;
            let fence = task.fence.ok_or("a claimed task has a fence")?;
            queue.complete(&ME, Complete::new(task.task_id, fence, None)).await?;
            Ok(Instant::now())
        };
        self.bridge.run_in_p2p(completing).await?
    }
}

/// Makes many clients wait over the pair's connection. The returned job ends when one of them is answered.
pub(crate) fn crowd(pair: &Pair) -> Result<Spawned<()>, Error> {
    let (place, remote) = (Place::on(&pair.here.thread), Arc::clone(&pair.remote));
    let asked = Arc::clone(&remote);
    let tasks = vec![submit("crowd"); CROWD];
    let many = place.run(async move { asked.submit_many(&ME, SubmitMany { tasks }).await })??;
    let submitted = many.results.into_iter().map(|result| result.submitted.ok_or("a task was not queued"));
    let ids = submitted.map(|submitted| submitted.map(|submitted| submitted.task_id)).collect::<Result<Vec<_>, _>>()?;
    let waits = ids.into_iter().map(move |id| {
        let remote = Arc::clone(&remote);
        Box::pin(async move { remote.wait(&ME, Wait::one(id, WAIT_S)).await })
    });
    Ok(place.runtime.spawn(select_all(waits).map(drop)))
}
