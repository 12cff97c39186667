use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use taskqueue_api::{
    Answer, Answered, Json, QueueError,
    limits::{INPUTS_BYTES_MAX, INPUTS_MAX},
};

use super::{Live, Now, Standing, lease::already_finished};

/// The questions of a task's worker, and the answers to them. A key stands for one question in the whole life of the
/// task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The questions of the running attempt that nobody has answered.
    open: BTreeMap<String, Json>,
    /// The answers. They stay until the task ends, so that a later attempt that asks the same question is answered at
    /// once.
    answers: BTreeMap<String, Json>,
}

impl Inputs {
    /// Makes any value, for the test of a row.
    #[cfg(test)]
    pub(crate) const fn new(open: BTreeMap<String, Json>, answers: BTreeMap<String, Json>) -> Self {
        Self { open, answers }
    }

    #[cfg(test)]
    pub(super) const fn answers(&self) -> &BTreeMap<String, Json> {
        &self.answers
    }

    /// The questions that nobody has answered.
    #[must_use]
    pub const fn open(&self) -> &BTreeMap<String, Json> {
        &self.open
    }

    /// Takes out the questions that nobody has answered.
    pub(super) fn into_open(self) -> BTreeMap<String, Json> {
        self.open
    }

    /// The bytes of all keys, questions and answers.
    pub(crate) fn bytes(&self) -> usize {
        self.open.iter().chain(&self.answers).map(|(key, value)| key.len() + value.len_bytes()).sum()
    }

    fn knows(&self, key: &str) -> bool {
        self.open.contains_key(key) || self.answers.contains_key(key)
    }

    fn check(&self, field: &str) -> Result<(), QueueError> {
        let keys = self.open.len() + self.answers.len();
        if keys > INPUTS_MAX {
            return Err(QueueError::over_limit(field, keys, INPUTS_MAX, "keys in the life of the task"));
        }
        let bytes = self.bytes();
        if bytes > INPUTS_BYTES_MAX {
            let unit = "bytes of the task's questions and answers";
            return Err(QueueError::over_limit(field, bytes, INPUTS_BYTES_MAX, unit));
        }
        Ok(())
    }
}

/// Answers questions of a task, and counts the answers. Also returns the task's new state, if it has changed.
///
/// # Errors
///
/// `already_finished`, or `limit_exceeded` when the answers are too large together with the task's earlier questions
/// and answers.
pub(crate) fn answer(standing: Standing, request: &Answer, now: Now) -> Result<(Option<Live>, Answered), QueueError> {
    let live = match standing {
        Standing::Live(live) => live,
        Standing::Ended(ended) => return Err(already_finished(request.task_id, ended.status)),
    };
    let status = live.status();
    let is_open = |key: &String| live.inputs.as_ref().is_some_and(|inputs| inputs.open.contains_key(key));
    let accepted = request.input_responses.keys().filter(|key| is_open(key)).count();
    let mut inputs = live.inputs.clone().unwrap_or_default();
    let open = inputs.open.len() - accepted;
    let answered = Answered { accepted: count(accepted), open: count(open), status };
    if accepted == 0 {
        return Ok((None, answered));
    }
    let filled = Arc::make_mut(&mut inputs);
    for (key, response) in &request.input_responses {
        if filled.open.remove(key).is_some() {
            filled.answers.insert(key.clone(), response.clone());
        }
    }
    filled.check("input_responses")?;
    Ok((Some(Live { inputs: Some(inputs), updated_at: now.wall, ..live }), answered))
}

/// Adds questions. A key that was used before keeps its first question.
pub(super) fn asked(
    inputs: Option<Arc<Inputs>>,
    questions: &BTreeMap<String, Json>,
) -> Result<Option<Arc<Inputs>>, QueueError> {
    let is_known = |key: &String| inputs.as_ref().is_some_and(|inputs| inputs.knows(key));
    if questions.keys().all(is_known) {
        return Ok(inputs);
    }
    let mut inputs = inputs.unwrap_or_default();
    let asked = Arc::make_mut(&mut inputs);
    for (key, question) in questions {
        if !asked.knows(key) {
            asked.open.insert(key.clone(), question.clone());
        }
    }
    asked.check("input_requests")?;
    Ok(Some(inputs))
}

/// Returns the answers that exist for these questions.
pub(super) fn responses(inputs: Option<&Inputs>, questions: &BTreeMap<String, Json>) -> BTreeMap<String, Json> {
    let Some(inputs) = inputs else { return BTreeMap::new() };
    let answer = |key: &String| inputs.answers.get(key).map(|answer| (key.clone(), answer.clone()));
    questions.keys().filter_map(answer).collect()
}

/// Drops the open questions when an attempt ends, and keeps the answers.
pub(super) fn closed(inputs: Option<Arc<Inputs>>) -> Option<Arc<Inputs>> {
    let mut inputs = inputs?;
    if !inputs.open.is_empty() {
        Arc::make_mut(&mut inputs).open.clear();
    }
    (!inputs.answers.is_empty()).then_some(inputs)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
