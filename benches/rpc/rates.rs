use std::{sync::Arc, time::Instant};

use p2p_taskqueue::{Request, api::At};
use runtime_bridge::Backend;

use super::{
    Error, Goal, IN_FLIGHT, Lines, Pair, Place, Rate, Transport, cycles, floor, latency::Ends, many, rates_in_turns,
    status, submits,
};

const CLIENTS: [usize; 3] = [1, 16, 64];

/// Measures how much is done per second.
pub(crate) fn measure(lines: &Lines, goals: &mut Vec<Goal>) -> Result<(), Error> {
    let (pair, ends) = (Pair::start(Backend::Tokio, Transport::Tcp)?, Ends::start(Transport::Tcp)?);
    let mut list = in_flight(&pair, &ends);
    for clients in CLIENTS {
        list.extend(durable(&pair, clients));
    }
    list.retain(|(name, _)| lines.want(name));
    if list.is_empty() {
        return Ok(());
    }
    let rates = rates_in_turns(&list)?;
    println!("\n{:<28} {:>10} {:>10} {:>10}", "a second, taking turns", "median", "least", "most");
    for ((name, _), rates) in list.iter().zip(&rates) {
        println!("{name:<28} {:>10.0} {:>10.0} {:>10.0}", rates.median(), rates.least(), rates.most());
    }
    let of = |wanted: &str| list.iter().zip(&rates).find(|((name, _), _)| name == wanted).map(|(_, rates)| rates);
    let ratio = |what: &str, against: &str| of(what).zip(of(against)).map(|(what, against)| what.over(against));
    for (what, candidate, against, must) in [
        ("64 status in flight / a stream for each request", "in_flight/status", "in_flight/stream_each", 3.0),
        ("submits of 16 clients / in process", "submit/remote/16", "submit/in_process/16", 0.7),
        ("submits of 64 clients / in process", "submit/remote/64", "submit/in_process/64", 0.7),
        ("cycles of 16 clients / in process", "cycle/remote/16", "cycle/in_process/16", 0.7),
        ("cycles of 64 clients / in process", "cycle/remote/64", "cycle/in_process/64", 0.7),
    ] {
        goals.extend(ratio(candidate, against).map(|ratio| Goal::at_least(what, must, "x", ratio)));
    }
    Ok(())
}

/// Returns the candidates whose requests are answered at once, without the disk.
fn in_flight(pair: &Pair, ends: &Ends) -> Vec<(String, Rate)> {
    let (remote, opener) = (Arc::clone(&pair.remote), ends.opener.clone());
    let one_stream = many(Place::on(&pair.here.thread), IN_FLIGHT, move |_, end| status(Arc::clone(&remote), end));
    let stream_each = many(ends.place(), IN_FLIGHT, move |_, end| {
        let opener = opener.clone();
        Box::pin(async move {
            let mut count = 0;
            while Instant::now() < end {
                floor::echo(&mut opener.open().await?).await?;
                count += 1;
            }
            Ok(count)
        })
    });
    vec![("in_flight/status".to_owned(), one_stream), ("in_flight/stream_each".to_owned(), stream_each)]
}

/// Returns the candidates whose requests are on disk before they are answered. They are asked in three ways: over the
/// wire; through the own node, which durably notes which peer it gave each task to; and in the owner's process.
fn durable(pair: &Pair, clients: usize) -> Vec<(String, Rate)> {
    let (here, there) = (Place::on(&pair.here.thread), Place::on(&pair.there.thread));
    let remote = || Arc::clone(&pair.remote);
    let (at, own) = (pair.target.clone(), pair.here.node.queue());
    let plain = |queue: super::Queue| move |_, end| submits(Arc::clone(&queue), end, |request| request);
    let cycle = |queue: super::Queue| move |client, end| cycles(Arc::clone(&queue), client, end);
    let routed = move |_, end| {
        let at = at.clone();
        submits(Arc::clone(&own), end, move |request: Request| At::request(at.clone(), request))
    };
    vec![
        (format!("submit/remote/{clients}"), many(here.clone(), clients, plain(remote()))),
        (format!("submit/routed/{clients}"), many(here.clone(), clients, routed)),
        (format!("submit/in_process/{clients}"), many(there.clone(), clients, plain(pair.in_process()))),
        (format!("cycle/remote/{clients}"), many(here, clients, cycle(remote()))),
        (format!("cycle/in_process/{clients}"), many(there, clients, cycle(pair.in_process()))),
    ]
}
