//! The model: a list of tasks, and loops over it. It follows the documents, and uses nothing of how a store works.

use std::collections::{BTreeMap, HashSet};

use taskqueue_api::{AttemptOutcome, ErrorCode, FailedBy, Json, PeerId, Selection, Submit, TaskId, TaskStatus};

use super::task::{Delay, Micros, State, Task, Text, micros};

#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) clocks: Clocks,
    /// The tasks in the order of acceptance.
    pub(super) tasks: Vec<Task>,
    keys: Vec<Key>,
    /// The settings by type. The empty name stands for the whole queue.
    pub(super) settings: BTreeMap<String, Setting>,
    pub(super) key_limits: BTreeMap<String, u32>,
    pub(super) cache: BTreeMap<String, (Json, Option<Micros>)>,
    /// The last place that was given to a task that was ready at once.
    last_place: Micros,
    /// The number of the current step.
    pub(super) step: usize,
    /// The steps that set off more changes than a store makes in one transaction. The order of the rest is up to the
    /// store.
    pub(super) crowded: HashSet<usize>,
}

/// The time that really passes. The model does not read the store's clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub(super) wall: Micros,
    /// The time since the process started, without the machine's sleep.
    pub(super) mono: Micros,
    /// The time since the store was created.
    pub(super) elapsed: Micros,
}

impl Clocks {
    /// Returns how far the wall clock is ahead of elapsed time. Added to a point in elapsed time, it gives the date.
    pub(super) const fn wall_ahead(self) -> Micros {
        self.wall - self.elapsed
    }
}

#[derive(Debug, Clone)]
struct Key {
    scope: String,
    content: Submit,
    id: TaskId,
    expires_at: Micros,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) running_max: Option<u32>,
}

/// What must become of a submit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    New,
    Duplicate(TaskId),
    /// It is refused with one of these codes.
    Refused(Vec<ErrorCode>),
}

impl Queue {
    pub(super) fn new(wall: Micros) -> Self {
        Self {
            clocks: Clocks { wall, mono: 0, elapsed: 0 },
            tasks: Vec::new(),
            keys: Vec::new(),
            settings: BTreeMap::new(),
            key_limits: BTreeMap::new(),
            cache: BTreeMap::new(),
            last_place: 0,
            step: 0,
            crowded: HashSet::new(),
        }
    }

    /// Returns the place of a task in the list, unless it was removed.
    pub(super) fn find(&self, id: TaskId) -> Option<usize> {
        self.tasks.iter().position(|task| task.id == id && !task.gone)
    }

    /// Closes and opens the store. A running task keeps its lease for one more length of it, counted from the first
    /// opening after the last sign of its worker (clause T8).
    pub(super) fn reopen(&mut self) {
        let Clocks { mono, elapsed, .. } = self.clocks;
        self.last_place = 0;
        for task in self.tasks.iter_mut().filter(|task| task.state == State::Running) {
            let kept_until = *task.kept_until.get_or_insert_with(|| elapsed + micros(task.lease_s));
            task.lease_end = mono + (kept_until - elapsed).max(0);
        }
        self.pass();
    }

    /// Applies everything that is due by now.
    pub(super) fn pass(&mut self) {
        let Clocks { wall, mono, elapsed } = self.clocks;
        for at in self
            .each(|task| (task.state == State::Running && task.lease_end <= mono).then_some((task.lease_end, task.id)))
        {
            self.expire(at);
        }
        let is_live = |task: &Task| !matches!(task.state, State::Ended(_));
        for at in self.each(|task| task.deadline.filter(|deadline| is_live(task) && *deadline <= elapsed)) {
            // The end of another task may have ended this one.
            if is_live(&self.tasks[at]) {
                let passed = Text::Tells(vec!["deadline".to_owned()]);
                self.tasks[at].ran(wall, AttemptOutcome::DeadlinePassed, passed);
                let text = self.tasks[at].error.parts().into_iter().chain(["deadline".to_owned()]).collect();
                self.end(at, TaskStatus::Failed, Text::Tells(text), Some(FailedBy::Queue), "deadline");
            }
        }
        for at in self.each(|task| (task.state == State::Delayed && task.ready_at <= elapsed).then_some(task.ready_at))
        {
            let ready_at = self.tasks[at].ready_at;
            self.tasks[at].state = State::Ready;
            self.tasks[at].touched_at = Some(wall);
            self.be_ready(at, ready_at);
        }
        let scheduled = |task: &Task| task.not_before.filter(|date| task.state == State::Scheduled && *date <= wall);
        for at in self.each(scheduled) {
            // The task became ready on its date.
            let ready_at = elapsed - (wall - self.tasks[at].not_before.unwrap_or(wall));
            self.tasks[at].state = State::Ready;
            self.tasks[at].touched_at = Some(wall);
            self.be_ready(at, ready_at);
        }
        for task in &mut self.tasks {
            if matches!(task.state, State::Ended(_)) && task.removed_at <= elapsed && !task.gone {
                (task.gone, task.changed) = (true, Some("T11"));
            }
        }
        self.keys.retain(|key| key.expires_at > elapsed);
        self.cache.retain(|_, (_, expires_at)| expires_at.is_none_or(|at| at > elapsed));
    }

    /// Returns the places of the tasks that have an order, sorted by it.
    pub(super) fn each<K: Ord>(&self, order: impl Fn(&Task) -> Option<K>) -> Vec<usize> {
        let mut found: Vec<_> = (0..self.tasks.len())
            .filter(|at| !self.tasks[*at].gone)
            .filter_map(|at| Some((order(&self.tasks[at])?, at)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, at)| at).collect()
    }

    /// Returns the place in line of a task. One that is ready at once stands behind all that were ready at once before.
    fn place(&mut self, ready_at: Micros) -> Micros {
        if ready_at != self.clocks.elapsed {
            return ready_at;
        }
        self.last_place = ready_at.max(self.last_place + 1);
        self.last_place
    }

    /// Returns the task of a submit's key, and whether its submit asked for the same.
    fn known_by_key(&self, scope: &str, submit: &Submit) -> Option<(TaskId, bool)> {
        let elapsed = self.clocks.elapsed;
        // A key is valid as long as the record that it leads to.
        let known = self.keys.iter().find(|known| {
            known.scope == scope
                && has_same_key(&known.content, submit)
                && known.expires_at > elapsed
                && self.find(known.id).is_some()
        })?;
        Some((known.id, content(&known.content) == content(submit)))
    }

    /// Returns the task that a completion has made at this place, for a repeated completion. Returns `None` when the
    /// first completion made another one at this place, or none that still exists.
    pub(super) fn made_before(&self, scope: &str, at: usize, place: usize, child: &Submit) -> Option<TaskId> {
        if let Some((id, is_same)) = self.known_by_key(scope, child) {
            return is_same.then_some(id);
        }
        let made = self.tasks[at].made.get(place).copied().flatten()?;
        let task = &self.tasks[self.find(made)?];
        // The begin is counted from the moment of each submit.
        let lasting = |submit: &Submit| Submit { delay_s: None, not_before: None, ..content(submit) };
        (lasting(&task.submit) == lasting(child)).then_some(made)
    }

    pub(super) fn judge(&self, scope: &str, submit: &Submit) -> Judged {
        let known = self.known_by_key(scope, submit);
        if let Some((id, true)) = known {
            return Judged::Duplicate(id);
        }
        let drains = |name: &str| self.settings.get(name).is_some_and(|setting| setting.draining);
        let mut codes = Vec::new();
        if known.is_some() {
            codes.push(ErrorCode::Conflict);
        }
        if drains("") || drains(&submit.task_type) {
            codes.push(ErrorCode::Paused);
        }
        if submit.after.iter().any(|parent| self.find(*parent).is_none()) {
            codes.push(ErrorCode::NotFound);
        }
        if codes.is_empty() { Judged::New } else { Judged::Refused(codes) }
    }

    /// Accepts a submit that was judged to be new.
    pub(super) fn accept(&mut self, scope: &str, by: Option<PeerId>, submit: Submit, id: TaskId) {
        let Clocks { wall, elapsed, .. } = self.clocks;
        if submit.idempotency_key.is_some() {
            let expires_at = elapsed + micros(submit.idempotency_window_s);
            self.keys.retain(|known| known.scope != scope || !has_same_key(&known.content, &submit));
            self.keys.push(Key { scope: scope.to_owned(), content: submit.clone(), id, expires_at });
        }
        let deadline = submit.deadline_s.map(|deadline_s| elapsed + micros(deadline_s));
        self.tasks.push(Task {
            id,
            state: State::Ready,
            gone: false,
            created_at: wall,
            ready_at: elapsed + submit.delay_s.map_or(0, micros),
            backoff: None,
            delay: Delay::Asked,
            not_before: submit.not_before.map(micros),
            deadline,
            waits_for: Vec::new(),
            attempt: 0,
            fences: Vec::new(),
            worker: None,
            submitted_by: by,
            ran: Vec::new(),
            lease_s: 0.0,
            lease_until: None,
            lease_end: 0,
            kept_until: None,
            cancel: None,
            progress: None,
            status_message: None,
            error: Text::None,
            open: BTreeMap::new(),
            answers: BTreeMap::new(),
            result: None,
            ended_at: 0,
            removed_at: 0,
            dead: false,
            failed_by: None,
            updated_at: wall,
            touched_at: None,
            ready_in: 0,
            is_placed: false,
            made: Vec::new(),
            changed: Some("submit"),
            submit,
        });
        let at = self.tasks.len() - 1;
        let (waits_for, failed) = self.parents(at);
        if !failed.is_empty() {
            // The task was accepted, if only for a moment, so tasks that are accepted later stand behind it.
            if waits_for.is_empty() && self.tasks[at].not_before.is_none_or(|date| date <= wall) {
                self.place(self.tasks[at].ready_at);
            }
            self.end(at, TaskStatus::Failed, self.reason(&failed), Some(FailedBy::Queue), "T10");
        } else {
            self.tasks[at].waits_for = waits_for;
            self.queue(at);
        }
    }

    /// Returns the parents of a task that have not ended, and those whose end does not let it run.
    fn parents(&self, at: usize) -> (Vec<TaskId>, Vec<usize>) {
        let (task, mut waits_for, mut failed) = (&self.tasks[at], Vec::new(), Vec::new());
        for parent in &task.submit.after {
            // A removed task keeps the state that it had.
            let parent_at = self.tasks.iter().position(|task| task.id == *parent);
            match parent_at.map(|at| (at, self.tasks[at].state)) {
                Some((at, State::Ended(status))) if !task.runs_after(status) => failed.push(at),
                None | Some((_, State::Ended(_))) => {}
                Some(_) if waits_for.contains(parent) => {}
                Some(_) => waits_for.push(*parent),
            }
        }
        (waits_for, failed)
    }

    /// Returns the reason why a task fails after these parents (clause T10).
    pub(super) fn reason(&self, failed: &[usize]) -> Text {
        match failed {
            [one] => {
                let parent = &self.tasks[*one];
                Text::Tells([vec![parent.id.to_string()], parent.error.parts()].concat())
            }
            // One of them is named.
            _ => Text::Tells(Vec::new()),
        }
    }

    /// Puts a task where it waits for its next attempt. Its `waits_for` and `ready_at` decide and, before the first
    /// attempt, its `not_before`.
    pub(super) fn queue(&mut self, at: usize) {
        let Clocks { wall, elapsed, .. } = self.clocks;
        let ready_at = self.tasks[at].ready_at;
        let is_new = self.tasks[at].fences.is_empty();
        self.tasks[at].state = if !self.tasks[at].waits_for.is_empty() {
            State::Blocked
        } else if ready_at > elapsed {
            State::Delayed
        } else if is_new && self.tasks[at].not_before.is_some_and(|date| date > wall) {
            State::Scheduled
        } else {
            self.be_ready(at, ready_at);
            State::Ready
        };
    }

    fn be_ready(&mut self, at: usize, ready_at: Micros) {
        self.tasks[at].ready_at = self.place(ready_at);
        (self.tasks[at].ready_in, self.tasks[at].is_placed) = (self.step, ready_at == self.clocks.elapsed);
    }

    /// Puts a task back that was running, to wait for a number of seconds in this range.
    pub(super) fn requeue(&mut self, at: usize, (least_s, most_s): (f64, f64), clause: &'static str) {
        let Clocks { wall, elapsed, .. } = self.clocks;
        let task = &mut self.tasks[at];
        let range = (elapsed + micros(least_s), elapsed + micros(most_s));
        task.backoff = (range.0 < range.1).then_some((range.0 - ROUNDING, range.1 + ROUNDING));
        task.ready_at = range.0;
        task.delay = if clause == "release" { Delay::Asked } else { Delay::Lost };
        (task.lease_until, task.kept_until, task.updated_at, task.changed) = (None, None, wall, Some(clause));
        task.open.clear();
        self.queue(at);
    }

    /// Queues a dead letter again. Returns whether that was possible.
    pub(super) fn retry(&mut self, id: TaskId) -> bool {
        let Some(at) = self.find(id) else { return false };
        let is_dead = matches!(self.tasks[at].state, State::Ended(TaskStatus::Failed | TaskStatus::Cancelled));
        let (waits_for, failed) = self.parents(at);
        if !is_dead || !failed.is_empty() {
            return false;
        }
        let Clocks { wall, elapsed, .. } = self.clocks;
        let task = &mut self.tasks[at];
        (task.attempt, task.dead, task.failed_by, task.delay) = (0, false, None, Delay::Asked);
        (task.not_before, task.backoff, task.ready_at) = (None, None, elapsed);
        (task.worker, task.cancel, task.progress, task.status_message, task.result) = (None, None, None, None, None);
        task.answers.clear();
        task.deadline = task.submit.deadline_s.map(|deadline_s| elapsed + micros(deadline_s));
        (task.waits_for, task.updated_at, task.changed) = (waits_for, wall, Some("retry"));
        self.queue(at);
        true
    }

    /// Removes an ended task. Returns whether that was possible.
    pub(super) fn purge(&mut self, id: TaskId) -> bool {
        let Some(task) = self.find(id).and_then(|at| self.tasks.get_mut(at)) else { return false };
        if matches!(task.state, State::Ended(_)) {
            (task.gone, task.changed) = (true, Some("purge"));
        }
        task.gone
    }

    /// Returns the ids of ended tasks that pass the filters, in the order of submission, and whether there are more.
    pub(super) fn select(&self, selection: &Selection) -> (Vec<TaskId>, bool) {
        let ended_by = self.clocks.wall - micros(selection.older_than_s);
        let chosen = self.tasks.iter().filter(|task| {
            !task.gone
                && Some(task.status()) == selection.status
                && task.ended_at <= ended_by
                && passes(&task.submit, &selection.task_types, selection.session.as_ref(), selection.label.as_ref())
        });
        let mut ids: Vec<_> = chosen.map(|task| task.id).collect();
        let count_max = selection.limit as usize;
        let more = ids.len() > count_max;
        ids.truncate(count_max);
        (ids, more)
    }

    pub(super) fn cached(&self, key: &str) -> Option<&Json> {
        let (value, expires_at) = self.cache.get(key)?;
        expires_at.is_none_or(|at| at > self.clocks.elapsed).then_some(value)
    }
}

/// Returns whether a task passes the filters of a list or a selection.
pub(super) fn passes(submit: &Submit, types: &[String], session: Option<&String>, label: Option<&String>) -> bool {
    (types.is_empty() || types.contains(&submit.task_type))
        && session.is_none_or(|session| submit.session.as_ref() == Some(session))
        && label.is_none_or(|label| submit.labels.contains(label))
}

/// Returns whether two submits have the same key. Keys of different submitters are independent.
fn has_same_key(one: &Submit, other: &Submit) -> bool {
    one.idempotency_key == other.idempotency_key && one.submitter == other.submitter
}

/// Returns a submit without its key and the key's window.
fn content(submit: &Submit) -> Submit {
    Submit { idempotency_key: None, idempotency_window_s: 0.0, ..submit.clone() }
}

/// The tolerance of a backoff, which is a number of seconds before it becomes a time in microseconds.
const ROUNDING: Micros = 2;
