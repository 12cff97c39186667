//! What a test looks for again and again, because no process tells of it: a connection that somebody else makes, a number in
//! the metrics, a disk that works again. All else is waited for: long polls, named pipes, ends of processes.

use std::{fmt::Display, future::pending, num::NonZero, thread, time::Duration, time::Instant};

use anyhow::{Result, bail, ensure};

use super::DEADLINE;

/// Looks until something is found; fails with `what` when it is not there before the deadline.
pub(crate) fn until<T>(what: impl Display, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(since.elapsed() < DEADLINE, "not in time: {what}");
        // Nobody unparks it.
        thread::park_timeout(PAUSE);
    }
}

/// The same for a look that is awaited.
pub(crate) async fn until_async<T>(what: impl Display, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let since = Instant::now();
    while since.elapsed() < DEADLINE {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        let _over = tokio::time::timeout(PAUSE, pending::<()>()).await;
    }
    bail!("not in time: {what}")
}

/// How long something may take on this machine as busy as it is, that may take so long on an idle one: the work that is to be
/// done shares the processors with whatever else runs.
pub(crate) fn while_busy(idle: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    idle.mul_f64((1.0 + load / processors as f64).min(DEADLINE.div_duration_f64(idle)))
}

/// Between two looks, for those whom the look asks.
const PAUSE: Duration = Duration::from_millis(5);
