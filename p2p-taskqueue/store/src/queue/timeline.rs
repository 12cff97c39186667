use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::{
    BootId, Clock, Reading,
    backend::Clocks,
    engine::{Elapsed, Now},
};

/// Elapsed time of one opening of a store: it goes on from what the store noted last.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    boot: Option<BootId>,
    /// When the store was opened, on the machine's uptime and in elapsed time.
    opened: (Duration, Elapsed),
    /// How far the wall clock is ahead of elapsed time, to a second. Dates of spans do not tremble with the wall clock's
    /// small corrections.
    wall_ahead: AtomicI64,
}

impl Timeline {
    /// Goes on from what was noted: by the machine's uptime if it has not been restarted since, else by the wall clock. So
    /// it never goes back; and what it cannot know better goes no further than the wall clock has moved.
    pub(super) fn resume(clock: Arc<dyn Clock>, noted: Option<Clocks>) -> Self {
        let (reading, boot) = (clock.read(), clock.boot());
        let elapsed = match noted {
            Some(noted) => noted.elapsed.plus(passed_since(noted, reading, boot)),
            // A new store, or one whose numbers were lost.
            None => Elapsed::from_micros(reading.wall.as_micros()),
        };
        let wall_ahead = AtomicI64::new(ahead(reading, elapsed));
        Self { clock, boot, opened: (reading.uptime, elapsed), wall_ahead }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn now(&self) -> Now {
        let reading = self.clock.read();
        let (uptime, elapsed) = self.opened;
        let elapsed = elapsed.plus(reading.uptime.saturating_sub(uptime));
        let exact = ahead(reading, elapsed);
        let mut wall_ahead = self.wall_ahead.load(Ordering::Relaxed);
        if exact.abs_diff(wall_ahead) > CLOCK_SET_MICROS {
            wall_ahead = exact;
            self.wall_ahead.store(exact, Ordering::Relaxed);
        }
        Now { wall: reading.wall, monotonic: reading.monotonic, elapsed, wall_ahead }
    }

    /// What is to be noted of this moment.
    pub(super) fn clocks(&self, now: Now) -> Clocks {
        let (uptime, elapsed) = self.opened;
        let uptime = uptime + elapsed.until(now.elapsed);
        let uptime = i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX);
        Clocks { elapsed: now.elapsed, wall: now.wall, uptime, boot: self.boot }
    }
}

/// Whether somebody has set the wall clock since this was noted. If the note stayed as it is and the machine were
/// restarted, elapsed time would go on by as much.
pub(super) fn was_set(noted: Option<Clocks>, now: Now) -> bool {
    noted.is_none_or(|noted| {
        let ahead = noted.wall.as_micros().saturating_sub(noted.elapsed.as_micros());
        ahead.abs_diff(now.wall_ahead) > CLOCK_SET_MICROS
    })
}

fn passed_since(noted: Clocks, reading: Reading, boot: Option<BootId>) -> Duration {
    let uptime = Duration::from_micros(u64::try_from(noted.uptime).unwrap_or(0));
    match reading.uptime.checked_sub(uptime) {
        Some(passed) if boot.is_some() && boot == noted.boot => passed,
        _ => noted.wall.until(reading.wall),
    }
}

const fn ahead(reading: Reading, elapsed: Elapsed) -> i64 {
    reading.wall.as_micros().saturating_sub(elapsed.as_micros())
}

/// A time server's small corrections are below this; what a person or a start without a network sets is above.
const CLOCK_SET_MICROS: u64 = 1_000_000;
