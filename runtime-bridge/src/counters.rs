//! What an executor thread counts while it works.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{registry::Kind, work::Ending};

/// What an executor thread has done so far; a plain copy of its counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls that reached the thread or ran inline on it.
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
    /// Calls that their deadline stopped.
    pub deadline_exceeded: u64,
    /// Calls turned away because as many as may be were in flight.
    pub overloaded: u64,
    /// Jobs that panicked.
    pub jobs_panicked: u64,
}

/// The counters at work.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) inline: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
    deadline_exceeded: AtomicU64,
    overloaded: AtomicU64,
    jobs_panicked: AtomicU64,
}

impl Tally {
    pub(crate) fn ended(&self, kind: Kind, ending: Ending) {
        let counter = match (kind, ending) {
            (_, Ending::Finished) | (Kind::Job, Ending::Cancelled | Ending::Expired) => return,
            (Kind::Call, Ending::Panicked) => &self.panicked,
            (Kind::Call, Ending::Cancelled) => &self.cancelled,
            (Kind::Call, Ending::Expired) => &self.deadline_exceeded,
            (Kind::Job, Ending::Panicked) => &self.jobs_panicked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
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
            jobs_panicked: self.jobs_panicked.load(Ordering::Relaxed),
        }
    }
}
