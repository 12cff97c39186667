use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, try_join_all};
use p2p_taskqueue::{
    TaskQueueExt as _,
    api::{Claim, ClaimMany, Complete, Submit, SubmitMany},
};
use tokio::task::JoinSet;

use super::{Bench, Error, Goal, Lines, ME, Queue, claim, complete, floor, submit};

/// The turns of each candidate, and the time of a turn that is counted. Turns are short, so that a change in the state
/// of the disk affects all candidates alike.
const ROUNDS: usize = 13;
const TURN: Duration = Duration::from_millis(130);

/// The start of each turn, which is not counted: the store may still be tidying up after the turn before.
const WARM_UP: Duration = Duration::from_millis(30);

/// The tasks of one batch.
const BATCH: u32 = 100;

/// One candidate: works for the given time, and returns how much it did per second.
type Candidate = Box<dyn Fn(Duration) -> Result<f64, Error>>;

/// The work of each client until the given moment. It returns how often it was done.
type Client = fn(Queue, usize, Instant) -> BoxFuture<'static, Result<u32, Error>>;

/// Measures how much is done per second.
pub(crate) fn measure(bench: &Bench, lines: &Lines, goals: &mut Vec<Goal>) -> Result<(), Error> {
    let candidates = candidates(bench, lines)?;
    let mut rates: Vec<Vec<f64>> = candidates.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((name, candidate), rates) in candidates.iter().zip(&mut rates) {
            let rate = candidate(WARM_UP).and_then(|_| candidate(TURN));
            rates.push(rate.map_err(|error| format!("{name}: {error}"))?);
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_unstable_by(f64::total_cmp));
    let at = |rates: &[f64], index: usize| rates.get(index).copied().unwrap_or(f64::NAN);
    let median = |wanted: &str| {
        let found = candidates.iter().zip(&rates).find(|((name, _), _)| name == wanted);
        found.map(|(_, rates)| at(rates, ROUNDS / 2))
    };
    let floor = median("floor/overwrite").unwrap_or(f64::NAN);
    if !candidates.is_empty() {
        println!("\n{:<28} {:>10} {:>10} {:>10} {:>8}", "a second, taking turns", "median", "least", "most", "/ floor");
    }
    for ((name, _), rates) in candidates.iter().zip(&rates) {
        let [least, middle, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|index| at(rates, index));
        println!("{name:<28} {middle:>10.0} {least:>10.0} {most:>10.0} {:>8.2}", middle / floor);
    }
    let ratio = median("submit/64").zip(median("submit/1")).map(|(many, one)| many / one);
    goals.extend(ratio.map(|ratio| Goal::at_least("submits of 64 clients / of 1", 8.0, "x", ratio)));
    for (name, what, must) in [
        ("cycle/own_type/64", "cycles of 64 clients, a type for each", 20_000.0),
        ("cycle/one_type/64", "cycles of 64 clients, one type for all", 20_000.0),
        ("cycle/own_type/1", "cycles of 1 client", 2_000.0),
        ("cycle/claim_next/1", "cycles of 1 client, complete and claim next", 3_000.0),
        ("cycle/child/1", "cycles of 1 client, the next as a child", 3_000.0),
    ] {
        goals.extend(median(name).map(|rate| Goal::at_least(what, must, "/s", rate)));
    }
    Ok(())
}

fn candidates(bench: &Bench, lines: &Lines) -> Result<Vec<(String, Candidate)>, Error> {
    let mut list: Vec<(String, Candidate)> = Vec::new();
    for (name, floor) in [("floor/append", floor::append as fn(&_, _) -> _), ("floor/overwrite", floor::overwrite)] {
        let file = bench.file(name);
        list.push((name.to_owned(), Box::new(move |during| floor(&file, during))));
    }
    list.retain(|(name, _)| lines.want(name));
    let mut add = |name: String, open: &dyn Fn(&str) -> Result<Queue, Error>, clients: usize, client: Client| {
        if lines.want(&name) {
            let queue = open(&name)?;
            list.push((name, shared(bench, queue, clients, client)));
        }
        Ok::<_, Error>(())
    };
    let sqlite = |name: &str| bench.sqlite(name);
    for clients in [1, 16, 64] {
        add(format!("submit/{clients}"), &sqlite, clients, submits)?;
        add(format!("cycle/own_type/{clients}"), &sqlite, clients, own_type)?;
        add(format!("cycle/one_type/{clients}"), &sqlite, clients, one_type)?;
        add(format!("cycle/memory/{clients}"), &|_| bench.memory(), clients, own_type)?;
    }
    add("cycle/claim_next/1".to_owned(), &sqlite, 1, claim_next)?;
    add("cycle/child/1".to_owned(), &sqlite, 1, child)?;
    add(format!("batch/submit_many_{BATCH}"), &sqlite, 1, submit_many)?;
    add(format!("batch/cycle_{BATCH}"), &sqlite, 1, batch_cycle)?;
    Ok(list)
}

/// Returns a candidate with `clients` clients on one queue.
fn shared(bench: &Bench, queue: Queue, clients: usize, client: Client) -> Candidate {
    let runtime = bench.runtime.handle().clone();
    Box::new(move |during| {
        let (start, mut set, mut total) = (Instant::now(), JoinSet::new(), 0_u32);
        for number in 0..clients {
            set.spawn_on(client(Arc::clone(&queue), number, start + during), &runtime);
        }
        for count in runtime.block_on(set.join_all()) {
            total += count?;
        }
        Ok(f64::from(total) / start.elapsed().as_secs_f64())
    })
}

fn submits(queue: Queue, _: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(async move {
        let mut count = 0;
        while Instant::now() < end {
            queue.submit(&ME, submit("fill")).await?;
            count += 1;
        }
        Ok(count)
    })
}

/// Runs cycles with a type for each client, so its own task can be claimed at once.
fn own_type(queue: Queue, client: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(cycles(queue, claim(&format!("own-{client}")), end))
}

/// Runs cycles with one type for all clients. Another client may have taken the task, so each waits for the next one.
fn one_type(queue: Queue, _: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(cycles(queue, Claim { wait_s: 10.0, ..claim("one") }, end))
}

/// Runs cycles of submit, claim and complete, each awaited before the next.
async fn cycles(queue: Queue, claim: Claim, end: Instant) -> Result<u32, Error> {
    let task_type = claim.supported_task_types.concat();
    let mut count = 0;
    while Instant::now() < end {
        queue.submit(&ME, submit(&task_type)).await?;
        let claimed = queue.claim(&ME, claim.clone()).await?;
        queue.complete(&ME, complete(claimed.task.as_ref())?).await?;
        count += 1;
    }
    Ok(count)
}

/// Claims the next task with each completion: two requests in a cycle, one of them the submit.
fn claim_next(queue: Queue, _: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(chain(queue, end, true, |complete| complete))
}

/// Submits the next task with each completion: one request in a cycle.
fn child(queue: Queue, _: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(chain(queue, end, false, |complete| Complete { submit: vec![submit("chain")], ..complete }))
}

async fn chain(
    queue: Queue,
    end: Instant,
    submit_each: bool,
    with: impl Fn(Complete) -> Complete + Send,
) -> Result<u32, Error> {
    queue.submit(&ME, submit("chain")).await?;
    let mut held = queue.claim(&ME, claim("chain")).await?.task;
    let mut count = 0;
    while Instant::now() < end {
        if submit_each {
            queue.submit(&ME, submit("chain")).await?;
        }
        let next = with(Complete { claim_next: Some(claim("chain")), ..complete(held.as_ref())? });
        held = queue.complete(&ME, next).await?.next;
        count += 1;
    }
    queue.complete(&ME, complete(held.as_ref())?).await?;
    Ok(count)
}

fn batch() -> SubmitMany {
    SubmitMany { tasks: vec![Submit { ..submit("batch") }; BATCH as usize] }
}

fn submit_many(queue: Queue, _: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(async move {
        let mut count = 0;
        while Instant::now() < end {
            queue.submit_many(&ME, batch()).await?;
            count += BATCH;
        }
        Ok(count)
    })
}

/// Runs whole cycles of batches. No operation completes many tasks, so the completions are asked for together.
fn batch_cycle(queue: Queue, _: usize, end: Instant) -> BoxFuture<'static, Result<u32, Error>> {
    Box::pin(async move {
        let mut count = 0;
        while Instant::now() < end {
            queue.submit_many(&ME, batch()).await?;
            let many = ClaimMany { claim: claim("batch"), max_tasks: BATCH };
            let tasks = queue.claim_many(&ME, many).await?.tasks;
            let completes = tasks.iter().map(|task| complete(Some(task))).collect::<Result<Vec<_>, _>>()?;
            count += u32::try_from(completes.len())?;
            try_join_all(completes.into_iter().map(|complete| queue.complete(&ME, complete))).await?;
        }
        Ok(count)
    })
}
