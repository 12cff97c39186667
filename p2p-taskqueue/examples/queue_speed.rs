//! How fast is the local queue? Prints durable submits and whole cycles per second, claim times at two queue lengths, and how
//! long a waiter takes to notice an end.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement: it stops at the first failure")]
#![expect(clippy::print_stdout, reason = "the answer is for a person")]
#![expect(clippy::disallowed_methods, reason = "it runs on tokio by its own choice")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2p_taskqueue::{
    Caller, Json, PeerId, TaskQueueExt,
    api::{Claim, Complete, CompletedStatus, Submit, Wait},
    carrier::LocalQueue,
    store::{SqliteStore, StoreOptions},
};
use runtime_bridge::{Runtime, TokioRuntime};

const RUN: Duration = Duration::from_millis(1500);
const ME: Caller = Caller::Local;

fn payload() -> Json {
    Json::from_text(&"x".repeat(254))
}

fn complete(task: &p2p_taskqueue::Task) -> Complete {
    let (task_id, fence) = (task.task_id, task.fence.unwrap());
    Complete::new(task_id, fence, Some(Json::null()))
}

async fn submits(queue: Arc<LocalQueue>, clients: usize) -> f64 {
    let start = Instant::now();
    let counts = (0..clients).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::task::spawn(async move {
            let mut count = 0_u64;
            while start.elapsed() < RUN {
                queue.submit(&ME, Submit::new("fill", payload())).await.unwrap();
                count += 1;
            }
            count
        })
    });
    let total: u64 = futures::future::join_all(counts.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).sum();
    total as f64 / start.elapsed().as_secs_f64()
}

/// Each client submits, claims and completes, by the claim that is made for it.
async fn cycles(queue: Arc<LocalQueue>, clients: usize, claim: fn(usize) -> Claim) -> f64 {
    let start = Instant::now();
    let counts = (0..clients).map(|client| {
        let queue = Arc::clone(&queue);
        tokio::task::spawn(async move {
            let claim = claim(client);
            let mut count = 0_u64;
            while start.elapsed() < RUN {
                queue.submit(&ME, Submit::new(&claim.supported_task_types[0], payload())).await.unwrap();
                let task = queue.claim(&ME, claim.clone()).await.unwrap().task.unwrap();
                queue.complete(&ME, complete(&task)).await.unwrap();
                count += 1;
            }
            count
        })
    });
    let total: u64 = futures::future::join_all(counts.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).sum();
    total as f64 / start.elapsed().as_secs_f64()
}

/// A type for each client: its own task is there at once.
fn own_type(client: usize) -> Claim {
    Claim { supported_task_types: vec![format!("cycle-{client}")], ..Claim::new("w") }
}

/// One type for all: another client may have taken the task, so it waits for the next.
fn shared_type(_: usize) -> Claim {
    Claim { supported_task_types: vec!["shared".to_owned()], wait_s: 1.0, ..Claim::new("w") }
}

async fn claim_times(queue: &LocalQueue) -> (Duration, Duration) {
    let mut times = Vec::new();
    for _ in 0..900 {
        let start = Instant::now();
        queue.claim(&ME, Claim::new("w")).await.unwrap().task.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    (times[450], times[891])
}

async fn fill(queue: &Arc<LocalQueue>, count: usize) {
    let tasks = (0..64).map(|part| {
        let queue = Arc::clone(queue);
        tokio::task::spawn(async move {
            for n in 0..count / 64 + 1 {
                let mut submit = Submit::new(format!("type-{}", (n + part) % 7), payload());
                submit.priority = u8::try_from(1 + (n * 7 + part) % 10).unwrap();
                queue.submit(&ME, submit).await.unwrap();
            }
        })
    });
    futures::future::join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(|done| done.unwrap());
}

fn queue(directory: &std::path::Path, name: &str, runtime: &Arc<dyn Runtime>) -> Arc<LocalQueue> {
    let owner = PeerId::random();
    let store = SqliteStore::open(&directory.join(name), StoreOptions::new(owner)).unwrap();
    Arc::new(LocalQueue::new(Arc::new(store), owner, Arc::clone(runtime)))
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(tokio::runtime::Handle::current()));
    let only: Option<usize> = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let clients = only.map_or_else(|| vec![1, 16, 64], |n| vec![n]);
    for clients in clients.clone() {
        let queue = queue(directory.path(), &format!("submit-{clients}"), &runtime);
        println!("submit, {clients} clients: {:.0}/s", submits(queue, clients).await);
    }
    for clients in clients.clone() {
        let queue = queue(directory.path(), &format!("cycle-{clients}"), &runtime);
        println!("cycle, {clients} clients: {:.0}/s", cycles(Arc::clone(&queue), clients, own_type).await);
        println!("cycle, {clients} clients, one type: {:.0}/s", cycles(queue, clients, shared_type).await);
    }
    if only.is_some() {
        return;
    }
    for queued in [1_000, 1_000_000] {
        let queue = queue(directory.path(), &format!("claim-{queued}"), &runtime);
        fill(&queue, queued).await;
        let (p50, p99) = claim_times(&queue).await;
        println!("claim with {queued} queued: p50 {p50:?}, p99 {p99:?}");
    }
    let queue = queue(directory.path(), "wait", &runtime);
    let mut times = Vec::new();
    for _ in 0..500 {
        let id = queue.submit(&ME, Submit::new("wait", payload())).await.unwrap().task_id;
        let task = queue.claim(&ME, Claim::new("w")).await.unwrap().task.unwrap();
        let waiting = Arc::clone(&queue);
        let waiter = tokio::task::spawn(async move {
            let waited = waiting.wait(&ME, Wait::one(id, 10.0)).await.unwrap();
            assert!(waited.done);
            Instant::now()
        });
        // Until the waiter waits.
        queue.get(&ME, p2p_taskqueue::api::Get { task_id: id }).await.unwrap();
        queue.get(&ME, p2p_taskqueue::api::Get { task_id: id }).await.unwrap();
        queue.complete(&ME, complete(&task)).await.unwrap();
        let completed = Instant::now();
        times.push(waiter.await.unwrap().saturating_duration_since(completed));
    }
    times.sort();
    println!("completion answered to waiter answered: p50 {:?}, p99 {:?}", times[250], times[495]);
}
