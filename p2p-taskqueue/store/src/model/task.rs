//! A task of the model, as a reader of the documents expects it.

use std::collections::BTreeMap;

use taskqueue_api::{AttemptOutcome, FailedBy, Fence, Json, OnParentFailure, PeerId, Submit, TaskId, TaskStatus};

/// A point in time in microseconds. Wall time counts from the Unix epoch, the other clocks from any moment.
pub(super) type Micros = i64;

pub(super) const fn as_secs(at: Micros) -> f64 {
    at as f64 / 1e6
}

#[expect(clippy::cast_possible_truncation, reason = "histories have times of this century")]
pub(super) fn micros(seconds: f64) -> Micros {
    (seconds * 1e6).round() as Micros
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Delayed,
    /// It waits for its date.
    Scheduled,
    /// It waits for the ends of other tasks.
    Blocked,
    Running,
    Ended(TaskStatus),
}

impl State {
    pub(super) const fn status(self) -> TaskStatus {
        match self {
            Self::Ready | Self::Delayed | Self::Scheduled | Self::Blocked => TaskStatus::Queued,
            Self::Running => TaskStatus::Running,
            Self::Ended(status) => status,
        }
    }
}

/// What a delay comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delay {
    /// Its submitter, or a worker that gave it back.
    Asked,
    /// An attempt that failed, or whose lease ended.
    Lost,
}

/// A text that must contain certain parts, and whose other wording does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    None,
    Is(String),
    Tells(Vec<String>),
}

impl Text {
    pub(super) fn fits(&self, observed: Option<&str>) -> bool {
        match (self, observed) {
            (Self::None, None) => true,
            (Self::Is(text), Some(observed)) => text == observed,
            (Self::Tells(parts), Some(observed)) => parts.iter().all(|part| observed.contains(part)),
            _ => false,
        }
    }

    /// Returns the parts that it must contain, for another text that repeats it.
    pub(super) fn parts(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Is(text) => vec![text.clone()],
            Self::Tells(parts) => parts.clone(),
        }
    }
}

/// An attempt at a task.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) machine: PeerId,
    pub(super) worker: String,
    pub(super) from: Micros,
    /// When and how it ended.
    pub(super) ended: Option<(Micros, AttemptOutcome)>,
    pub(super) error: Text,
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) submit: Submit,
    pub(super) state: State,
    /// It was removed, and cannot be found any more.
    pub(super) gone: bool,
    pub(super) created_at: Micros,
    /// When it becomes claimable, in elapsed time as `deadline` and `removed_at`. This is its place among the tasks of
    /// its priority.
    pub(super) ready_at: Micros,
    /// The range in which its `ready_at` lies after a backoff. The record will show which value it is.
    pub(super) backoff: Option<(Micros, Micros)>,
    /// What its delay comes from, if it is delayed.
    pub(super) delay: Delay,
    /// A date on the wall clock.
    pub(super) not_before: Option<Micros>,
    pub(super) deadline: Option<Micros>,
    /// The parents that have not ended.
    pub(super) waits_for: Vec<TaskId>,
    pub(super) attempt: u32,
    /// All fences that were issued for it.
    pub(super) fences: Vec<Fence>,
    pub(super) worker: Option<String>,
    /// The machine that submitted it, unless that is the owner.
    pub(super) submitted_by: Option<PeerId>,
    /// Every attempt so far, but those whose claim nobody received.
    pub(super) ran: Vec<Ran>,
    pub(super) lease_s: f64,
    pub(super) lease_until: Option<Micros>,
    /// The end of its lease on the monotonic clock.
    pub(super) lease_end: Micros,
    /// Until when its lease is kept, if the store was reopened since the last sign of its worker.
    pub(super) kept_until: Option<Micros>,
    /// The reason of a cancellation that was requested.
    pub(super) cancel: Option<String>,
    pub(super) progress: Option<f64>,
    pub(super) status_message: Option<String>,
    pub(super) error: Text,
    /// Open questions of the running attempt.
    pub(super) open: BTreeMap<String, Json>,
    pub(super) answers: BTreeMap<String, Json>,
    pub(super) result: Option<Json>,
    pub(super) ended_at: Micros,
    pub(super) removed_at: Micros,
    pub(super) dead: bool,
    pub(super) failed_by: Option<FailedBy>,
    pub(super) updated_at: Micros,
    /// When something happened to it that may or may not count as a change.
    pub(super) touched_at: Option<Micros>,
    /// The step in which it became claimable.
    pub(super) ready_in: usize,
    /// Whether it got a place behind all others then, and not the place of its own time.
    pub(super) is_placed: bool,
    /// The tasks that its completion has made, in the order of its list; `None` for a task that existed before.
    pub(super) made: Vec<Option<TaskId>>,
    /// The clause of its last change, if that was not compared yet.
    pub(super) changed: Option<&'static str>,
}

impl Task {
    pub(super) fn status(&self) -> TaskStatus {
        self.state.status()
    }

    pub(super) fn has_attempts_left(&self) -> bool {
        self.submit.max_attempts == 0 || self.attempt < self.submit.max_attempts
    }

    /// Notes how its running attempt has ended. An attempt that has ended stays as it is.
    pub(super) fn ran(&mut self, at: Micros, outcome: AttemptOutcome, error: Text) {
        if let Some(last) = self.ran.last_mut().filter(|last| last.ended.is_none()) {
            (last.ended, last.error) = (Some((at, outcome)), error);
        }
    }

    /// Returns the machine that runs it.
    pub(super) fn holder(&self) -> Option<PeerId> {
        self.ran.last().filter(|last| last.ended.is_none()).map(|last| last.machine)
    }

    /// Returns whether it may run after a parent that ended in this state.
    pub(super) fn runs_after(&self, parent: TaskStatus) -> bool {
        parent == TaskStatus::Completed || self.submit.on_parent_failure == OnParentFailure::Run
    }

    /// Returns the shortest and the longest backoff, in seconds.
    pub(super) fn backoff_s(&self) -> (f64, f64) {
        let mut steady = self.submit.backoff_s;
        for _ in 1..self.attempt {
            steady = (2.0 * steady).min(BACKOFF_MAX_S);
        }
        (0.8 * steady, (1.2 * steady).min(BACKOFF_MAX_S))
    }
}

const BACKOFF_MAX_S: f64 = 300.0;
