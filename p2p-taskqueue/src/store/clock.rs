use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::engine::{Now, Wall};

/// The two clocks that a store goes by, and how it waits for the first.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The moment on both clocks. The monotonic one never goes back.
    fn now(&self) -> Now;

    /// How long to block until the monotonic clock reaches `until`; `None` when only a wake-up tells.
    fn block_for(&self, until: Duration) -> Option<Duration>;

    /// Registers what must be called whenever the clock moves other than by itself.
    fn on_move(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Wall::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX));
        Now { wall, monotonic: self.origin.elapsed(), steady: wall }
    }

    fn block_for(&self, until: Duration) -> Option<Duration> {
        Some(until.saturating_sub(self.origin.elapsed()))
    }

    fn on_move(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

/// A clock that stands still until it is told to move: for tests, and for simulations.
pub struct ManualClock {
    now: Mutex<Now>,
    /// Each wakes the timer of a store that goes by this clock.
    wakes: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl ManualClock {
    /// A clock that shows the given wall time.
    #[must_use]
    pub fn new(wall: Wall) -> Self {
        Self { now: Mutex::new(Now { wall, monotonic: Duration::ZERO, steady: wall }), wakes: Mutex::new(Vec::new()) }
    }

    /// Moves both clocks on and wakes whoever goes by them.
    pub fn advance(&self, by: Duration) {
        self.change(|now| {
            let wall = now.wall.after(by.as_secs_f64());
            Now { wall, monotonic: now.monotonic + by, steady: wall }
        });
    }

    /// Sets the wall clock, as an administrator or a time server would; the monotonic clock stays.
    pub fn set_wall(&self, wall: Wall) {
        self.change(|now| Now { wall, steady: wall, ..now });
    }

    fn change(&self, to: impl FnOnce(Now) -> Now) {
        {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = to(*now);
        }
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|wake| wake());
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block_for(&self, _until: Duration) -> Option<Duration> {
        None
    }

    fn on_move(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(wake);
    }
}
