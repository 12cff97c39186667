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

/// Elapsed time during one opening of a store. It goes on from the last note in the store.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    boot: Option<BootId>,
    /// The machine's uptime and elapsed time at the opening of the store.
    opened: (Duration, Elapsed),
    /// How far the wall clock is ahead of elapsed time. It changes only when the wall clock moves by more than a
    /// second. So the dates of spans do not move with small corrections of the wall clock.
    wall_ahead: AtomicI64,
}

impl Timeline {
    /// Goes on from the clocks that were noted. If the machine has not been restarted since, its uptime says how much
    /// time has passed, otherwise the wall clock does. So elapsed time never goes back, and after a restart it moves no
    /// further than the wall clock has moved.
    pub(super) fn resume(clock: Arc<dyn Clock>, noted: Option<Clocks>) -> Self {
        let (reading, boot) = (clock.read(), clock.boot());
        let elapsed = match noted {
            Some(noted) => noted.elapsed.plus(passed_since(noted, reading, boot)),
            // The store is new, or its running numbers were lost.
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

    /// Returns the clocks to be noted for this moment.
    pub(super) fn clocks(&self, now: Now) -> Clocks {
        let (uptime, elapsed) = self.opened;
        let uptime = uptime + elapsed.until(now.elapsed);
        let uptime = i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX);
        Clocks { elapsed: now.elapsed, wall: now.wall, uptime, boot: self.boot }
    }
}

/// Whether the wall clock has been set since `noted`. If the note stayed as it is and the machine were restarted,
/// elapsed time would move by the same amount.
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

/// The largest correction of the wall clock that is ignored. A time server's small corrections are below this. A clock
/// that is set by a person, or after a start without a network, moves by more.
const CLOCK_SET_MICROS: u64 = 1_000_000;
