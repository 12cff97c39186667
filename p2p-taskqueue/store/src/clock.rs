use std::{
    fmt, fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

use crate::engine::Wall;

/// The clocks of a store, and the way in which it waits for the monotonic one.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Reads all clocks now.
    fn read(&self) -> Reading;

    /// Names the boot and the machine of [`Reading::uptime`]; `None` when that is not known. Only uptimes of the same
    /// boot can be compared.
    fn boot(&self) -> Option<BootId>;

    /// Returns how long to block until the monotonic clock reaches `until`; `None` to block until a wake-up.
    fn block_for(&self, until: Duration) -> Option<Duration>;

    /// Registers a function to call whenever the clock moves other than by itself.
    fn on_move(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time of day, as people know it. Somebody may set it forward or back.
    pub wall: Wall,
    /// The time since some fixed moment of this process. It never goes back, and it stops while the machine sleeps.
    pub monotonic: Duration,
    /// The time since the machine started. It never goes back. It goes on while the machine sleeps, where the system
    /// supports that.
    pub uptime: Duration,
}

/// Names one boot of one machine.
pub type BootId = [u8; 16];

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
    boot: Option<BootId>,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now(), boot: boot_id() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn read(&self) -> Reading {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Wall::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX));
        let monotonic = self.origin.elapsed();
        Reading { wall, monotonic, uptime: uptime().unwrap_or(monotonic) }
    }

    fn boot(&self) -> Option<BootId> {
        self.boot
    }

    fn block_for(&self, until: Duration) -> Option<Duration> {
        Some(until.saturating_sub(self.origin.elapsed()))
    }

    fn on_move(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

/// The time since the machine started, including the time that it slept.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn uptime() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    // Apple's monotonic clock goes on while the machine sleeps. The one of Linux stops.
    #[cfg(target_vendor = "apple")]
    let clock = ClockId::Monotonic;
    #[cfg(not(target_vendor = "apple"))]
    let clock = ClockId::Boottime;
    clock_gettime(clock).try_into().ok()
}

/// Other systems have no such clock that safe code can read.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
const fn uptime() -> Option<Duration> {
    None
}

/// Linux's id of this boot. A container may have an uptime of its own, so the name of its time namespace is part of the
/// id.
fn boot_id() -> Option<BootId> {
    let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    let digest = Sha256::new().chain_update(boot).chain_update(namespace.as_os_str().as_encoded_bytes()).finalize();
    digest.first_chunk().copied()
}

/// Clocks that stand still until they are told to move: for tests, and for simulations.
pub struct ManualClock {
    shown: Mutex<Shown>,
    /// Each function wakes the timer of a store that runs on this clock.
    wakes: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    reading: Reading,
    boots: u64,
}

impl ManualClock {
    /// Makes clocks that show the given wall time, on a machine that has just started.
    #[must_use]
    pub fn new(wall: Wall) -> Self {
        let reading = Reading { wall, monotonic: Duration::ZERO, uptime: Duration::ZERO };
        Self { shown: Mutex::new(Shown { reading, boots: 0 }), wakes: Mutex::new(Vec::new()) }
    }

    /// Lets time pass: all clocks move on.
    pub fn advance(&self, by: Duration) {
        self.change(|Shown { reading, boots }| Shown {
            reading: Reading { monotonic: reading.monotonic + by, ..later(reading, by) },
            boots,
        });
    }

    /// Lets the machine sleep: all clocks move on except the monotonic one.
    pub fn sleep(&self, by: Duration) {
        self.change(|Shown { reading, boots }| Shown { reading: later(reading, by), boots });
    }

    /// Sets the wall clock, as an administrator or a time server would. The other clocks stay.
    pub fn set_wall(&self, wall: Wall) {
        self.change(|Shown { reading, boots }| Shown { reading: Reading { wall, ..reading }, boots });
    }

    /// Restarts the process: its monotonic time begins anew.
    pub fn restart(&self) {
        self.change(|Shown { reading, boots }| Shown {
            reading: Reading { monotonic: Duration::ZERO, ..reading },
            boots,
        });
    }

    /// Switches the machine off for a while and starts it again: only the wall clock has moved on.
    pub fn reboot(&self, off: Duration) {
        self.change(|Shown { reading, boots }| {
            let wall = later(reading, off).wall;
            Shown { reading: Reading { wall, monotonic: Duration::ZERO, uptime: Duration::ZERO }, boots: boots + 1 }
        });
    }

    fn change(&self, to: impl FnOnce(Shown) -> Shown) {
        {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            *shown = to(*shown);
        }
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|wake| wake());
    }

    fn shown(&self) -> Shown {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(reading: Reading, by: Duration) -> Reading {
    Reading { wall: reading.wall.after(by.as_secs_f64()), uptime: reading.uptime + by, ..reading }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("shown", &self.shown()).finish_non_exhaustive()
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        self.shown().reading
    }

    fn boot(&self) -> Option<BootId> {
        Some(u128::from(self.shown().boots).to_le_bytes())
    }

    fn block_for(&self, _until: Duration) -> Option<Duration> {
        None
    }

    fn on_move(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(wake);
    }
}
