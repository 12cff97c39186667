//! Compares the content of the store with the model after each step.

use taskqueue_api::{Attempt, Get, GetMany, TaskId, TaskRecord};

use super::{
    reasons,
    step::Who,
    task::{Micros, Ran, State, Task, Text, as_secs, micros},
    world::{Violation, World, broken, hold},
};

impl World {
    /// Compares the tasks that have changed and the named one, or all tasks and the counts.
    pub(super) fn look(&mut self, named: Option<TaskId>, all: bool) -> Result<(), Violation> {
        let chosen = |task: &&Task| all || task.changed.is_some() || Some(task.id) == named;
        let task_ids: Vec<_> = self.queue.tasks.iter().filter(chosen).map(|task| task.id).collect();
        if task_ids.is_empty() {
            return Ok(());
        }
        let got = match self.ask(Who::Owner, GetMany { task_ids: task_ids.clone() }) {
            Ok(got) => got,
            Err(error) => return broken("get_many", format!("was refused: {error}")),
        };
        let (mut records, mut missing) = (got.tasks.iter(), got.missing.iter());
        for id in task_ids {
            match self.queue.find(id) {
                Some(at) => match records.next() {
                    Some(record) if record.task_id == id => {
                        self.compare(at, record)?;
                        self.look_alone(at, record)?;
                    }
                    other => return broken(self.blame(at), format!("task {id} is not there, but {other:?}")),
                },
                None => {
                    let at = self.queue.tasks.iter().position(|task| task.id == id).unwrap_or_default();
                    hold!(self.blame(at), missing.next() == Some(&id), "task {id} is there after its removal");
                    let alone = self.ask(Who::Owner, Get { task_id: id });
                    hold!(self.blame(at), alone.is_err(), "task {id} is there after its removal, alone");
                    self.queue.tasks[at].changed = None;
                }
            }
        }
        if all { self.stats() } else { Ok(()) }
    }

    /// Compares a record that is read alone, because it may be answered in another way than several.
    fn look_alone(&self, at: usize, record: &TaskRecord) -> Result<(), Violation> {
        let alone = self.ask(Who::Owner, Get { task_id: record.task_id });
        let is_same = alone.is_ok_and(|got| got.task == *record);
        hold!(self.blame(at), is_same, "task {} is another one alone", record.task_id);
        Ok(())
    }

    fn blame(&self, at: usize) -> &'static str {
        self.queue.tasks[at].changed.unwrap_or(self.clause)
    }

    /// Compares a task with its record, and takes over the values that the model leaves open.
    pub(super) fn compare(&mut self, at: usize, record: &TaskRecord) -> Result<(), Violation> {
        let (clause, owner, clocks) = (self.blame(at), self.peer(Who::Owner), self.queue.clocks);
        let wall_ahead = clocks.wall_ahead();
        let task = &mut self.queue.tasks[at];
        if let Some((least, most)) = task.backoff {
            let waits_until = record.not_before.map(|date| micros(date) - wall_ahead);
            let fits = waits_until.is_some_and(|until| least <= until && until <= most);
            hold!("backoff", fits, "{:?} is not from {} to {}", record.not_before, as_secs(least), as_secs(most));
            task.ready_at = waits_until.unwrap_or(least);
            task.backoff = None;
        }
        hold!(clause, task.error.fits(record.error.as_deref()), "error {:?} instead of {:?}", record.error, task.error);
        task.error = record.error.clone().map_or(Text::None, Text::Is);
        let shown_from = task.ran.len().saturating_sub(SHOWN);
        for (ran, attempt) in task.ran[shown_from..].iter_mut().zip(&record.attempts) {
            hold!(clause, ran.error.fits(attempt.error.as_deref()), "{attempt:?} instead of {ran:?}");
            ran.error = attempt.error.clone().map_or(Text::None, Text::Is);
        }
        if task.touched_at.is_some_and(|touched_at| touched_at == micros(record.updated_at)) {
            task.updated_at = micros(record.updated_at);
        }
        let expected = TaskRecord { waiting_for: record.waiting_for.clone(), ..shown(task, owner, wall_ahead) };
        hold!(clause, *record == expected, "task {} has {}", task.id, differences(record, &expected));
        task.changed = None;
        self.compare_reason(at, record)
    }

    /// Compares why a task waits.
    pub(super) fn compare_reason(&self, at: usize, record: &TaskRecord) -> Result<(), Violation> {
        let (task, observed) = (&self.queue.tasks[at], record.waiting_for.as_ref());
        let expected = self.queue.why(task);
        let is_told = reasons::fits(expected.as_ref(), observed);
        hold!("waiting_for", is_told, "{observed:?} instead of {expected:?}: {task:?}");
        Ok(())
    }
}

/// Returns the fields in which a record differs from the expected one.
fn differences(observed: &TaskRecord, expected: &TaskRecord) -> String {
    let fields = |record| serde_json::to_value(record).unwrap_or_default();
    let (observed, expected) = (fields(observed), fields(expected));
    let (Some(observed), Some(expected)) = (observed.as_object(), expected.as_object()) else { return String::new() };
    let differing = expected.iter().filter(|(name, value)| observed.get(*name) != Some(value));
    let shown = differing.map(|(name, value)| format!("{name} {:?} instead of {value:?}", observed.get(name)));
    shown.collect::<Vec<_>>().join("; ")
}

/// Returns the record that the model expects, with dates by the present wall clock.
fn shown(task: &Task, owner: taskqueue_api::PeerId, wall_ahead: Micros) -> TaskRecord {
    let submit = task.submit.clone();
    let not_before = if task.state == State::Delayed { Some(task.ready_at + wall_ahead) } else { task.not_before };
    TaskRecord {
        task_id: task.id,
        task_type: submit.task_type,
        model_name: submit.model_name,
        payload: submit.payload,
        status: task.status(),
        priority: submit.priority,
        attempt: task.attempt,
        max_attempts: submit.max_attempts,
        created_at: as_secs(task.created_at),
        updated_at: as_secs(task.updated_at),
        not_before: not_before.map(as_secs),
        deadline: task.deadline.map(|at| as_secs(at + wall_ahead)),
        assigned_worker: task.worker.clone(),
        attempts: task.ran[task.ran.len().saturating_sub(SHOWN)..].iter().map(attempt).collect(),
        lease_until: task.lease_until.map(as_secs),
        progress: task.progress,
        status_message: task.status_message.clone(),
        result: task.result.clone(),
        error: match &task.error {
            Text::Is(text) => Some(text.clone()),
            _ => None,
        },
        failed_by: task.failed_by,
        input_requests: task.open.clone(),
        submitter: submit.submitter,
        submitted_by: task.submitted_by,
        labels: submit.labels,
        requires: submit.requires,
        result_ttl_s: submit.result_ttl_s,
        session: submit.session,
        pin_to: submit.pin_to,
        concurrency_key: submit.concurrency_key,
        after: submit.after,
        owner,
        dead: task.dead,
        fence: None,
        waiting_for: None,
    }
}

fn attempt(ran: &Ran) -> Attempt {
    Attempt {
        machine: ran.machine,
        machine_name: None,
        worker_id: ran.worker.clone(),
        started_at: as_secs(ran.from),
        ended_at: ran.ended.map(|(at, _)| as_secs(at)),
        outcome: ran.ended.map(|(_, outcome)| outcome),
        error: match &ran.error {
            Text::Is(text) => Some(text.clone()),
            _ => None,
        },
    }
}

/// The number of attempts that a record shows.
const SHOWN: usize = 10;
