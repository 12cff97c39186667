//! The operations on tasks: asks the store, and checks that the model allows the answer.

use taskqueue_api::{
    Cancel, Claim, ClaimMany, Complete, Completed, CompletedStatus, ErrorCode, Fail, Fence, Json, Outcome, QueueError,
    Release, Renew, Submit, SubmitMany, Submitted, TaskId, TaskRecord, TaskStatus,
};

use super::{
    queue::Judged,
    reasons,
    step::Who,
    task::State,
    world::{Violation, World, broken, hold, json},
};

impl World {
    pub(super) fn submit(&mut self, who: Who, submit: Submit) -> Result<(), Violation> {
        let answer = self.ask(who, submit.clone());
        self.submitted(who, submit, answer)
    }

    pub(super) fn submit_many(&mut self, who: Who, tasks: Vec<Submit>) -> Result<(), Violation> {
        let answer = self.ask(who, SubmitMany { tasks: tasks.clone() });
        let results = match answer {
            Ok(answer) => answer.results,
            Err(error) => return broken("submit_many", format!("was refused: {error}")),
        };
        hold!("submit_many", results.len() == tasks.len(), "{} answers for {} tasks", results.len(), tasks.len());
        for (submit, result) in tasks.into_iter().zip(results) {
            let answer = match (result.ok, result.submitted, result.error) {
                (true, Some(submitted), None) => Ok(submitted),
                (false, None, Some(error)) => Err(error),
                odd => return broken("submit_many", format!("an answer contradicts itself: {odd:?}")),
            };
            self.submitted(who, submit, answer)?;
        }
        Ok(())
    }

    pub(super) fn repeat(&mut self, who: Who, number: usize, other: bool) -> Result<(), Violation> {
        let keyed = self.queue.tasks.iter().map(|task| &task.submit).filter(|submit| submit.idempotency_key.is_some());
        let keyed: Vec<_> = keyed.collect();
        let Some(at) = number.checked_rem(keyed.len()) else { return Ok(()) };
        let mut submit = keyed[at].clone();
        if other {
            submit.payload = json(200);
        }
        self.submit(who, submit)
    }

    fn submitted(&mut self, who: Who, submit: Submit, answer: Result<Submitted, QueueError>) -> Result<(), Violation> {
        let scope = self.scope(who);
        let judged = self.queue.judge(&scope, &submit);
        match (judged, answer) {
            (Judged::New, Ok(submitted)) if !submitted.duplicate => {
                hold!("T1", submitted.durability == self.durability(), "it is {:?}", submitted.durability);
                self.is_new(submitted.task_id)?;
                self.queue.accept(&scope, self.caller(who).machine(), submit, submitted.task_id);
                let (expected, observed) = (self.queue.tasks.last().and_then(|task| self.queue.why(task)), submitted);
                let is_told = reasons::fits(expected.as_ref(), observed.waiting_for.as_ref());
                hold!("waiting_for", is_told, "{observed:?} instead of {expected:?}");
                Ok(())
            }
            (Judged::Duplicate(id), Ok(submitted)) => {
                hold!("T7", submitted.duplicate && submitted.task_id == id, "not the first one's id: {submitted:?}");
                hold!("waiting_for", submitted.waiting_for.is_none(), "a repeat waits: {submitted:?}");
                Ok(())
            }
            (Judged::Refused(codes), Err(error)) if codes.contains(&error.code) => self.is_not_applied(&error),
            (judged, answer) => {
                let clause = if submit.idempotency_key.is_some() { "T7" } else { "T10" };
                broken(clause, format!("a submit is {judged:?} and was answered {answer:?}"))
            }
        }
    }

    fn is_new(&self, id: TaskId) -> Result<(), Violation> {
        let is_known = self.queue.tasks.iter().any(|task| task.id == id);
        hold!("T9", !is_known && id.to_string().len() == 32, "an id was given twice: {id}");
        Ok(())
    }

    fn is_not_applied(&mut self, error: &QueueError) -> Result<(), Violation> {
        self.clause = "T3";
        hold!("outcome", error.outcome == Outcome::NotApplied, "a refusal leaves the outcome open: {error:?}");
        Ok(())
    }

    pub(super) fn claim(&mut self, who: Who, claim: &Claim) -> Result<(), Violation> {
        match self.begin(who, claim.clone(), claim)? {
            Some(Ok(claimed)) => self.given_at_once(who, claim, claimed.task),
            Some(Err(error)) => broken("claim", format!("was refused: {error}")),
            None => Ok(()),
        }
    }

    pub(super) fn claim_many(&mut self, who: Who, claim: &Claim, max_tasks: u32) -> Result<(), Violation> {
        let claimed = match self.begin(who, ClaimMany { claim: claim.clone(), max_tasks }, claim)? {
            Some(Ok(claimed)) => claimed.tasks,
            Some(Err(error)) => return broken("claim_many", format!("was refused: {error}")),
            None => return Ok(()),
        };
        hold!("claim_many", claimed.len() <= max_tasks as usize, "{} tasks for {max_tasks}", claimed.len());
        let is_full = claimed.len() == max_tasks as usize;
        if claimed.is_empty() {
            return self.given(who, claim, None);
        }
        self.granted(who, claim, claimed, !is_full);
        Ok(())
    }

    /// Notes the answer of a claim that did not wait. The model does not know yet what others were given before.
    fn given_at_once(&mut self, who: Who, claim: &Claim, task: Option<TaskRecord>) -> Result<(), Violation> {
        match task {
            None => self.given(who, claim, None),
            Some(task) => {
                self.granted(who, claim, vec![task], false);
                Ok(())
            }
        }
    }

    /// Checks the answer of a claim, and applies it to the model.
    pub(super) fn given(&mut self, who: Who, claim: &Claim, task: Option<TaskRecord>) -> Result<(), Violation> {
        let given = task.as_ref().map(|task| self.queue.find(task.task_id));
        let may_get = given != Some(None) && self.queue.may_get(self.peer(who), claim, given.flatten());
        let (at, mut task) = match (given, task) {
            (None, None) if may_get => return Ok(()),
            (Some(Some(at)), Some(task)) if may_get => (at, task),
            (given, task) => {
                let (given, expected) = (given.flatten(), self.queue.first_for(self.peer(who), claim));
                let is_held = given.is_some_and(|at| self.queue.tasks[at].state == State::Running);
                let expected = expected.map(|at| &self.queue.tasks[at]);
                let given = given.map(|at| &self.queue.tasks[at]);
                let clause = if is_held { "T2" } else { "T6" };
                return broken(
                    clause,
                    format!("{claim:?} has to get\n  {expected:?}\nand got\n  {given:?}\n  {task:?}"),
                );
            }
        };
        let Some(fence) = task.fence.take() else { return broken("T2", "a claim without a fence") };
        hold!("T2", self.fences.insert(fence), "fence {fence} was issued twice");
        let is_later = self.epoch_before.is_none_or(|before| fence.epoch > before);
        hold!("T2", is_later, "fence {fence} is of an epoch before the store was opened");
        self.queue.grant(at, self.peer(who), claim, fence);
        self.compare(at, &task)
    }

    /// Checks the answer of a mutation with this fence, and returns the task that it applies to, if it does.
    pub(super) fn is_applied<T: std::fmt::Debug>(
        &mut self,
        (id, fence): (TaskId, Fence),
        answer: &Result<T, QueueError>,
    ) -> Result<Option<usize>, Violation> {
        let at = self.queue.find(id);
        let refusal = at.map_or(Some(ErrorCode::NotFound), |at| self.queue.refusal(at, fence));
        match (refusal, answer) {
            (None, Ok(_)) => Ok(at),
            (Some(code), Err(error)) if error.code == code => self.is_not_applied(error).map(|()| None),
            (refusal, answer) => {
                let task = at.map(|at| &self.queue.tasks[at]);
                broken("T3", format!("fence {fence} has to be refused as {refusal:?}: {answer:?}; {task:?}"))
            }
        }
    }

    pub(super) fn renew(
        &mut self,
        held: (TaskId, Fence),
        lease_s: f64,
        progress: Option<f64>,
    ) -> Result<TaskId, Violation> {
        let (task_id, fence) = held;
        let status_message = progress.map(|progress| format!("at {progress}"));
        let answer = self.ask(
            Who::Owner,
            Renew { progress, status_message: status_message.clone(), ..Renew::new(task_id, fence, lease_s) },
        );
        let Some(at) = self.is_applied(held, &answer)? else { return Ok(task_id) };
        self.queue.renew(at, lease_s, progress, status_message);
        if let Ok(renewed) = answer {
            let task = &self.queue.tasks[at];
            let deadline = task.deadline.map(|at| at + self.queue.clocks.wall_ahead());
            let expected = (task.lease_until, deadline, task.cancel.is_some());
            let secs = |at: Option<i64>| at.map(super::task::as_secs);
            let observed = (Some(renewed.lease_until), renewed.deadline, renewed.cancel_requested);
            hold!(
                "renew",
                (secs(expected.0), secs(expected.1), expected.2) == observed,
                "{observed:?} instead of {expected:?}"
            );
        }
        Ok(task_id)
    }

    pub(super) fn complete(
        &mut self,
        held: (TaskId, Fence),
        status: CompletedStatus,
        result: Option<Json>,
        submit: Vec<Submit>,
        claim_next: Option<Claim>,
    ) -> Result<TaskId, Violation> {
        let (who, (task_id, fence)) = (Who::Owner, held);
        let error = (status == CompletedStatus::Failed).then(|| "spoilt".to_owned());
        // The answer has the ids of the children, and the model has to know them at once. So a completion with children
        // does not wait for its next task.
        let claim_next =
            claim_next.map(|claim| Claim { wait_s: if submit.is_empty() { claim.wait_s } else { 0.0 }, ..claim });
        let complete = Complete { task_id, fence, status, result, error, submit, claim_next };
        let answer = match &complete.claim_next {
            Some(claim) => self.begin(who, complete.clone(), claim)?,
            None => Some(self.ask(who, complete.clone())),
        };
        match answer {
            Some(answer) => self.was_completed(who, held, &complete, answer)?,
            None => {
                let repeated = self.queue.find(task_id).is_some_and(|at| self.queue.is_repeated(at, &complete));
                let status = super::life::ended_by(&complete);
                let completed = Completed { task_id, status, repeated, submitted: Vec::new(), next: None };
                self.waits_beside(completed.clone());
                let alone = Complete { claim_next: None, ..complete };
                self.was_completed(who, held, &alone, Ok(completed))?;
            }
        }
        Ok(task_id)
    }

    /// Checks the answer of a completion, and applies it to the model.
    fn was_completed(
        &mut self,
        who: Who,
        held: (TaskId, Fence),
        complete: &Complete,
        answer: Result<Completed, QueueError>,
    ) -> Result<(), Violation> {
        let task_id = held.0;
        let is_repeated = self.queue.find(task_id).is_some_and(|at| self.queue.is_repeated(at, complete));
        let made_before = self.made_before(complete);
        if is_repeated && made_before.is_none() {
            let is_refused = answer
                .as_ref()
                .is_err_and(|error| error.code == ErrorCode::Conflict && error.message.starts_with("submit["));
            hold!("children", is_refused, "other children than the first time are to be refused: {answer:?}");
            return Ok(());
        } else if is_repeated {
            let Ok(completed) = &answer else {
                return broken("T3", format!("a repeated completion was refused: {answer:?}"));
            };
            hold!("T3", completed.repeated, "not a repetition: {completed:?}");
            let expected = made_before.unwrap_or_default();
            hold!("children", completed.submitted == expected, "{completed:?} instead of {expected:?}");
        } else if let Some(codes) = self.refused_children(complete) {
            let is_refused =
                answer.as_ref().is_err_and(|error| codes.contains(&error.code) && error.message.starts_with("submit["));
            hold!("children", is_refused, "one of the children is to be refused as {codes:?}: {answer:?}");
            return Ok(());
        } else {
            let Some(at) = self.is_applied(held, &answer)? else { return Ok(()) };
            let children = answer.as_ref().map_or(&[][..], |completed| &completed.submitted);
            self.completed(at, complete, children)?;
            self.queue.note_crowd();
        }
        let Ok(completed) = answer else { return Ok(()) };
        let ended = self.queue.find(task_id).map(|at| self.queue.tasks[at].status());
        hold!("complete", ended == Some(completed.status), "{completed:?} instead of {ended:?}");
        match &complete.claim_next {
            Some(claim) => self.given_at_once(who, claim, completed.next)?,
            None => hold!("complete", completed.next.is_none(), "a task that nobody claimed: {completed:?}"),
        }
        Ok(())
    }

    /// Returns the children of a repeated completion; `None` when they are not those of the first one.
    fn made_before(&self, complete: &Complete) -> Option<Vec<TaskId>> {
        let (at, scope) = (self.queue.find(complete.task_id)?, self.scope(Who::Owner));
        let children = complete.submit.iter().enumerate();
        children.map(|(place, child)| self.queue.made_before(&scope, at, place, child)).collect()
    }

    /// Returns the error codes of children that cannot be accepted, when the completion itself can.
    fn refused_children(&self, complete: &Complete) -> Option<Vec<ErrorCode>> {
        let at = self.queue.find(complete.task_id)?;
        if self.queue.refusal(at, complete.fence).is_some() {
            return None;
        }
        let (mut trial, scope, mut codes) = (self.queue.clone(), self.scope(Who::Owner), Vec::new());
        for (number, child) in (0_u8..).zip(&complete.submit) {
            match trial.judge(&scope, child) {
                Judged::New => trial.accept(&scope, None, child.clone(), TaskId::from_bytes([number; 16])),
                Judged::Duplicate(_) => {}
                Judged::Refused(refused) => codes.extend(refused),
            }
        }
        (!codes.is_empty()).then_some(codes)
    }

    fn completed(&mut self, at: usize, complete: &Complete, children: &[TaskId]) -> Result<(), Violation> {
        let scope = self.scope(Who::Owner);
        let (count, expected) = (children.len(), complete.submit.len());
        hold!("children", count == expected, "{count} children instead of {expected}");
        let mut made = Vec::new();
        for (child, id) in complete.submit.iter().zip(children) {
            made.push((self.queue.find(*id).is_none()).then_some(*id));
            match self.queue.judge(&scope, child) {
                Judged::Duplicate(first) => hold!("T7", first == *id, "child {id} repeats {first}"),
                Judged::New => {
                    self.is_new(*id)?;
                    self.queue.accept(&scope, None, child.clone(), *id);
                }
                Judged::Refused(codes) => return broken("children", format!("{id} is to be refused: {codes:?}")),
            }
        }
        self.queue.tasks[at].made = made;
        self.queue.complete(at, complete);
        Ok(())
    }

    pub(super) fn fail(
        &mut self,
        held: (TaskId, Fence),
        retryable: bool,
        delay_s: Option<f64>,
    ) -> Result<TaskId, Violation> {
        let (task_id, fence) = held;
        let error = format!("broken by {fence}");
        let answer = self.ask(Who::Owner, Fail { task_id, fence, error: error.clone(), retryable, delay_s });
        let Some(at) = self.is_applied(held, &answer)? else { return Ok(task_id) };
        self.queue.fail(at, &error, retryable, delay_s);
        let task = &self.queue.tasks[at];
        let observed = answer.map(|failed| (failed.status, failed.attempt)).ok();
        let expected = (task.status(), task.attempt);
        hold!("fail", observed == Some(expected), "{observed:?} instead of {expected:?}");
        Ok(task_id)
    }

    pub(super) fn release(&mut self, held: (TaskId, Fence), delay_s: f64) -> Result<TaskId, Violation> {
        let (task_id, fence) = held;
        let reason = if delay_s > 0.0 { "busy".to_owned() } else { String::new() };
        let answer = self.ask(Who::Owner, Release { task_id, fence, delay_s, reason: reason.clone() });
        let Some(at) = self.is_applied(held, &answer)? else { return Ok(task_id) };
        self.queue.release(at, delay_s, &reason);
        let (observed, expected) = (answer.map(|released| released.status).ok(), self.queue.tasks[at].status());
        hold!("release", observed == Some(expected), "{observed:?} instead of {expected:?}");
        Ok(task_id)
    }

    pub(super) fn cancel(&mut self, task_id: TaskId, has_reason: bool) -> Result<TaskId, Violation> {
        let reason = if has_reason { "not wanted".to_owned() } else { String::new() };
        let answer = self.ask(Who::Owner, Cancel { task_id, reason: reason.clone() });
        let state = self.queue.find(task_id).map(|at| (at, self.queue.tasks[at].state));
        match (state, &answer) {
            (None, Err(error)) if error.code == ErrorCode::NotFound => return Ok(task_id),
            (Some((_, State::Ended(TaskStatus::Cancelled))), Ok(_)) => {}
            (Some((_, State::Ended(_))), Err(error)) if error.code == ErrorCode::AlreadyFinished => return Ok(task_id),
            (Some((at, state)), Ok(_)) if !matches!(state, State::Ended(_)) => self.queue.cancel(at, &reason),
            (state, answer) => return broken("cancel", format!("{state:?} was answered {answer:?}")),
        }
        let status = self.queue.find(task_id).map(|at| self.queue.tasks[at].status());
        let observed = answer.ok().map(|answer| (answer.cancelled, answer.cancel_requested, Some(answer.status)));
        let expected = (status == Some(TaskStatus::Cancelled), status == Some(TaskStatus::Running), status);
        hold!("cancel", observed == Some(expected), "{observed:?} instead of {expected:?}");
        Ok(task_id)
    }
}
