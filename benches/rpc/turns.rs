//! Turns of the candidates, so that a change in the state of the machine affects all alike.

use std::time::Duration;

use super::{Error, Times};

/// A candidate that makes the given number of requests, one after the other, and returns the time of each.
pub(crate) type Latency = Box<dyn Fn(u64) -> Result<Vec<Duration>, Error>>;

/// A candidate that works for the given time, and returns how much it did per second.
pub(crate) type Rate = Box<dyn Fn(Duration) -> Result<f64, Error>>;

/// The turns of each candidate that times requests, and the requests of one turn: those that are counted, and before
/// them those that are not, because the candidate's threads have slept through the turns of the others.
const TIMED_TURNS: usize = 40;
const TURN_REQUESTS: u64 = 250;
const WARM_UP_REQUESTS: u64 = 50;

/// The turns of each candidate that counts its work; the time of a turn that is counted, and its start, which is not.
const COUNTED_TURNS: usize = 13;
const TURN: Duration = Duration::from_millis(130);
const WARM_UP: Duration = Duration::from_millis(30);

/// Measures the times of every candidate, in turns.
pub(crate) fn times_in_turns(candidates: &[(String, Latency)]) -> Result<Vec<Times>, Error> {
    let mut times: Vec<Times> = candidates.iter().map(|_| Times::default()).collect();
    for _ in 0..TIMED_TURNS {
        for ((name, candidate), times) in candidates.iter().zip(&mut times) {
            let turn = candidate(WARM_UP_REQUESTS).and_then(|_| candidate(TURN_REQUESTS));
            turn.map_err(|error| format!("{name}: {error}"))?.into_iter().for_each(|time| times.push(time));
        }
    }
    Ok(times)
}

/// The work of a candidate per second, in each round.
#[derive(Debug, Default)]
pub(crate) struct Rates(Vec<f64>);

impl Rates {
    pub(crate) fn median(&self) -> f64 {
        middle(self.0.clone())
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Returns the median of the ratios between two candidates. Each ratio is taken within one round, when the machine
    /// was in the same state.
    pub(crate) fn over(&self, other: &Self) -> f64 {
        middle(self.0.iter().zip(&other.0).map(|(this, other)| this / other).collect())
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures the rates of every candidate, in turns.
pub(crate) fn rates_in_turns(candidates: &[(String, Rate)]) -> Result<Vec<Rates>, Error> {
    let mut rates: Vec<Rates> = candidates.iter().map(|_| Rates::default()).collect();
    for _ in 0..COUNTED_TURNS {
        for ((name, candidate), rates) in candidates.iter().zip(&mut rates) {
            let rate = candidate(WARM_UP).and_then(|_| candidate(TURN));
            rates.0.push(rate.map_err(|error| format!("{name}: {error}"))?);
        }
    }
    Ok(rates)
}
