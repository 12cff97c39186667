//! Claims and watches that wait while the history goes on: which of them must be served, and with which tasks.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::FutureExt as _;
use taskqueue_api::{Claim, Completed, ErrorCode, Operation, Outcome, QueueError, Response, TaskId, TaskRecord};

use super::{
    step::{Pick, Who},
    task::{Micros, State, micros},
    world::{Violation, World, broken, hold},
};
use crate::Watch;

/// A claim that was not answered at once.
pub(super) struct Waiting {
    who: Who,
    claim: Claim,
    call: Call,
    /// The end of its wait on the monotonic clock.
    until: Micros,
    /// The rest of its answer, if it stands beside a completion.
    completion: Option<Completed>,
}

type Answer = Result<Response, QueueError>;
type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Tasks with which a claim was answered, and which the model does not know yet.
pub(super) struct Grant {
    who: Who,
    claim: Claim,
    tasks: Vec<TaskRecord>,
    /// Whether there was nothing more for the claim.
    is_all: bool,
    /// Its place among the waiting claims, if it waited.
    place: Option<usize>,
}

/// A caller that waits for the end of tasks.
pub(super) struct Waiter {
    watch: Watch,
    outstanding: HashSet<TaskId>,
    ids: Vec<TaskId>,
}

impl World {
    /// Sends a request that may wait. Returns `None` when it does wait.
    pub(super) fn begin<O>(
        &mut self,
        who: Who,
        operation: O,
        claim: &Claim,
    ) -> Result<Option<Result<O::Answer, QueueError>>, Violation>
    where
        O: Operation + Send + 'static,
        O::Answer: Send,
    {
        if claim.wait_s <= 0.0 {
            return Ok(Some(self.ask(who, operation)));
        }
        let mut call = self.call(who, operation.into_request());
        if let Some(answer) = poll(&mut call) {
            return Ok(Some(answer.and_then(O::answer)));
        }
        self.rest()?;
        if let Some(answer) = poll(&mut call) {
            return Ok(Some(answer.and_then(O::answer)));
        }
        let until = self.queue.clocks.mono + micros(claim.wait_s);
        self.waiting.push(Waiting { who, claim: claim.clone(), call, until, completion: None });
        Ok(None)
    }

    /// Notes that the claim that has just begun to wait stands beside a completion.
    pub(super) fn waits_beside(&mut self, completed: Completed) {
        if let Some(waiting) = self.waiting.last_mut() {
            waiting.completion = Some(completed);
        }
    }

    /// Notes the tasks with which a claim was answered.
    pub(super) fn granted(&mut self, who: Who, claim: &Claim, tasks: Vec<TaskRecord>, is_all: bool) {
        self.grants.push(Grant { who, claim: claim.clone(), tasks, is_all, place: None });
    }

    /// Checks which waiting claims were served, and that exactly these had to be.
    pub(super) fn serve(&mut self) -> Result<(), Violation> {
        let mut left = Vec::new();
        let mut waited = HashSet::new();
        for (place, mut waiting) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            match poll(&mut waiting.call) {
                None => left.push((place, waiting)),
                Some(answer) => {
                    let tasks = waiting.answered(answer)?;
                    let is_over = waiting.until <= self.queue.clocks.mono;
                    hold!("wait", !tasks.is_empty() || is_over, "{:?} was answered before its time", waiting.claim);
                    if !tasks.is_empty() {
                        waited.insert(place);
                        let Waiting { who, claim, .. } = waiting;
                        self.grants.push(Grant { who, claim, tasks, is_all: false, place: Some(place) });
                    }
                }
            }
        }
        self.replay(&left)?;
        for (_, waiting) in &left {
            let is_over = waiting.until <= self.queue.clocks.mono;
            hold!("wait", !is_over, "{:?} waits for longer than it asked for", waiting.claim);
            let first = self.queue.first_for(self.peer(waiting.who), &waiting.claim);
            let first = first.map(|at| &self.queue.tasks[at]);
            hold!("liveness", first.is_none(), "{:?} waits beside {first:?}", waiting.claim);
        }
        self.waiting = left.into_iter().map(|(_, waiting)| waiting).collect();
        self.told()
    }

    /// Applies the claimed tasks to the model, in the order in which the fences were issued.
    fn replay(&mut self, left: &[(usize, Waiting)]) -> Result<(), Violation> {
        let mut grants = std::mem::take(&mut self.grants);
        grants.sort_by_key(|grant| grant.tasks.first().and_then(|task| task.fence));
        let mut to_come: Vec<_> =
            left.iter().map(|(place, waiting)| (*place, waiting.who, waiting.claim.clone())).collect();
        to_come.extend(grants.iter().filter_map(|grant| Some((grant.place?, grant.who, grant.claim.clone()))));
        for Grant { who, claim, tasks, is_all, place } in grants {
            if let Some((place, first)) = place.zip(tasks.first()) {
                to_come.retain(|(other, ..)| *other != place);
                let at = self.queue.find(first.task_id).unwrap_or_default();
                let passed = to_come
                    .iter()
                    .find(|(other, who, claim)| *other < place && self.queue.may_take(self.peer(*who), claim, at));
                hold!("turn", passed.is_none(), "{claim:?} was served before {passed:?} with {first:?}");
            }
            for task in tasks {
                self.given(who, &claim, Some(task))?;
            }
            if is_all {
                self.given(who, &claim, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn watch(&mut self, picks: &[Pick]) -> Result<(), Violation> {
        self.catch_up();
        let is_live =
            |id: &TaskId| self.queue.find(*id).is_some_and(|at| !matches!(self.queue.tasks[at].state, State::Ended(_)));
        let outstanding: HashSet<_> = picks.iter().map(|pick| self.pick(*pick)).filter(is_live).collect();
        if outstanding.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = outstanding.iter().copied().collect();
        match self.store().watch(&ids) {
            Ok(watch) => self.watches.push(Waiter { watch, outstanding, ids }),
            Err(error) => return broken("watch", format!("was refused: {error}")),
        }
        Ok(())
    }

    /// Notes which watched tasks have ended, because they may be queued again before they are compared.
    pub(super) fn note_ends(&mut self) {
        let tasks = &self.queue.tasks;
        let has_ended = |id: &TaskId| tasks.iter().any(|task| task.id == *id && matches!(task.state, State::Ended(_)));
        self.watches.iter_mut().for_each(|waiter| waiter.outstanding.retain(|id| !has_ended(id)));
    }

    /// Checks that watches are told when all their tasks have ended, and not before.
    fn told(&mut self) -> Result<(), Violation> {
        self.note_ends();
        self.are_given_what_went()?;
        for waiter in &mut self.watches {
            let is_told = waiter.watch.done().now_or_never().is_some();
            let is_due = waiter.outstanding.is_empty();
            hold!("watch", is_told == is_due, "told: {is_told}, with {:?} to come", waiter.outstanding);
        }
        self.watches.retain(|waiter| !waiter.outstanding.is_empty());
        Ok(())
    }

    /// Checks that a watch has the last record of a task that was removed, and of no other task.
    fn are_given_what_went(&self) -> Result<(), Violation> {
        let owner = self.peer(Who::Owner);
        for (waiter, id) in self.watches.iter().flat_map(|waiter| waiter.ids.iter().map(move |id| (waiter, *id))) {
            let task = self.queue.tasks.iter().find(|task| task.id == id).filter(|task| task.gone);
            let expected = task.map(|task| (task.status(), task.result.clone()));
            let given = waiter.watch.removed(id, owner).map(|record| (record.status, record.result));
            hold!("watch", given == expected, "of the removed {id} {given:?} instead of {expected:?}");
        }
        Ok(())
    }

    /// Lets one of the waiting callers go away.
    pub(super) fn leave(&mut self, number: usize) {
        self.catch_up();
        let count = self.waiting.len() + self.watches.len();
        match number.checked_rem(count) {
            None => {}
            Some(at) if at < self.waiting.len() => drop(self.waiting.remove(at)),
            Some(at) => drop(self.watches.remove(at - self.waiting.len())),
        }
    }

    /// Checks the answers of a closed store: claims are refused, and completions are told that they stand.
    pub(super) fn turned_away(&mut self) -> Result<(), Violation> {
        self.watches.clear();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let Some(answer) = poll(&mut waiting.call) else {
                return broken("close", format!("{:?} waits at a closed store", waiting.claim));
            };
            if waiting.completion.is_some() {
                let tasks = waiting.answered(answer)?;
                hold!("close", tasks.is_empty(), "a closed store gave {tasks:?} out");
            } else {
                let is_refused = answer
                    .as_ref()
                    .is_err_and(|error| error.code == ErrorCode::ShuttingDown && error.outcome == Outcome::NotApplied);
                hold!("close", is_refused, "{:?} was answered {answer:?}", waiting.claim);
            }
        }
        Ok(())
    }

    fn call(&self, who: Who, request: taskqueue_api::Request) -> Call {
        assert!(taskqueue_api::Check::check(&request).is_ok(), "a history has good arguments only: {request:?}");
        self.is_due.set(false);
        let (store, caller) = (Arc::clone(self.store()), self.caller(who));
        Box::pin(async move { store.call(&caller, request).await })
    }
}

impl Waiting {
    /// Returns the tasks in its answer.
    fn answered(&self, answer: Answer) -> Result<Vec<TaskRecord>, Violation> {
        match (answer, &self.completion) {
            (Ok(Response::Claimed(claimed)), None) => Ok(claimed.task.into_iter().collect()),
            (Ok(Response::ClaimedMany(claimed)), None) => Ok(claimed.tasks),
            (Ok(Response::Completed(mut completed)), Some(expected)) => {
                let next = completed.next.take();
                hold!("complete", completed == *expected, "{completed:?} instead of {expected:?}");
                Ok(next.into_iter().collect())
            }
            (answer, completion) => {
                broken("wait", format!("{:?} ({completion:?}) was answered {answer:?}", self.claim))
            }
        }
    }
}

/// Returns the answer, if it is there. The store's turn is over, so no waker is needed.
fn poll(call: &mut Call) -> Option<Answer> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
