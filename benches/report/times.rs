use std::{fmt, time::Duration};

/// The times of something that was done many times.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Returns the time that `percent` percent do not exceed.
    pub(crate) fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
    }

    pub(crate) fn micros_at(&self, percent: usize) -> f64 {
        self.at(percent).as_secs_f64() * 1e6
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:>9.1?}, p99 {:>9.1?} of {}", self.at(50), self.at(99), self.0.len())
    }
}
