use std::{sync::Arc, time::Instant};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use p2p_taskqueue::{
    Request, TaskQueueExt as _,
    api::{Get, StatusQuery},
};
use runtime_bridge::{Backend, ExecutorThread, ThreadConfig};

use super::{
    Error, Goal, Latency, Lines, ME, Pair, Place, Times, Transport, floor, one_by_one, submit, times_in_turns, wake,
};

/// Measures the time of one request.
pub(crate) fn measure(criterion: &mut Criterion, lines: &Lines, goals: &mut Vec<Goal>) -> Result<(), Error> {
    let (mut list, mut kept) = (Vec::new(), Vec::new());
    for transport in Transport::ALL {
        let name = transport.name();
        if ["echo", "status", "get", "get_in_process"].iter().any(|what| lines.want(&format!("{name}/{what}"))) {
            let (pair, ends) = (Pair::start(Backend::Tokio, transport)?, Ends::start(transport)?);
            list.extend(candidates(name, &pair, &ends)?);
            kept.push((pair, Some(ends)));
        }
    }
    let mut crowd = None;
    if lines.want("tcp/status_beside_waits") {
        let pair = Pair::start(Backend::Tokio, Transport::Tcp)?;
        crowd = Some(wake::crowd(&pair)?);
        list.push(("tcp/status_beside_waits".to_owned(), ask_status(&pair)));
        kept.push((pair, None));
    }
    if lines.want("tcp/wake") {
        let pair = Pair::start(Backend::Tokio, Transport::Tcp)?;
        list.push(("tcp/wake".to_owned(), wake::candidate(&pair)));
        kept.push((pair, None));
    }
    list.retain(|(name, _)| lines.want(name));
    if list.is_empty() {
        return Ok(());
    }
    let mut group = criterion.benchmark_group("p2p_rpc");
    list.iter().for_each(|(name, candidate)| bench(&mut group, name, candidate));
    group.finish();
    table(&list, goals)?;
    if crowd.is_some_and(|crowd| crowd.is_finished()) {
        return Err("one of the crowd did not wait".into());
    }
    Ok(())
}

#[expect(clippy::expect_used, reason = "criterion takes no errors")]
fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, candidate: &Latency) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|requests| candidate(requests).expect("an answer to every request").iter().sum());
    });
}

fn candidates(name: &str, pair: &Pair, ends: &Ends) -> Result<Vec<(String, Latency)>, Error> {
    let (place, remote) = (Place::on(&pair.here.thread), Arc::clone(&pair.remote));
    let asked = Arc::clone(&remote);
    let task_id = place.run(async move { asked.submit(&ME, submit("get")).await })??.task_id;
    let get = || Request::Get(Get { task_id });
    let there = Place::on(&pair.there.thread);
    let named = |what: &str, latency| (format!("{name}/{what}"), latency);
    Ok(vec![
        named("echo", ends.echo()?),
        named("status", ask_status(pair)),
        named("get", one_by_one(place, remote, get())),
        named("get_in_process", one_by_one(there, pair.in_process(), get())),
    ])
}

fn ask_status(pair: &Pair) -> Latency {
    let status = Request::StatusQuery(StatusQuery::default());
    one_by_one(Place::on(&pair.here.thread), Arc::clone(&pair.remote), status)
}

/// Two ends of a bare libp2p connection, each on a thread of its own.
pub(crate) struct Ends {
    here: ExecutorThread,
    _there: ExecutorThread,
    pub(crate) opener: floor::Opener,
}

impl Ends {
    pub(crate) fn start(transport: Transport) -> Result<Self, Error> {
        let start = || ExecutorThread::start(Backend::Tokio, ThreadConfig::default());
        let (here, there) = (start()?, start()?);
        let address = Place::on(&there).run(floor::listen(transport.listen_address()?, there.runtime()))??;
        let opener = Place::on(&here).run(floor::dial(address, here.runtime()))??;
        Ok(Self { here, _there: there, opener })
    }

    pub(crate) fn place(&self) -> Place {
        Place::on(&self.here)
    }

    /// Returns a candidate that sends bytes there and back on a stream that stays open.
    fn echo(&self) -> Result<Latency, Error> {
        let (place, opener) = (self.place(), self.opener.clone());
        let stream = place.run(async move { opener.open().await })??;
        let stream = Arc::new(tokio::sync::Mutex::new(stream));
        Ok(Box::new(move |requests| {
            let stream = Arc::clone(&stream);
            place.run(async move {
                let mut stream = stream.lock().await;
                let mut times = Vec::new();
                for _ in 0..requests {
                    let start = Instant::now();
                    floor::echo(&mut stream).await?;
                    times.push(start.elapsed());
                }
                Ok(times)
            })?
        }))
    }
}

fn table(candidates: &[(String, Latency)], goals: &mut Vec<Goal>) -> Result<(), Error> {
    let times = times_in_turns(candidates)?;
    println!("\none request at a time, taking turns");
    for ((name, _), times) in candidates.iter().zip(&times) {
        println!("{name:<28} {times}");
    }
    let median = |wanted: &str| {
        let found = candidates.iter().zip(&times).find(|((name, _), _)| name == wanted);
        found.map(|(_, times): (_, &Times)| times.micros_at(50))
    };
    let ratio = |what: &str, against: &str| median(what).zip(median(against)).map(|(what, against)| what / against);
    for (what, candidate, against, must) in [
        ("status / raw echo, p50", "tcp/status", "tcp/echo", 1.3),
        ("get / raw echo, p50", "tcp/get", "tcp/echo", 2.0),
        ("status / raw echo over QUIC, p50", "quic/status", "quic/echo", 1.3),
        ("get / raw echo over QUIC, p50", "quic/get", "quic/echo", 2.0),
        ("status beside 1,000 waits / without, p50", "tcp/status_beside_waits", "tcp/status", 1.5),
    ] {
        goals.extend(ratio(candidate, against).map(|ratio| Goal::at_most(what, must, "x", ratio)));
    }
    let wake =
        median("tcp/wake").map(|micros| Goal::at_most("completion to remote waiter, p50", 1_000.0, " us", micros));
    goals.extend(wake);
    Ok(())
}
