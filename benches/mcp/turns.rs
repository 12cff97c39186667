use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use tokio::runtime::Runtime;

use super::{Connection, Error, Times};

/// The turns of each candidate, and the requests of a turn at one connection: those that are counted, and before them
/// those that are not, because the candidate's threads have slept through the turns of the others.
const TURNS: usize = 25;
const TURN_REQUESTS: usize = 200;
const WARM_UP_REQUESTS: usize = 30;

/// The time of a turn at many connections that is counted, and its start, which is not.
const TURN: Duration = Duration::from_millis(150);
const WARM_UP: Duration = Duration::from_millis(30);

/// The number of connections that ask at once. Each sends its next request when the last one is answered.
const MANY: usize = 32;

/// One request to one server, and its measurements.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    place: SocketAddr,
    request: Vec<u8>,
    pub(crate) one: Times,
    one_rates: Vec<f64>,
    many: Times,
    many_rates: Vec<f64>,
}

impl Candidate {
    pub(crate) fn new(name: String, place: SocketAddr, request: Vec<u8>) -> Self {
        let (one, many) = (Times::default(), Times::default());
        Self { name, place, request, one, one_rates: Vec::new(), many, many_rates: Vec::new() }
    }

    /// Returns the median time at one connection, in microseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.one.micros_at(50)
    }

    /// Returns the calls per second at many connections.
    pub(crate) fn rate(&self) -> f64 {
        middle(&self.many_rates)
    }

    /// Returns the time that nine of ten calls at one connection do not exceed, in milliseconds. A pause that the
    /// protocol causes affects nearly every call, a pause of a busy machine only a few.
    pub(crate) fn p90_ms(&self) -> f64 {
        self.one.micros_at(90) / 1e3
    }

    pub(crate) fn row(&self) -> String {
        format!(
            "{:<28} {:>8.0} {:>8.0} {:>8.0}   {:>8.0} {:>8.0} {:>8.0}",
            self.name,
            self.one.micros_at(50),
            self.one.micros_at(99),
            middle(&self.one_rates),
            self.many.micros_at(50),
            self.many.micros_at(99),
            self.rate(),
        )
    }

    pub(crate) fn head() -> String {
        let columns = format!("{:>8} {:>8} {:>8}", "p50 µs", "p99 µs", "calls/s");
        format!("{:<28} {columns}   {columns}\n{:<28} {:<26}   32 connections", "", "", "1 connection")
    }

    async fn turn_alone(&mut self) -> Result<(), Error> {
        let mut connection = Connection::open(self.place).await?;
        for _ in 0..WARM_UP_REQUESTS {
            connection.ask(&self.request).await?;
        }
        let since = Instant::now();
        for _ in 0..TURN_REQUESTS {
            let start = Instant::now();
            connection.ask(&self.request).await?;
            self.one.push(start.elapsed());
        }
        self.one_rates.push(TURN_REQUESTS as f64 / since.elapsed().as_secs_f64());
        Ok(())
    }

    async fn turn_of_many(&mut self) -> Result<(), Error> {
        let connections = try_join_all((0..MANY).map(|_| Connection::open(self.place))).await?;
        let (counts, end) = (Instant::now() + WARM_UP, Instant::now() + WARM_UP + TURN);
        let request = &self.request;
        let clients = connections.into_iter().map(|mut connection| async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                connection.ask(request).await?;
                if start >= counts {
                    times.push(start.elapsed());
                }
            }
            Ok::<_, Error>(times)
        });
        let times = try_join_all(clients).await?.concat();
        self.many_rates.push(times.len() as f64 / TURN.as_secs_f64());
        times.into_iter().for_each(|time| self.many.push(time));
        Ok(())
    }
}

/// Measures all candidates in turns.
pub(crate) fn in_turns(runtime: &Runtime, candidates: &mut [Candidate]) -> Result<(), Error> {
    for _ in 0..TURNS {
        for candidate in &mut *candidates {
            let turns = async {
                candidate.turn_alone().await?;
                candidate.turn_of_many().await
            };
            let turned = runtime.block_on(turns);
            turned.map_err(|error| format!("{}: {error}", candidate.name))?;
        }
    }
    Ok(())
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
