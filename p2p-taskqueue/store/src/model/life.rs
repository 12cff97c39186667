//! The life of the model's tasks: claims, mutations and ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use taskqueue_api::{
    AttemptOutcome, Claim, Complete, CompletedStatus, ErrorCode, FailedBy, Fence, Json, PeerId, Submit, TaskId,
    TaskStatus,
};

use super::{
    queue::{Clocks, Queue},
    task::{Micros, Ran, State, Task, Text, micros},
};

impl Queue {
    /// Returns the task with which a claim must be answered (clause T6).
    pub(super) fn first_for(&self, peer: PeerId, claim: &Claim) -> Option<usize> {
        self.first_of(peer, claim, |_| true)
    }

    fn first_of(&self, peer: PeerId, claim: &Claim, counts: impl Fn(&Task) -> bool) -> Option<usize> {
        let open = (0..self.tasks.len()).filter(|at| counts(&self.tasks[*at]) && self.may_take(peer, claim, *at));
        open.min_by_key(|at| self.order(*at))
    }

    fn order(&self, at: usize) -> (Reverse<u8>, Micros, TaskId) {
        let task = &self.tasks[at];
        (Reverse(task.submit.priority), task.ready_at, task.id)
    }

    /// Returns whether a claim may be answered with this task, or with none. Tasks that a crowded step has made
    /// claimable come in any order, and during that step they may not be claimable yet.
    pub(super) fn may_get(&self, peer: PeerId, claim: &Claim, given: Option<usize>) -> bool {
        let first = self.first_for(peer, claim);
        if given == first {
            return true;
        }
        let is_crowded = |at: usize| self.crowded.contains(&self.tasks[at].ready_in);
        let is_late = |task: &Task| task.ready_in == self.step && self.crowded.contains(&self.step);
        let before = self.first_of(peer, claim, |task| !is_late(task));
        let Some(given) = given else { return before.is_none() };
        if !self.may_take(peer, claim, given) {
            return false;
        }
        let is_first_so_far = Some(given) == before
            || (is_late(&self.tasks[given]) && before.is_none_or(|before| self.order(given) < self.order(before)));
        let (one, other) = (&self.tasks[given], first.map(|first| &self.tasks[first]));
        let is_beside = is_crowded(given)
            && other.is_some_and(|other| {
                (one.ready_in, one.is_placed, one.submit.priority)
                    == (other.ready_in, other.is_placed, other.submit.priority)
                    && one.is_placed
            });
        is_first_so_far || is_beside
    }

    /// Returns whether a claim may take this task now.
    pub(super) fn may_take(&self, peer: PeerId, claim: &Claim, at: usize) -> bool {
        let task = &self.tasks[at];
        let Submit { task_type, requires, session, pin_to, .. } = &task.submit;
        let types = &claim.supported_task_types;
        let fits = (types.is_empty() || types.contains(task_type))
            && requires.iter().all(|label| claim.labels.contains(label))
            && (session.is_none() || *session == claim.session)
            && pin_to.is_none_or(|pin_to| pin_to == peer);
        fits && task.state == State::Ready && !task.gone && !self.is_held(task)
    }

    /// Returns whether any claim may take this task now.
    pub(super) fn is_open(&self, task: &Task) -> bool {
        task.state == State::Ready && !task.gone && !self.is_held(task)
    }

    /// Notes whether the step has set off more changes than a store makes in one transaction. If so, the reason why a
    /// task has failed depends on the order of the changes.
    pub(super) fn note_crowd(&mut self) {
        let is_set_off = |task: &&mut Task| {
            task.changed == Some("T10") || (task.changed.is_some() && matches!(task.state, State::Ended(_)))
        };
        let set_off: Vec<_> = self.tasks.iter_mut().filter(is_set_off).collect();
        if set_off.len() < CROWD {
            return;
        }
        self.crowded.insert(self.step);
        for task in set_off {
            if matches!(task.changed, Some("T10" | "deadline" | "T11")) && task.failed_by == Some(FailedBy::Queue) {
                task.error = Text::Tells(Vec::new());
            }
        }
    }

    /// Returns whether a pause or a limit holds the task back.
    fn is_held(&self, task: &Task) -> bool {
        let (whole, own) = (self.settings.get(""), self.settings.get(&task.submit.task_type));
        let is_full =
            own.and_then(|own| own.running_max).is_some_and(|max| self.running_of_type(&task.submit.task_type) >= max);
        let is_key_full = task
            .submit
            .concurrency_key
            .as_ref()
            .is_some_and(|key| self.running_with_key(key) >= self.key_limits.get(key).copied().unwrap_or(1));
        [whole, own].into_iter().flatten().any(|setting| setting.paused) || is_full || is_key_full
    }

    pub(super) fn running_of_type(&self, task_type: &str) -> u32 {
        self.running(|submit| submit.task_type == task_type)
    }

    pub(super) fn running_with_key(&self, key: &str) -> u32 {
        self.running(|submit| submit.concurrency_key.as_deref() == Some(key))
    }

    fn running(&self, which: impl Fn(&Submit) -> bool) -> u32 {
        let running = self.tasks.iter().filter(|task| task.state == State::Running && which(&task.submit));
        running.map(|_| 1).sum()
    }

    pub(super) fn grant(&mut self, at: usize, machine: PeerId, claim: &Claim, fence: Fence) {
        let Clocks { wall, mono, .. } = self.clocks;
        let task = &mut self.tasks[at];
        task.state = State::Running;
        task.attempt += 1;
        task.fences.push(fence);
        task.worker = Some(claim.worker_id.clone());
        let worker = claim.worker_id.clone();
        task.ran.push(Ran { machine, worker, from: wall, ended: None, error: Text::None });
        task.lease_s = claim.lease_s;
        task.lease_until = Some(wall + micros(claim.lease_s));
        (task.lease_end, task.kept_until) = (mono + micros(claim.lease_s), None);
        (task.progress, task.status_message) = (None, None);
        (task.updated_at, task.changed) = (wall, Some("T2"));
    }

    /// Returns the error with which a mutation with this fence must be refused; `None` if it must not (clause T3).
    pub(super) fn refusal(&self, at: usize, fence: Fence) -> Option<ErrorCode> {
        let task = &self.tasks[at];
        match task.state {
            State::Ended(_) => Some(ErrorCode::AlreadyFinished),
            State::Running if task.fences.last() == Some(&fence) && task.lease_end > self.clocks.mono => None,
            _ => Some(ErrorCode::StaleFence),
        }
    }

    pub(super) fn renew(&mut self, at: usize, lease_s: f64, progress: Option<f64>, message: Option<String>) {
        let Clocks { wall, mono, .. } = self.clocks;
        let task = &mut self.tasks[at];
        task.lease_s = lease_s;
        task.lease_until = Some(wall + micros(lease_s));
        (task.lease_end, task.kept_until) = (mono + micros(lease_s), None);
        task.progress = progress.or(task.progress);
        task.status_message = message.or_else(|| task.status_message.clone());
        (task.updated_at, task.changed) = (wall, Some("renew"));
    }

    /// Adds a question of a renewal, unless its key was used before. Returns its answer, if there is one.
    pub(super) fn ask(&mut self, at: usize, key: &str, question: &Json) -> Option<Json> {
        let task = &mut self.tasks[at];
        if !task.answers.contains_key(key) {
            task.open.entry(key.to_owned()).or_insert_with(|| question.clone());
        }
        task.answers.get(key).cloned()
    }

    /// Answers open questions, and returns how many.
    pub(super) fn answer(&mut self, at: usize, responses: &BTreeMap<String, Json>) -> usize {
        let wall = self.clocks.wall;
        let task = &mut self.tasks[at];
        let mut accepted = 0;
        for (key, response) in responses {
            if task.open.remove(key).is_some() {
                task.answers.insert(key.clone(), response.clone());
                (task.updated_at, task.changed) = (wall, Some("answer"));
                accepted += 1;
            }
        }
        accepted
    }

    /// Returns whether this completion repeats an acknowledged one.
    pub(super) fn is_repeated(&self, at: usize, complete: &Complete) -> bool {
        let task = &self.tasks[at];
        task.state == State::Ended(ended_by(complete))
            && task.fences.last() == Some(&complete.fence)
            && task.result == complete.result
            && task.error.fits(complete.error.as_deref())
    }

    pub(super) fn complete(&mut self, at: usize, complete: &Complete) {
        let status = ended_by(complete);
        self.tasks[at].result = complete.result.clone();
        let error = complete.error.clone().map_or(Text::None, Text::Is);
        let failed_by = (status == TaskStatus::Failed).then_some(FailedBy::Worker);
        let outcome = match complete.status {
            CompletedStatus::Completed => AttemptOutcome::Completed,
            CompletedStatus::Failed => AttemptOutcome::Failed,
        };
        self.stop(at, outcome, error.clone());
        self.end(at, status, error, failed_by, "complete");
    }

    pub(super) fn fail(&mut self, at: usize, error: &str, retryable: bool, delay_s: Option<f64>) {
        let error = Text::Is(error.to_owned());
        self.stop(at, self.unless_cancelled(at, AttemptOutcome::Failed), error.clone());
        if self.tasks[at].cancel.is_some() {
            self.end_cancelled(at, error, "fail");
        } else if retryable && self.tasks[at].has_attempts_left() {
            let range = delay_s.map_or_else(|| self.tasks[at].backoff_s(), |delay_s| (delay_s, delay_s));
            self.tasks[at].error = error;
            self.requeue(at, range, "fail");
        } else {
            self.end(at, TaskStatus::Failed, error, Some(FailedBy::Worker), "fail");
        }
    }

    pub(super) fn release(&mut self, at: usize, delay_s: f64, reason: &str) {
        self.tasks[at].attempt -= 1;
        let reason = if reason.is_empty() { Text::None } else { Text::Is(reason.to_owned()) };
        self.stop(at, self.unless_cancelled(at, AttemptOutcome::Released), reason);
        if self.tasks[at].cancel.is_some() {
            self.end_cancelled(at, Text::None, "release");
        } else {
            self.requeue(at, (delay_s, delay_s), "release");
        }
    }

    pub(super) fn cancel(&mut self, at: usize, reason: &str) {
        let wall = self.clocks.wall;
        let task = &mut self.tasks[at];
        task.cancel = Some(reason.to_owned());
        (task.updated_at, task.changed) = (wall, Some("cancel"));
        if task.state != State::Running {
            self.end_cancelled(at, Text::None, "cancel");
        }
    }

    /// Ends a lease that was not renewed (clause T4).
    pub(super) fn expire(&mut self, at: usize) {
        self.stop(at, AttemptOutcome::LeaseExpired, Text::Tells(vec!["lease".to_owned()]));
        self.lose(at, "T4");
    }

    /// Ends the leases of a machine as if they had expired, the one that ends first first. Returns how many.
    pub(super) fn free(&mut self, machine: PeerId) -> u64 {
        let is_held = |task: &Task| task.state == State::Running && task.holder() == Some(machine);
        let held = self.each(|task| is_held(task).then_some((task.lease_end, task.id)));
        for at in &held {
            self.stop(*at, AttemptOutcome::Freed, Text::Tells(vec!["machine".to_owned()]));
            self.lose(*at, "T4");
        }
        held.len() as u64
    }

    /// Notes how the running attempt has ended.
    fn stop(&mut self, at: usize, outcome: AttemptOutcome, error: Text) {
        let wall = self.clocks.wall;
        self.tasks[at].ran(wall, outcome, error);
    }

    /// Returns how an attempt has ended whose worker stops: by itself, or because the task was called off.
    fn unless_cancelled(&self, at: usize, outcome: AttemptOutcome) -> AttemptOutcome {
        if self.tasks[at].cancel.is_some() { AttemptOutcome::Cancelled } else { outcome }
    }

    /// Does what follows from the end of a lease.
    fn lose(&mut self, at: usize, clause: &'static str) {
        let task = &mut self.tasks[at];
        let last = task.error.parts();
        if task.cancel.is_some() {
            self.end_cancelled(at, Text::None, clause);
        } else if task.has_attempts_left() {
            if task.error == Text::None {
                task.error = Text::Tells(vec!["lease".to_owned()]);
            }
            let range = task.backoff_s();
            self.requeue(at, range, clause);
        } else {
            let last = last.into_iter().filter(|last| !last.contains("the lease "));
            let error = Text::Tells(last.chain(["lease".to_owned()]).collect());
            self.end(at, TaskStatus::Failed, error, Some(FailedBy::Queue), clause);
        }
    }

    /// Cancels a task. Its error is the reason that was given, else the worker's text, else the last error.
    fn end_cancelled(&mut self, at: usize, text: Text, clause: &'static str) {
        let task = &self.tasks[at];
        let error = match task.cancel.as_deref() {
            Some("") | None if text == Text::None => task.error.clone(),
            Some("") | None => text,
            Some(reason) => Text::Is(reason.to_owned()),
        };
        self.end(at, TaskStatus::Cancelled, error, None, clause);
    }

    /// Ends a task, and tells its children (clause T10).
    pub(super) fn end(
        &mut self,
        at: usize,
        status: TaskStatus,
        error: Text,
        failed_by: Option<FailedBy>,
        clause: &'static str,
    ) {
        self.end_alone(at, status, error, failed_by, clause);
        let mut to_tell = VecDeque::from([at]);
        while let Some(parent) = to_tell.pop_front() {
            let (id, status) = (self.tasks[parent].id, self.tasks[parent].status());
            for at in 0..self.tasks.len() {
                if self.tasks[at].state != State::Blocked || !self.tasks[at].waits_for.contains(&id) {
                    continue;
                }
                if self.tasks[at].runs_after(status) {
                    self.unblock(at, id);
                } else {
                    self.end_alone(at, TaskStatus::Failed, self.reason(&[parent]), Some(FailedBy::Queue), "T10");
                    to_tell.push_back(at);
                }
            }
        }
    }

    fn unblock(&mut self, at: usize, parent: TaskId) {
        let Clocks { wall, elapsed, .. } = self.clocks;
        let task = &mut self.tasks[at];
        task.waits_for.retain(|id| *id != parent);
        task.touched_at = Some(wall);
        if task.waits_for.is_empty() {
            task.ready_at = task.ready_at.max(elapsed);
            (task.updated_at, task.changed) = (wall, Some("T10"));
            self.queue(at);
        }
    }

    fn end_alone(
        &mut self,
        at: usize,
        status: TaskStatus,
        error: Text,
        failed_by: Option<FailedBy>,
        clause: &'static str,
    ) {
        let Clocks { wall, elapsed, .. } = self.clocks;
        let task = &mut self.tasks[at];
        task.state = State::Ended(status);
        task.backoff = None;
        (task.error, task.dead, task.failed_by, task.lease_until) = (error, failed_by.is_some(), failed_by, None);
        // The submitter must be able to ask for the record.
        let kept_s = if task.submit.result_ttl_s < 60.0 { 60.0 } else { task.submit.result_ttl_s };
        (task.ended_at, task.removed_at) = (wall, elapsed + micros(kept_s));
        (task.updated_at, task.changed) = (wall, Some(clause));
        task.waits_for.clear();
        task.open.clear();
    }
}

pub(super) fn ended_by(complete: &Complete) -> TaskStatus {
    match complete.status {
        CompletedStatus::Completed => TaskStatus::Completed,
        CompletedStatus::Failed => TaskStatus::Failed,
    }
}

/// The number of ends, and of children told of ends, that make a crowd. A store in tests handles only a few in one
/// transaction.
const CROWD: usize = 3;
