//! How many calls per second cross the bridge when many callers share it?
//!
//! `cargo bench -p benches --bench bridge_throughput`. After criterion's own report a table is printed. Its candidates
//! took turns in one run.

#![expect(clippy::print_stdout, reason = "the closing table")]

mod support;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use runtime_bridge::{Backend, Bridge};
use support::{Candidates, Error, Plain, Spawner, callers, executor, label};
use tokio::{runtime::Runtime, task::JoinSet};

/// The number of concurrent callers, each with one call in flight at a time.
const CALLERS: u64 = 64;

/// One candidate: makes the given number of calls, shared among the callers, and returns the time that they took.
type Candidate = Box<dyn Fn(u64) -> Duration>;

fn main() -> Result<(), Error> {
    let candidates = candidates()?;
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("bridge_throughput");
    group.throughput(Throughput::Elements(CALLERS));
    for (name, candidate) in &candidates.list {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| candidate(rounds * CALLERS));
        });
    }
    group.finish();
    criterion.final_summary();
    if let Some(candidates) = candidates.for_table() {
        table(&candidates.list);
    }
    Ok(())
}

fn candidates() -> Result<Candidates<Candidate>, Error> {
    let callers = Arc::new(callers()?);
    let (mut list, mut threads, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for &backend in Backend::ALL {
        let thread = executor(backend)?;
        let other = Plain::start(backend)?;
        let label = label(backend);
        list.push((format!("handle_spawn/{label}/64_callers"), handle_spawn(&callers, &other.spawner)));
        list.push((format!("run_in_p2p/{label}/64_callers"), run_in_p2p(&callers, thread.bridge())));
        threads.push(thread);
        plain.push(other);
    }
    Ok(Candidates { list, _threads: threads, _plain: plain })
}

fn run_in_p2p(callers: &Arc<Runtime>, bridge: Bridge) -> Candidate {
    let callers = Arc::clone(callers);
    Box::new(move |calls| {
        let bridge = bridge.clone();
        share(
            &callers,
            move |calls| {
                let bridge = bridge.clone();
                async move {
                    for _ in 0..calls {
                        let _done = black_box(bridge.run_in_p2p(async {}).await);
                    }
                }
            },
            calls,
        )
    })
}

fn handle_spawn(callers: &Arc<Runtime>, spawner: &Spawner) -> Candidate {
    let (callers, spawner) = (Arc::clone(callers), spawner.clone());
    Box::new(move |calls| {
        let spawner = spawner.clone();
        share(
            &callers,
            move |calls| {
                let spawner = spawner.clone();
                async move {
                    for _ in 0..calls {
                        let _done = black_box(spawner.run(async {}).await);
                    }
                }
            },
            calls,
        )
    })
}

fn share<C, F>(runtime: &Runtime, caller: C, calls: u64) -> Duration
where
    C: Fn(u64) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let mut set = JoinSet::new();
    for _ in 0..CALLERS {
        set.spawn_on(caller(calls.div_ceil(CALLERS)), runtime.handle());
    }
    runtime.block_on(set.join_all());
    start.elapsed()
}

/// The rounds of the closing table, and the calls of each candidate in a round.
const ROUNDS: usize = 20;
const CALLS_PER_ROUND: u64 = 64 * 1000;

fn table(candidates: &[(String, Candidate)]) {
    let mut rates: Vec<Vec<f64>> = candidates.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, candidate), rates) in candidates.iter().zip(&mut rates) {
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
            rates.push(CALLS_PER_ROUND as f64 / candidate(CALLS_PER_ROUND).as_secs_f64());
        }
    }
    println!("\n{:<36} {:>14}", "taking turns, 64 callers", "median calls/s");
    let mut medians = Vec::new();
    for ((name, _), rates) in candidates.iter().zip(&mut rates) {
        rates.sort_unstable_by(f64::total_cmp);
        let median = rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN);
        println!("{name:<36} {median:>14.0}");
        medians.push((name.as_str(), median));
    }
    let median = |wanted: &str| medians.iter().find(|(name, _)| *name == wanted).map_or(f64::NAN, |(_, rate)| *rate);
    println!();
    for &backend in Backend::ALL {
        let label = label(backend);
        let ours = median(&format!("run_in_p2p/{label}/64_callers"));
        println!(
            "run_in_p2p / handle_spawn, {label}: {:.2}",
            ours / median(&format!("handle_spawn/{label}/64_callers"))
        );
    }
}
