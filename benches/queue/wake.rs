use std::{
    sync::{Arc, mpsc::sync_channel},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use p2p_taskqueue::{
    QueueError, TaskId, TaskQueueExt as _,
    api::{Claim, Get, Submit, SubmitMany, Wait},
};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use super::{Bench, Error, Goal, Lines, ME, Queue, Times, claim, complete, submit};

/// The other clients: those that wait for the end of a task, one less than a store lets wait, and those that wait to
/// claim one.
const WAITERS: usize = 9_999;
const PARKED: usize = 10_000;

/// The number of types that the waiting claims ask for. No task of these types is ever submitted.
const PARKED_TYPES: usize = 100;

/// The number of clients that begin to wait before the next ones do: no more than a store accepts at once.
const GATHERED: usize = 500;

/// The number of tasks whose end is waited for, on each queue.
const SAMPLES: usize = 500;

/// The timeout of a wait, in seconds: longer than the measurement.
const WAIT_S: f64 = 300.0;

/// Measures how soon a waiter learns of the end of a task, alone and among many, and the cost of many waiting clients.
pub(crate) fn measure(bench: &Bench, lines: &Lines, goals: &mut Vec<Goal>) -> Result<(), Error> {
    if !lines.want("wake") {
        return Ok(());
    }
    let (quiet, crowded) = (bench.sqlite("wake/quiet")?, bench.sqlite("wake/crowded")?);
    let mut crowd = bench.runtime.block_on(bench.runtime.spawn(gather(Arc::clone(&crowded))))??;
    // In the first second the store may still have work left.
    let _settled = idle(Duration::from_secs(1))?;
    let idle = idle(Duration::from_secs(1))?;
    let [alone, among] = bench.runtime.block_on(bench.runtime.spawn(samples([quiet, crowded])))??;
    if let Some(done) = crowd.try_join_next() {
        done??;
        return Err("one of the crowd did not wait".into());
    }
    println!("\ncompletion answered to waiter awake, alone:          {}", alone.wake);
    println!("the same, with {WAITERS} waits and {PARKED} claims:   {}", among.wake);
    println!("submit, alone:                                       {}", alone.submit);
    println!("submit, with that crowd:                             {}", among.submit);
    goals.push(Goal::at_most("completion to waiter, p50", 200.0, " us", alone.wake.micros_at(50)));
    goals.push(Goal::at_most("the same among 20,000 who wait", 200.0, " us", among.wake.micros_at(50)));
    let slower = among.submit.micros_at(50) / alone.submit.micros_at(50);
    goals.push(Goal::at_most("submit p50 among 20,000 who wait / alone", 1.5, "x", slower));
    goals.push(Goal::at_most("CPU time of an idle second with 20,000 who wait", 5.0, " ms", idle.as_secs_f64() * 1e3));
    Ok(())
}

#[derive(Debug, Default)]
struct Sampled {
    wake: Times,
    submit: Times,
}

async fn samples(queues: [Queue; 2]) -> Result<[Sampled; 2], Error> {
    let mut sampled = [Sampled::default(), Sampled::default()];
    for _ in 0..SAMPLES {
        for (queue, sampled) in queues.iter().zip(&mut sampled) {
            sample(queue, sampled).await?;
        }
    }
    Ok(sampled)
}

async fn sample(queue: &Queue, sampled: &mut Sampled) -> Result<(), Error> {
    let start = Instant::now();
    let id = queue.submit(&ME, submit("wake")).await?.task_id;
    sampled.submit.push(start.elapsed());
    let claimed = queue.claim(&ME, claim("wake")).await?;
    let there = Arc::clone(queue);
    let waiter = tokio::runtime::Handle::current().spawn(async move {
        let waited = there.wait(&ME, Wait::one(id, WAIT_S)).await;
        (Instant::now(), waited)
    });
    // When the second answer has come, the waiter is waiting.
    for _ in 0..2 {
        queue.get(&ME, Get { task_id: id }).await?;
    }
    queue.complete(&ME, complete(claimed.task.as_ref())?).await?;
    let answered = Instant::now();
    let (woken, waited) = waiter.await?;
    if !waited?.done {
        return Err("the waiter gave up".into());
    }
    sampled.wake.push(woken.saturating_duration_since(answered));
    Ok(())
}

/// All other clients that wait on the queue, with their answers.
type Crowd = JoinSet<Result<(), QueueError>>;

async fn gather(queue: Queue) -> Result<Crowd, Error> {
    let (mut crowd, mut ids) = (JoinSet::new(), Vec::new());
    for _ in 0..WAITERS {
        if ids.is_empty() {
            ids = later(&queue).await?;
        }
        let id = ids.pop().ok_or("no task to wait for")?;
        let there = Arc::clone(&queue);
        let mut waiter = Box::pin(async move { there.wait(&ME, Wait::one(id, WAIT_S)).await.map(drop) });
        // The store knows the waiter from its first poll on.
        (&mut waiter).now_or_never().transpose()?;
        crowd.spawn(waiter);
    }
    for number in 0..PARKED {
        let there = Arc::clone(&queue);
        let claim = Claim { wait_s: WAIT_S, ..claim(&format!("nobody-{}", number % PARKED_TYPES)) };
        let mut parked = Box::pin(async move { there.claim(&ME, claim).await.map(drop) });
        (&mut parked).now_or_never().transpose()?;
        crowd.spawn(parked);
        if number % GATHERED == 0 {
            later(&queue).await?;
        }
    }
    Ok(crowd)
}

/// Submits tasks that cannot be claimed for a long time, and returns their ids.
async fn later(queue: &Queue) -> Result<Vec<TaskId>, Error> {
    let delayed = Submit { delay_s: Some(10.0 * WAIT_S), ..submit("later") };
    let results = queue.submit_many(&ME, SubmitMany { tasks: vec![delayed; GATHERED] }).await?.results;
    Ok(results.into_iter().filter_map(|result| result.submitted).map(|submitted| submitted.task_id).collect())
}

/// Returns the CPU time that this process uses in the given time while nothing happens.
fn idle(during: Duration) -> Result<Duration, Error> {
    let cpu = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::try_from(time)
    };
    let before = cpu()?;
    let (_silent, nothing) = sync_channel::<()>(0);
    let _timed_out = nothing.recv_timeout(during);
    Ok(cpu()?.saturating_sub(before))
}
