//! Why a queued task waits, by the model's own clocks, pauses, limits and parents.

use taskqueue_api::{WaitReason, WaitingFor, span_text};

use super::{
    queue::{Clocks, Queue},
    task::{Delay, Micros, State, Task, as_secs},
};

/// The reason that an answer must give, and what its message must contain: of each list, one of the texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Why {
    reason: WaitReason,
    tells: Vec<Vec<String>>,
}

impl Why {
    fn new(reason: WaitReason, tells: impl IntoIterator<Item = String>) -> Self {
        Self { reason, tells: tells.into_iter().map(|text| vec![text]).collect() }
    }

    /// Adds a span of time. Its end is rounded, because a submit has it in seconds.
    fn in_span(mut self, span: Micros) -> Self {
        let near = [-1, 0, 1].map(|micros| span_text(as_secs(span + micros)));
        self.tells.push(near.map(|text| format!("in {text}")).to_vec());
        self
    }

    fn fits(&self, observed: &WaitingFor) -> bool {
        let WaitingFor { reason, message, lacking, nearest, machines } = observed;
        let has_message = self.tells.iter().all(|texts| texts.iter().any(|text| message.contains(text.as_str())));
        *reason == self.reason && has_message && lacking.is_none() && nearest.is_none() && machines.is_empty()
    }
}

/// Whether an answer gives the reason that the model expects.
pub(super) fn fits(expected: Option<&Why>, observed: Option<&WaitingFor>) -> bool {
    match (expected, observed) {
        (None, None) => true,
        (Some(expected), Some(observed)) => expected.fits(observed),
        _ => false,
    }
}

impl Queue {
    /// Returns why no worker may take a queued task; `None` when one may, or when the task is not queued.
    pub(super) fn why(&self, task: &Task) -> Option<Why> {
        let Clocks { wall, elapsed, .. } = self.clocks;
        match task.state {
            State::Running | State::Ended(_) => None,
            State::Blocked => {
                let tasks = if task.waits_for.len() == 1 { "task that has" } else { "tasks that have" };
                Some(Why::new(WaitReason::After, [format!("{} {tasks} not ended", task.waits_for.len())]))
            }
            State::Scheduled => {
                let date = task.not_before.unwrap_or(wall);
                Some(Why::new(WaitReason::Delayed, []).in_span(date - wall))
            }
            State::Delayed if task.delay == Delay::Lost => {
                let attempts = match task.submit.max_attempts {
                    0 => format!("attempt {}", task.attempt),
                    all => format!("attempt {} of {all}", task.attempt),
                };
                Some(Why::new(WaitReason::Backoff, [attempts]).in_span(task.ready_at - elapsed))
            }
            State::Delayed => Some(Why::new(WaitReason::Delayed, []).in_span(task.ready_at - elapsed)),
            State::Ready => self.why_held(task),
        }
    }

    /// Returns the first of the pauses and limits that hold a task back.
    fn why_held(&self, task: &Task) -> Option<Why> {
        let kind = &task.submit.task_type;
        if self.settings.get("").is_some_and(|whole| whole.paused) {
            return Some(Why::new(WaitReason::Paused, ["the queue".to_owned(), "`taskmesh resume`".to_owned()]));
        }
        let own = self.settings.get(kind);
        if own.is_some_and(|own| own.paused) {
            return Some(Why::new(WaitReason::Paused, [format!("type '{kind}'"), format!("`taskmesh resume {kind}`")]));
        }
        let counts = |running: u32, max: u32, which: String| {
            Why::new(WaitReason::Limit, [format!("{running} "), format!("{max} "), which])
        };
        let (running, max) = (self.running_of_type(kind), own.and_then(|own| own.running_max));
        if let Some(max) = max.filter(|max| running >= *max) {
            return Some(counts(running, max, format!("type '{kind}'")));
        }
        let key = task.submit.concurrency_key.as_ref()?;
        let (running, max) = (self.running_with_key(key), self.key_limits.get(key).copied().unwrap_or(1));
        (running >= max).then(|| counts(running, max, format!("key '{key}'")))
    }
}
