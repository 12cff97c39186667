//! Candidates take turns, so that a change in the machine's mood meets all alike.

use std::time::Duration;

use super::{Error, Times};

/// Asks so often, one after the other, and tells how long each took.
pub(crate) type Latency = Box<dyn Fn(u64) -> Result<Vec<Duration>, Error>>;

/// Works for so long and tells how much it did a second.
pub(crate) type Rate = Box<dyn Fn(Duration) -> Result<f64, Error>>;

/// Turns of each candidate that times requests, and the requests of one turn that count and that do not: the
/// candidate's threads have slept through the turns of the others.
const TIMED_TURNS: usize = 40;
const TURN_REQUESTS: u64 = 250;
const WARM_UP_REQUESTS: u64 = 50;

/// Turns of each candidate that counts; how long a turn counts, and the start of each, which does not.
const COUNTED_TURNS: usize = 13;
const TURN: Duration = Duration::from_millis(130);
const WARM_UP: Duration = Duration::from_millis(30);

/// The times of every candidate.
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

/// The median of what every candidate did a second, the least and the most.
pub(crate) fn rates_in_turns(candidates: &[(String, Rate)]) -> Result<Vec<[f64; 3]>, Error> {
    let mut rates: Vec<Vec<f64>> = candidates.iter().map(|_| Vec::new()).collect();
    for _ in 0..COUNTED_TURNS {
        for ((name, candidate), rates) in candidates.iter().zip(&mut rates) {
            let rate = candidate(WARM_UP).and_then(|_| candidate(TURN));
            rates.push(rate.map_err(|error| format!("{name}: {error}"))?);
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_unstable_by(f64::total_cmp));
    let at = |rates: &[f64], index: usize| rates.get(index).copied().unwrap_or(f64::NAN);
    Ok(rates.iter().map(|rates| [COUNTED_TURNS / 2, 0, COUNTED_TURNS - 1].map(|index| at(rates, index))).collect())
}
