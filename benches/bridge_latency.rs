//! How long does one call across the bridge take, and how does that compare?
//!
//! `cargo bench -p benches --bench bridge_latency`. After criterion's own report a table of percentiles is printed. Its
//! candidates took turns in one run. The placement of threads on cores dominates the figures, so only ratios within a
//! run are meaningful.

#![expect(clippy::print_stdout, reason = "the closing table")]

mod support;

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use futures::future::BoxFuture;
use runtime_bridge::{Backend, Bridge};
use support::{Candidates, Error, Plain, Spawner, callers, executor, label};
use tokio::runtime::{Builder, Runtime};

/// One candidate: makes the given number of calls, one after the other, and returns the time of each.
type Candidate = Box<dyn Fn(u64) -> Vec<Duration>>;

fn main() -> Result<(), Error> {
    let candidates = candidates()?;
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("bridge_latency");
    for (name, candidate) in &candidates.list {
        bench(&mut group, name, candidate);
    }
    group.finish();
    criterion.final_summary();
    if let Some(candidates) = candidates.for_table() {
        table(&candidates.list);
    }
    Ok(())
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, candidate: &Candidate) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|calls| candidate(calls).iter().sum());
    });
}

fn candidates() -> Result<Candidates<Candidate>, Error> {
    let callers = Arc::new(callers()?);
    let (mut list, mut threads, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for &backend in Backend::ALL {
        let thread = executor(backend)?;
        let other = Plain::start(backend)?;
        let label = label(backend);
        list.push((format!("handle_spawn/{label}/noop"), handle_spawn(&callers, &other.spawner)));
        list.push((format!("run_in_p2p/{label}/noop"), noop(&callers, thread.bridge())));
        list.push((format!("inline/{label}/noop"), inline(thread.bridge())));
        if backend.name() == "tokio" {
            for (size, name) in [(1024, "1KiB"), (64 * 1024, "64KiB")] {
                let name = format!("run_in_p2p/{label}/payload_{name}");
                list.push((name, payload(&callers, thread.bridge(), size)));
            }
        }
        threads.push(thread);
        plain.push(other);
    }
    list.push(("inline/plain_await/noop".to_owned(), Box::new(plain_await)));
    list.push(("fresh_runtime_per_call/noop".to_owned(), fresh_runtime(&callers)));
    list.push(("floor/park_unpark".to_owned(), Box::new(park_unpark)));
    Ok(Candidates { list, _threads: threads, _plain: plain })
}

/// Makes calls from a task of the calling runtime, timing each.
fn from_task<C>(callers: &Arc<Runtime>, call: C) -> Candidate
where
    C: Fn() -> BoxFuture<'static, ()> + Clone + Send + 'static,
{
    let callers = Arc::clone(callers);
    Box::new(move |calls| {
        let call = call.clone();
        let task = callers.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..calls {
                let future = call();
                let start = Instant::now();
                future.await;
                times.push(start.elapsed());
            }
            times
        });
        callers.block_on(task).unwrap_or_default()
    })
}

fn noop(callers: &Arc<Runtime>, bridge: Bridge) -> Candidate {
    from_task(callers, move || {
        let bridge = bridge.clone();
        Box::pin(async move {
            let _done = black_box(bridge.run_in_p2p(async {}).await);
        })
    })
}

fn handle_spawn(callers: &Arc<Runtime>, spawner: &Spawner) -> Candidate {
    let spawner = spawner.clone();
    from_task(callers, move || {
        let spawner = spawner.clone();
        Box::pin(async move {
            let _done = black_box(spawner.run(async {}).await);
        })
    })
}

/// Sends a buffer there and back. The cost beyond that of a no-op shows whether it is copied.
fn payload(callers: &Arc<Runtime>, bridge: Bridge, size: usize) -> Candidate {
    from_task(callers, move || {
        let bridge = bridge.clone();
        let buffer = vec![1_u8; size];
        Box::pin(async move {
            let _back = black_box(bridge.run_in_p2p(async move { buffer }).await);
        })
    })
}

/// Does without a standing thread: every call builds a runtime on a thread of a pool, runs there, and drops the
/// runtime.
fn fresh_runtime(callers: &Arc<Runtime>) -> Candidate {
    let handle = callers.handle().clone();
    from_task(callers, move || {
        let handle = handle.clone();
        Box::pin(async move {
            let call = handle.spawn_blocking(|| {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {});
                Ok::<_, std::io::Error>(())
            });
            let _done = black_box(call.await);
        })
    })
}

/// The calls that share one reading of the clock. One inline call is too short to be timed alone.
const INLINE_BATCH: u64 = 100;

fn inline(bridge: Bridge) -> Candidate {
    Box::new(move |calls| {
        let there = bridge.clone();
        let run = async move {
            let mut times = Vec::new();
            for _ in 0..calls.div_ceil(INLINE_BATCH) {
                let start = Instant::now();
                for _ in 0..INLINE_BATCH {
                    let _done = black_box(there.run_in_p2p(async {}).await);
                }
                spread(&mut times, start.elapsed());
            }
            times
        };
        bridge.run_in_p2p_blocking(run).unwrap_or_default()
    })
}

fn plain_await(calls: u64) -> Vec<Duration> {
    async fn call() -> Result<(), Error> {
        std::future::ready(Ok(())).await
    }
    futures::executor::block_on(async {
        let mut times = Vec::new();
        for _ in 0..calls.div_ceil(INLINE_BATCH) {
            let start = Instant::now();
            for _ in 0..INLINE_BATCH {
                let _done = black_box(call().await);
            }
            spread(&mut times, start.elapsed());
        }
        times
    })
}

fn spread(times: &mut Vec<Duration>, batch: Duration) {
    times.extend((0..INLINE_BATCH).map(|_| batch / 100));
}

/// Lets two threads do nothing but wake each other. No call across threads can be faster.
fn park_unpark(calls: u64) -> Vec<Duration> {
    let turn = Arc::new(AtomicU64::new(0));
    let here = std::thread::current();
    let (there_turn, rounds) = (Arc::clone(&turn), calls);
    let there = std::thread::spawn(move || {
        for round in 0..rounds {
            while there_turn.load(Ordering::Acquire) != 2 * round + 1 {
                std::thread::park();
            }
            there_turn.store(2 * round + 2, Ordering::Release);
            here.unpark();
        }
    });
    let mut times = Vec::new();
    for round in 0..calls {
        let start = Instant::now();
        turn.store(2 * round + 1, Ordering::Release);
        there.thread().unpark();
        while turn.load(Ordering::Acquire) != 2 * round + 2 {
            std::thread::park();
        }
        times.push(start.elapsed());
    }
    let _joined = there.join();
    times
}

/// The rounds of the closing table, and the calls of each candidate in a round. Turns are short, so that a change in
/// the state of the machine affects every candidate alike.
const ROUNDS: usize = 40;
const CALLS_PER_ROUND: u64 = 1000;
/// The calls of each turn that are not counted, because the candidate's threads have slept through the turns of the
/// others.
const WARM_UP_CALLS: u64 = 500;

fn table(candidates: &[(String, Candidate)]) {
    let mut times: Vec<Vec<Duration>> = candidates.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, candidate), times) in candidates.iter().zip(&mut times) {
            candidate(WARM_UP_CALLS);
            times.extend(candidate(CALLS_PER_ROUND));
        }
    }
    println!("\n{:<36} {:>10} {:>10}", "taking turns, one call at a time", "p50", "p99");
    let mut medians = Vec::new();
    for ((name, _), times) in candidates.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        println!("{name:<36} {:>10.2?} {:>10.2?}", at(50), at(99));
        medians.push((name.as_str(), at(50)));
    }
    let median = |wanted: &str| {
        medians.iter().find(|(name, _)| *name == wanted).map_or(f64::NAN, |(_, median)| median.as_secs_f64())
    };
    println!();
    for &backend in Backend::ALL {
        let label = label(backend);
        let ours = median(&format!("run_in_p2p/{label}/noop"));
        let spawn = median(&format!("handle_spawn/{label}/noop"));
        println!("run_in_p2p / handle_spawn, {label}: {:.2}", ours / spawn);
    }
    let (tokio, fresh) = (median("run_in_p2p/tokio/noop"), median("fresh_runtime_per_call/noop"));
    println!("fresh runtime per call / run_in_p2p: {:.1}", fresh / tokio);
    let over = (median("inline/tokio/noop") - median("inline/plain_await/noop")) * 1e9;
    println!("inline call over plain await: {over:.0} ns");
}
