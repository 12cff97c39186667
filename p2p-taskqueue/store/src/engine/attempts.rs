use std::sync::Arc;

use taskqueue_api::{
    AttemptOutcome, PeerId,
    limits::{ATTEMPT_ERROR_BYTES_MAX, ATTEMPTS_SHOWN_MAX},
};

use super::Wall;

/// One attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The machine whose worker claimed the task.
    pub machine: PeerId,
    /// The worker, by the name that it gave itself.
    pub worker: String,
    /// The time of the claim.
    pub started_at: Wall,
    /// How it ended; `None` while it runs.
    pub end: Option<AttemptEnd>,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// The time of the end.
    pub at: Wall,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What its worker said, or why the queue ended it.
    pub error: Option<String>,
}

/// The last attempts at a task, the oldest first. They are shared, because a task is copied with each change.
///
/// Beside a running attempt, as many ended ones are kept as a record shows. So none is missing when the running one is
/// taken back because nobody received its claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts(Option<Arc<Vec<Attempt>>>);

impl Attempts {
    /// The attempts at a task that nobody has claimed.
    pub const NONE: Self = Self(None);

    /// Makes the list from attempts that were read.
    #[cfg(any(test, feature = "sqlite"))]
    pub(crate) fn of(attempts: Vec<Attempt>) -> Self {
        Self((!attempts.is_empty()).then(|| Arc::new(attempts)))
    }

    /// The attempts that are kept.
    #[must_use]
    pub fn as_slice(&self) -> &[Attempt] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The machine that holds the task; `None` when no attempt runs, or when it is not known who runs it.
    #[must_use]
    pub fn holder(&self) -> Option<PeerId> {
        self.as_slice().last().filter(|last| last.end.is_none()).map(|last| last.machine)
    }

    /// Estimates the size in an answer, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let text = |of: &Attempt| of.end.as_ref().and_then(|end| end.error.as_ref()).map_or(0, String::len);
        self.as_slice().iter().map(|of| ATTEMPT_BYTES_AROUND + of.worker.len() + text(of)).sum()
    }

    /// Adds an attempt that begins now.
    pub(super) fn begun(mut self, machine: PeerId, worker: String, now: Wall) -> Self {
        let list = Arc::make_mut(self.0.get_or_insert_default());
        list.push(Attempt { machine, worker, started_at: now, end: None });
        self
    }

    /// Ends the attempt that runs, if one does.
    pub(super) fn ended(mut self, outcome: AttemptOutcome, error: Option<&str>, now: Wall) -> Self {
        if self.holder().is_none() {
            return self;
        }
        let Some(list) = self.0.as_mut().map(Arc::make_mut) else { return self };
        if let Some(last) = list.last_mut() {
            let error = error.map(|text| clipped(text, ATTEMPT_ERROR_BYTES_MAX).to_owned());
            last.end = Some(AttemptEnd { at: now, outcome, error });
        }
        let too_many = list.len().saturating_sub(ATTEMPTS_SHOWN_MAX);
        list.drain(..too_many);
        self
    }

    /// Takes back the attempt that runs, as if it had not begun.
    pub(super) fn undone(mut self) -> Self {
        if self.holder().is_some()
            && let Some(list) = self.0.as_mut().map(Arc::make_mut)
        {
            list.pop();
        }
        if self.as_slice().is_empty() { Self::NONE } else { self }
    }

    /// The attempts as records show them.
    pub(super) fn shown(&self) -> Vec<taskqueue_api::Attempt> {
        let list = self.as_slice();
        let hidden = list.len().saturating_sub(ATTEMPTS_SHOWN_MAX);
        list.iter().skip(hidden).map(shown).collect()
    }
}

fn shown(attempt: &Attempt) -> taskqueue_api::Attempt {
    let Attempt { machine, worker, started_at, end } = attempt;
    taskqueue_api::Attempt {
        machine: *machine,
        machine_name: None,
        worker_id: worker.clone(),
        started_at: started_at.as_secs(),
        ended_at: end.as_ref().map(|end| end.at.as_secs()),
        outcome: end.as_ref().map(|end| end.outcome),
        error: end.as_ref().and_then(|end| end.error.clone()),
    }
}

/// Returns the beginning of a text, up to this many bytes.
pub(super) fn clipped(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// The bytes of an attempt's machine, times and outcome, with their names, as JSON.
const ATTEMPT_BYTES_AROUND: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_micros(7);

    fn many(count: usize) -> Attempts {
        let machine = PeerId::random();
        (0..count).fold(Attempts::NONE, |list, number| {
            list.begun(machine, number.to_string(), NOW).ended(AttemptOutcome::Failed, Some("no"), NOW)
        })
    }

    fn workers(list: &Attempts) -> Vec<String> {
        list.shown().into_iter().map(|attempt| attempt.worker_id).collect()
    }

    #[test]
    fn an_attempt_that_is_taken_back_hides_none_of_those_before_it() {
        let before = many(2 * ATTEMPTS_SHOWN_MAX);
        let running = before.clone().begun(PeerId::random(), "last".to_owned(), NOW);
        assert_eq!(workers(&running).len(), ATTEMPTS_SHOWN_MAX);
        assert_eq!(workers(&running).last().map(String::as_str), Some("last"));
        assert_eq!(running.undone(), before);
        let none = Attempts::NONE;
        assert_eq!(none.clone().begun(PeerId::random(), "w".to_owned(), NOW).undone(), none);
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        let list = many(3);
        assert_eq!(list.clone().ended(AttemptOutcome::Freed, None, Wall::from_micros(9)), list);
        assert_eq!((list.clone().undone(), list.holder()), (list, None));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let error = "\u{fc}".repeat(ATTEMPT_ERROR_BYTES_MAX);
        let list = Attempts::NONE.begun(PeerId::random(), "w".to_owned(), NOW);
        let list = list.ended(AttemptOutcome::Failed, Some(&format!("a{error}")), NOW);
        let kept = list.shown().remove(0).error.unwrap();
        assert_eq!(kept.len(), ATTEMPT_ERROR_BYTES_MAX - 1);
        assert!(list.bytes() > kept.len());
    }
}
