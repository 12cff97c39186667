//! Polling for things that no process reports: a connection that another node makes, a number in the metrics, a disk
//! that works again. For everything else the tests wait: long polls, named pipes, ends of processes.

use std::{fmt::Display, future::pending, num::NonZero, thread, time::Duration, time::Instant};

use anyhow::{Result, bail, ensure};

use super::DEADLINE;

/// Calls `look` until it finds something. Fails with `what` when it finds nothing before the deadline.
pub(crate) fn until<T>(what: impl Display, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(DEADLINE, what, look)
}

/// Does the same with another deadline.
pub(crate) fn until_within<T>(
    deadline: Duration,
    what: impl Display,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(since.elapsed() < deadline, "not in time: {what}");
        // Nobody unparks this thread, so this is a sleep.
        thread::park_timeout(PAUSE);
    }
}

/// Does the same with an async `look`.
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

/// Returns the time that something may take on this machine as busy as it is now, given the time that it may take on an
/// idle one. The work shares the processors with everything else that runs.
pub(crate) fn while_busy(idle: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    idle.mul_f64((1.0 + load / processors as f64).min(DEADLINE.div_duration_f64(idle)))
}

/// The pause between two looks, so that the processes that are asked have time for their work.
const PAUSE: Duration = Duration::from_millis(5);
