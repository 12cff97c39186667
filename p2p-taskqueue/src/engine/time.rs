use std::time::Duration;

/// A point in wall-clock time, in microseconds since the Unix epoch: for dates and schedules, never for leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(i64);

impl Wall {
    /// Builds it from microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Builds it from Unix seconds.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates, and NaN becomes the epoch")]
    pub fn from_secs(seconds: f64) -> Self {
        Self((seconds * MICROS_PER_SECOND).round() as i64)
    }

    /// Unix seconds with fractions, as records carry them.
    #[must_use]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / MICROS_PER_SECOND
    }

    /// The time this many seconds later.
    #[must_use]
    pub fn after(self, seconds: f64) -> Self {
        Self(self.0.saturating_add(Self::from_secs(seconds).0))
    }

    /// How long from this time until a later one; zero when it is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_micros(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// The moment of a decision on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What dates and schedules go by.
    pub wall: Wall,
    /// What leases go by: time since some fixed moment, which no clock setting moves (clause T5).
    pub monotonic: Duration,
    /// What spans go by (deadlines, windows, retention): the wall time at which the store was opened, and the monotonic
    /// time since. So a wall clock that is set ends no span early or late. A clock by itself says the wall time here.
    pub steady: Wall,
}

impl Now {
    /// The same moment for somebody who began at `start`.
    #[must_use]
    pub fn since(self, start: Self) -> Self {
        let passed = self.monotonic.saturating_sub(start.monotonic);
        Self { steady: start.wall.after(passed.as_secs_f64()), ..self }
    }
}

const MICROS_PER_SECOND: f64 = 1e6;
