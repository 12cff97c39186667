//! The questions of workers, and their answers.

use std::collections::BTreeMap;

use taskqueue_api::{Answer, ErrorCode, Fence, Json, Renew, TaskId};

use super::{
    step::Who,
    task::State,
    world::{Violation, World, broken, hold, json},
};

impl World {
    pub(super) fn question(&mut self, held: (TaskId, Fence), key: &str, question: u8) -> Result<TaskId, Violation> {
        let (task_id, fence) = held;
        let input_requests = BTreeMap::from([(key.to_owned(), json(question))]);
        let answer = self.ask(Who::Owner, Renew { input_requests, ..Renew::new(task_id, fence, LEASE_S) });
        let Some(at) = self.is_applied(held, &answer)? else { return Ok(task_id) };
        self.queue.renew(at, LEASE_S, None, None);
        let expected = self.queue.ask(at, key, &json(question));
        let observed = answer.ok().map(|renewed| renewed.input_responses);
        let expected: BTreeMap<String, Json> = expected.map(|answer| (key.to_owned(), answer)).into_iter().collect();
        hold!("ask", observed.as_ref() == Some(&expected), "{observed:?} instead of {expected:?}");
        Ok(task_id)
    }

    pub(super) fn answer(&mut self, task_id: TaskId, keys: &[&str], response: u8) -> Result<TaskId, Violation> {
        let responses: BTreeMap<String, Json> = keys.iter().map(|key| ((*key).to_owned(), json(response))).collect();
        let answer = self.ask(Who::Owner, Answer { task_id, input_responses: responses.clone() });
        let state = self.queue.find(task_id).map(|at| (at, self.queue.tasks[at].state));
        match (state, answer) {
            (None, Err(error)) if error.code == ErrorCode::NotFound => {}
            (Some((_, State::Ended(_))), Err(error)) if error.code == ErrorCode::AlreadyFinished => {}
            (Some((at, state)), Ok(answered)) if !matches!(state, State::Ended(_)) => {
                let accepted = self.queue.answer(at, &responses);
                let expected = (accepted, self.queue.tasks[at].open.len(), state.status());
                let observed = (answered.accepted as usize, answered.open as usize, answered.status);
                hold!("answer", observed == expected, "{observed:?} instead of {expected:?}");
            }
            (state, answer) => return broken("answer", format!("{state:?} was answered {answer:?}")),
        }
        Ok(task_id)
    }
}

const LEASE_S: f64 = 30.0;
