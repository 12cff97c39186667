//! Durations by size, in buckets that grow with them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets per power of two: a value is known to a quarter of its size.
const STEPS: usize = 4;
const STEP_BITS: u32 = 2;
/// Powers of two above the first bucket's: up to 2^41 ns, 36 minutes; longer counts as that.
const POWERS: usize = 40;
const BUCKETS: usize = STEPS * POWERS;

/// How long things took: counts of durations, each known to a quarter of its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// The number of durations recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The duration that the given share of the recorded ones, from 0 to 1, does not exceed; none if there are
    /// none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among counts: what is lost is far below a bucket"
    )]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets().find_map(|(upper, count)| {
            seen += count;
            (seen >= rank).then_some(upper)
        })
    }

    /// The buckets: the duration below which its values are, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.counts.iter().enumerate().map(|(index, &count)| (upper_bound(index), count))
    }
}

/// A histogram being filled.
#[derive(Debug)]
pub(crate) struct Recorder {
    counts: Box<[AtomicU64]>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Recorder {
    pub(crate) fn record(&self, duration: Duration) {
        if let Some(count) = self.counts.get(bucket(duration)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        Histogram { counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect() }
    }
}

fn bucket(duration: Duration) -> usize {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(u64::from(1_u32 << STEP_BITS));
    let power = nanos.ilog2() - STEP_BITS;
    let step = (nanos >> power) & (STEPS as u64 - 1);
    let index = power as usize * STEPS + usize::try_from(step).unwrap_or(0);
    index.min(BUCKETS - 1)
}

fn upper_bound(index: usize) -> Duration {
    let (power, step) = (index / STEPS, index % STEPS);
    Duration::from_nanos(((STEPS + step + 1) as u64) << power)
}

#[cfg(all(test, not(bridge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_below_its_bound_and_not_below_the_one_before() {
        for nanos in (4..5_000).chain((13..41).map(|power| (1_u64 << power) - 1)) {
            let index = bucket(Duration::from_nanos(nanos));
            assert!(Duration::from_nanos(nanos) < upper_bound(index), "{nanos} ns in bucket {index}");
            assert!(index == 0 || upper_bound(index - 1) <= Duration::from_nanos(nanos), "{nanos} ns in {index}");
        }
    }

    #[test]
    fn extremes_have_a_bucket() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_the_bounds_of_the_ranks() {
        let recorder = Recorder::default();
        assert_eq!(recorder.snapshot().quantile(0.5), None);
        for micros in 1..=100 {
            recorder.record(Duration::from_micros(micros));
        }
        let histogram = recorder.snapshot();
        assert_eq!(histogram.count(), 100);
        let median = histogram.quantile(0.5).unwrap();
        assert!(median >= Duration::from_micros(50) && median <= Duration::from_micros(63), "{median:?}");
        assert!(histogram.quantile(1.0).unwrap() >= Duration::from_micros(100));
    }
}
