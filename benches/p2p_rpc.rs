//! How fast is a peer, what does the wire cost beside the same queue in one's own process, and how does that compare?
//!
//! `cargo bench -p benches --bench p2p_rpc` measures everything, in about three minutes. With names, as in
//! `… -- tcp/status submit/remote/16 runtimes`, it measures only the lines whose names contain one of them. Both nodes
//! are on this machine, each on a thread of its own. The clients are on the thread of the node that they ask, so that
//! only the wire is between the two. The performance of libp2p alone is measured in the same run. Candidates take
//! turns, and only ratios within a run are meaningful. All files are in the target folder, so the file system of that
//! folder is the one that is synced.

#![expect(clippy::print_stdout, reason = "the tables")]

mod report;
mod rpc;

use std::time::Duration;

use criterion::Criterion;
use rpc::{Error, Lines, latency, rates, runtimes};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without this argument it was started by a test run or to list tests, and there is nothing to measure.
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

/// The samples of criterion's own report; the tables take their own.
const CRITERION_SAMPLES: usize = 20;
