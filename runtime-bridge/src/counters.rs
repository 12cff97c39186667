//! What an executor thread counts while it works.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use crate::{
    histogram::{Histogram, Recorder},
    shared::Kind,
    work::Ending,
};

/// What an executor thread has done so far; a plain copy of its counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls that were admitted or ran inline.
    pub calls: u64,
    /// Those of them that ran inline, without a hop.
    pub inline: u64,
    /// Calls admitted that have not ended.
    pub in_flight: usize,
    /// Calls that the executor has not taken up yet.
    pub queue_depth: usize,
    /// Calls whose caller went away, or that the end of the thread cut off.
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Calls that their deadline stopped, in the queue or at work.
    pub deadline_exceeded: u64,
    /// Calls turned away because as many as may be were in flight.
    pub overloaded: u64,
    /// Spawned futures that panicked.
    pub spawned_panicked: u64,
    /// From a call's admission until the executor took it up. One call in 16 is timed.
    pub wait: Histogram,
    /// From then until its end, by the same sample.
    pub run: Histogram,
}

impl Counters {
    /// The share of calls that ran inline, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
    pub fn inline_share(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.inline as f64 / self.calls as f64 }
    }
}

/// The counters at work.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    inline: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
    deadline_exceeded: AtomicU64,
    overloaded: AtomicU64,
    spawned_panicked: AtomicU64,
    wait: Recorder,
    run: Recorder,
}

impl Tally {
    /// Counts an inline call. Only the executor's own thread does, so a load and a store are enough.
    pub(crate) fn inline(&self) {
        self.inline.store(self.inline.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A timed call begins; now.
    pub(crate) fn begun(&self, pushed: Instant) -> Instant {
        let now = Instant::now();
        self.wait.record(now.saturating_duration_since(pushed));
        now
    }

    /// A call or a spawned future has ended; `begun` if it is timed.
    pub(crate) fn ended(&self, kind: Kind, ending: Ending, begun: Option<Instant>) {
        if let Some(begun) = begun {
            self.run.record(begun.elapsed());
        }
        let counter = match (kind, ending) {
            (_, Ending::Finished) | (Kind::Spawned, Ending::Cancelled | Ending::Expired) => return,
            (Kind::Call | Kind::Inline, Ending::Panicked) => &self.panicked,
            (Kind::Call | Kind::Inline, Ending::Cancelled) => &self.cancelled,
            (Kind::Call | Kind::Inline, Ending::Expired) => &self.deadline_exceeded,
            (Kind::Spawned, Ending::Panicked) => &self.spawned_panicked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls were dropped before they began.
    pub(crate) fn cut_off(&self, calls: usize) {
        self.cancelled.fetch_add(u64::try_from(calls).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn overloaded(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, hops: u64, in_flight: usize, queue_depth: usize) -> Counters {
        let inline = self.inline.load(Ordering::Relaxed);
        Counters {
            calls: hops + inline,
            inline,
            in_flight,
            queue_depth,
            cancelled: self.cancelled.load(Ordering::Relaxed),
            panicked: self.panicked.load(Ordering::Relaxed),
            deadline_exceeded: self.deadline_exceeded.load(Ordering::Relaxed),
            overloaded: self.overloaded.load(Ordering::Relaxed),
            spawned_panicked: self.spawned_panicked.load(Ordering::Relaxed),
            wait: self.wait.snapshot(),
            run: self.run.snapshot(),
        }
    }
}
