use std::time::Duration;

/// Defines a point in time, in microseconds since the beginning of its clock.
macro_rules! point {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// Builds the time from microseconds since the beginning of its clock.
            #[must_use]
            pub const fn from_micros(micros: i64) -> Self {
                Self(micros)
            }

            /// The microseconds since the beginning of its clock.
            #[must_use]
            pub const fn as_micros(self) -> i64 {
                self.0
            }

            /// The time that is this many seconds later.
            #[must_use]
            pub fn after(self, seconds: f64) -> Self {
                Self(self.0.saturating_add(micros(seconds)))
            }

            /// The time from this point until a later one; zero when the later one is past.
            #[must_use]
            pub fn until(self, later: Self) -> Duration {
                Duration::from_micros(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
            }
        }
    };
}

point! {
    /// A date: a point in wall-clock time, which begins at the Unix epoch.
    ///
    /// It is used for records and schedules (`not_before`). It is never used for leases or spans, because somebody may
    /// set the wall clock.
    Wall
}

point! {
    /// A point in elapsed time. Spans run on it: delays, backoff, deadlines, windows, retention.
    ///
    /// Elapsed time counts the time since the store was made, including the time when the machine slept or the store
    /// was closed. Nobody can set it.
    ///
    /// A new store begins at the wall time of its making.
    Elapsed
}

impl Wall {
    /// Builds the date from Unix seconds.
    #[must_use]
    pub fn from_secs(seconds: f64) -> Self {
        Self(micros(seconds))
    }

    /// The Unix seconds with fractions, as records show them.
    #[must_use]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / MICROS_PER_SECOND
    }
}

impl Elapsed {
    /// The time that is `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// The moment of a decision, on all clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The clock of dates and schedules.
    pub wall: Wall,
    /// The clock of leases and waits: the time since some fixed moment, without the time that the machine slept (clause
    /// T5).
    pub monotonic: Duration,
    /// The clock of spans.
    pub elapsed: Elapsed,
    /// How far the wall clock is ahead of elapsed time, in microseconds.
    pub wall_ahead: i64,
}

impl Now {
    /// The date of a point in elapsed time, by the present wall clock.
    #[must_use]
    pub const fn date_of(self, at: Elapsed) -> Wall {
        Wall(at.0.saturating_add(self.wall_ahead))
    }

    /// The point in elapsed time that has this date, by the present wall clock.
    #[must_use]
    pub const fn elapsed_at(self, date: Wall) -> Elapsed {
        Elapsed(date.0.saturating_sub(self.wall_ahead))
    }
}

/// Removes the sign of a zero. Records show zeros without a sign, because not every store keeps it.
pub(super) fn unsigned_zero(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates, and NaN becomes zero")]
fn micros(seconds: f64) -> i64 {
    (seconds * MICROS_PER_SECOND).round() as i64
}

const MICROS_PER_SECOND: f64 = 1e6;
