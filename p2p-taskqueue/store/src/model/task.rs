//! A task of the model: what a reader of the documents would expect of it.

use std::collections::BTreeMap;

use taskqueue_api::{FailedBy, Fence, Json, OnParentFailure, Submit, TaskId, TaskStatus};

/// A point in time, in microseconds: of wall time since the Unix epoch, of the other clocks since some moment.
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
    /// Its date has to come.
    Scheduled,
    /// Others have to end first.
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

/// A text whose wording is nobody's business but which must tell certain things.
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

    /// What it must tell, for a text that repeats it.
    pub(super) fn parts(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Is(text) => vec![text.clone()],
            Self::Tells(parts) => parts.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) submit: Submit,
    pub(super) state: State,
    /// It was removed: nobody finds it any more.
    pub(super) gone: bool,
    pub(super) created_at: Micros,
    /// From when it is claimable: its place among those of its priority. In elapsed time, as `deadline` and `removed_at`.
    pub(super) ready_at: Micros,
    /// The time for which it waits lies in this range; which it is will be seen.
    pub(super) backoff: Option<(Micros, Micros)>,
    /// A date.
    pub(super) not_before: Option<Micros>,
    pub(super) deadline: Option<Micros>,
    /// The tasks that it comes after which have to end.
    pub(super) waits_for: Vec<TaskId>,
    pub(super) attempt: u32,
    /// All that were issued for it.
    pub(super) fences: Vec<Fence>,
    pub(super) worker: Option<String>,
    pub(super) lease_s: f64,
    pub(super) lease_until: Option<Micros>,
    /// On the monotonic clock.
    pub(super) lease_end: Micros,
    /// Since the store was opened again after its worker was last heard of: until when the lease is kept.
    pub(super) kept_until: Option<Micros>,
    /// Somebody asked for it to be called off.
    pub(super) cancel: Option<String>,
    pub(super) progress: Option<f64>,
    pub(super) status_message: Option<String>,
    pub(super) error: Text,
    /// What the attempt that runs asks, and nobody has answered.
    pub(super) open: BTreeMap<String, Json>,
    pub(super) answers: BTreeMap<String, Json>,
    pub(super) result: Option<Json>,
    pub(super) ended_at: Micros,
    pub(super) removed_at: Micros,
    pub(super) dead: bool,
    pub(super) failed_by: Option<FailedBy>,
    pub(super) updated_at: Micros,
    /// When something happened to it that may count as a change or not.
    pub(super) touched_at: Option<Micros>,
    /// The step in which it became claimable.
    pub(super) ready_in: usize,
    /// Whether it was then given a place behind all others, and not one for its own time.
    pub(super) is_placed: bool,
    /// The tasks that its completion has made, in the order of its list; none for one that was there already.
    pub(super) made: Vec<Option<TaskId>>,
    /// The clause by which it last changed, if that was not seen yet.
    pub(super) changed: Option<&'static str>,
}

impl Task {
    pub(super) fn status(&self) -> TaskStatus {
        self.state.status()
    }

    pub(super) fn has_attempts_left(&self) -> bool {
        self.submit.max_attempts == 0 || self.attempt < self.submit.max_attempts
    }

    /// Whether the end of a task that it comes after lets it run.
    pub(super) fn runs_after(&self, parent: TaskStatus) -> bool {
        parent == TaskStatus::Completed || self.submit.on_parent_failure == OnParentFailure::Run
    }

    /// Seconds from which to which its backoff may be.
    pub(super) fn backoff_s(&self) -> (f64, f64) {
        let mut steady = self.submit.backoff_s;
        for _ in 1..self.attempt {
            steady = (2.0 * steady).min(BACKOFF_MAX_S);
        }
        (0.8 * steady, (1.2 * steady).min(BACKOFF_MAX_S))
    }
}

const BACKOFF_MAX_S: f64 = 300.0;
