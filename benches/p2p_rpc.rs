//! How fast is a peer, what does the wire cost beside the same queue in one's own process, and against what is that much?
//!
//! `cargo bench -p benches --bench p2p_rpc` measures everything, in about three minutes; with names, as in
//! `… -- tcp/status submit/remote/16 runtimes`, only the lines that one of them is part of. Both nodes are on this
//! machine, each on a thread of its own, and those who ask are on the thread of theirs, so that nothing but the wire lies
//! between the two. What libp2p alone can do is measured in the same run; candidates take turns, and only ratios within a
//! run mean anything. All files are in the target folder: it is the file system of that one that is synced.

#![expect(clippy::print_stdout, reason = "the tables")]

mod report;
mod rpc;

use std::time::Duration;

use criterion::Criterion;
use rpc::{Error, Lines, latency, rates, runtimes};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Built and started by a test or a list of tests: there is nothing to measure.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lines = Lines::new(arguments);
    let mut criterion = Criterion::default()
        .sample_size(CRITERION_SAMPLES)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let mut goals = Vec::new();
    latency::measure(&mut criterion, &lines, &mut goals)?;
    rates::measure(&lines, &mut goals)?;
    runtimes::measure(&lines)?;
    criterion.final_summary();
    println!("\n{:<52} {:>12} {:>12}", "what", "measured", "must");
    for goal in goals {
        println!("{goal}");
    }
    Ok(())
}

/// Enough for criterion's own report; the tables take their own.
const CRITERION_SAMPLES: usize = 20;
