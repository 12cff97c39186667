use std::sync::Arc;

use p2p_taskqueue::{Request, api::StatusQuery};
use runtime_bridge::Backend;

use super::{
    Error, IN_FLIGHT, Latency, Lines, Pair, Place, Rate, Transport, many, one_by_one, rates_in_turns, status, submits,
    times_in_turns,
};

/// The number of clients that submit.
const SUBMITTERS: usize = 16;

/// Measures every runtime over every transport. All nodes on async-std share one thread, because a process has only
/// one.
pub(crate) fn measure(lines: &Lines) -> Result<(), Error> {
    if !lines.want("runtimes") {
        return Ok(());
    }
    let mut pairs = Vec::new();
    for &backend in Backend::ALL {
        for transport in Transport::ALL {
            pairs.push((format!("{} {}", backend.name(), transport.name()), Pair::start(backend, transport)?));
        }
    }
    let asked: Vec<(String, Latency)> = pairs.iter().map(|(name, pair)| (name.clone(), one_status(pair))).collect();
    let times = times_in_turns(&asked)?;
    let in_flight = rates_in_turns(&each(&pairs, statuses))?;
    let submits = rates_in_turns(&each(&pairs, submitting))?;
    println!("\n{:<18} {:>12} {:>16} {:>18}", "each runtime", "status p50", "64 status at once", "16 clients submit");
    for (((name, _), times), (status, submits)) in asked.iter().zip(&times).zip(in_flight.iter().zip(&submits)) {
        let (status, submits) = (status.median(), submits.median());
        println!("{name:<18} {:>9.1} us {status:>15.0}/s {submits:>16.0}/s", times.micros_at(50));
    }
    Ok(())
}

fn each(pairs: &[(String, Pair)], candidate: fn(&Pair) -> Rate) -> Vec<(String, Rate)> {
    pairs.iter().map(|(name, pair)| (name.clone(), candidate(pair))).collect()
}

fn one_status(pair: &Pair) -> Latency {
    let status = Request::StatusQuery(StatusQuery::default());
    one_by_one(Place::on(&pair.here.thread), Arc::clone(&pair.remote), status)
}

fn statuses(pair: &Pair) -> Rate {
    let remote = Arc::clone(&pair.remote);
    many(Place::on(&pair.here.thread), IN_FLIGHT, move |_, end| status(Arc::clone(&remote), end))
}

fn submitting(pair: &Pair) -> Rate {
    let remote = Arc::clone(&pair.remote);
    many(Place::on(&pair.here.thread), SUBMITTERS, move |_, end| submits(Arc::clone(&remote), end, |request| request))
}
