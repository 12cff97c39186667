use std::sync::Arc;

use taskqueue_api::{Fence, QueueError, Request, Response, SubmitResult, Submitted, SubmittedMany, TaskId};

use super::{
    cache, chores, claim, finish, free, manage,
    parked::{Parked, Unparked, nothing},
    store::{Setup, not_of_store},
    submit,
    turn::{Halt, Turn},
    work::{ClaimWork, Command, Done, Form, Reply, Returns, Work},
};
use crate::backend::{Fault, RouteTable as _};

/// The content of one transaction.
pub(super) struct Run<'a, 'b> {
    pub(super) turn: &'a mut Turn<'b>,
    pub(super) setup: &'a Setup,
    pub(super) returns: &'a Arc<Returns>,
    pub(super) parked: &'a mut Parked,
}

impl Run<'_, '_> {
    /// Does everything in the transaction, and returns one answer for each command. The answers of waiting claims that
    /// were served go to `served`.
    pub(super) fn all(
        &mut self,
        commands: &mut [Command],
        chores: Option<&[(TaskId, Fence)]>,
        served: &mut Vec<(Unparked, Reply)>,
    ) -> Result<Vec<Reply>, Fault> {
        if let Some(given_out) = chores {
            unrefused(chores::before(self.turn, given_out))?;
        }
        let mut answers = Vec::with_capacity(commands.len());
        for command in &mut *commands {
            answers.push(answered(self.apply(&mut command.work))?);
        }
        self.serve(served)?;
        // A claim of this transaction may have come before the command that made its task claimable.
        for (command, answer) in commands.iter().zip(&mut answers) {
            self.claim_again(&command.work, answer)?;
        }
        if chores.is_some() {
            unrefused(chores::after(self.turn))?;
        }
        Ok(answers)
    }

    /// Makes one change.
    fn apply(&mut self, work: &mut Work) -> Result<Done, Halt> {
        let turn = &mut *self.turn;
        match work {
            Work::Submit(prepared) => {
                let submission = submit::submit(turn, prepared)?;
                Ok(Response::Submitted(self.setup.submitted(submission)).into())
            }
            Work::SubmitMany(prepared) => {
                let mut results = Vec::with_capacity(prepared.len());
                for one in prepared {
                    let submitted = self.submitted(one)?;
                    results.push(SubmitResult::from(submitted));
                }
                Ok(Response::SubmittedMany(SubmittedMany { results }).into())
            }
            Work::Claim(claim) => Ok(Done::Claimed(claim::claim(turn, claim, self.returns)?)),
            Work::Complete(work) => finish::complete(turn, work, self.returns),
            Work::Retry(ids) => manage::retry(turn, ids),
            Work::Purge(ids) => manage::purge(turn, ids),
            Work::Held(machine) => Ok(Done::Held(turn.memory.running.held_by(*machine))),
            Work::Free(leases) => free::free(turn, leases),
            Work::Plain(request) => self.plain(request),
            Work::CacheUsed(key) => cache::used(turn, key).map(|()| Done::Noted),
            Work::Remember(task, owner) => {
                turn.rows.put_route(*task, *owner, ROUTES_MAX)?;
                Ok(Done::Noted)
            }
        }
    }

    /// Makes a change that needs nothing but its request.
    fn plain(&mut self, request: &Request) -> Result<Done, Halt> {
        let turn = &mut *self.turn;
        let response = match request {
            Request::Renew(renew) => finish::renew(turn, renew)?,
            Request::Fail(fail) => finish::fail(turn, fail)?,
            Request::Release(release) => finish::release(turn, release)?,
            Request::Cancel(cancel) => finish::cancel(turn, cancel)?,
            Request::Answer(answer) => finish::answer(turn, answer)?,
            Request::Pause(pause) => manage::pause(turn, pause)?,
            Request::Resume(resume) => manage::resume(turn, resume),
            Request::Limit(limit) => manage::limit(turn, limit)?,
            Request::CacheSet(set) => cache::set(turn, set, self.setup.cache_bytes_max)?,
            Request::CacheDelete(delete) => cache::delete(turn, &delete.key)?,
            // Reached only by a test that asks for every operation of the table.
            other => return Err(Halt::Refused(not_of_store(other))),
        };
        Ok(response.into())
    }

    fn submitted(&mut self, prepared: &mut submit::Prepared) -> Result<Result<Submitted, QueueError>, Halt> {
        match submit::submit(self.turn, prepared) {
            Ok(submission) => Ok(Ok(self.setup.submitted(submission))),
            Err(Halt::Refused(error)) => Ok(Err(error)),
            Err(failed) => Err(failed),
        }
    }

    /// Gives tasks that have become claimable to the claims that wait for them.
    fn serve(&mut self, served: &mut Vec<(Unparked, Reply)>) -> Result<(), Fault> {
        let eased = self.turn.memory.gates.take_eased();
        if !self.parked.is_empty() {
            if eased.all {
                self.turn.memory.lanes.ready_all();
            } else if !eased.types.is_empty() {
                self.turn.memory.lanes.ready_types(&eased.types);
            }
        }
        let (mut readied, mut left) = (self.turn.memory.lanes.take_readied().into_iter(), SERVED_MAX);
        while let Some(text) = readied.next() {
            while let Some(unparked) = self.next_for(&text) {
                match claim::claim(self.turn, &unparked.claim, self.returns) {
                    Ok(given) if given.tasks.is_empty() => {
                        self.parked.put(unparked);
                        break;
                    }
                    Ok(given) => {
                        left = left.saturating_sub(given.tasks.len());
                        served.push((unparked, Ok(Done::Claimed(given))));
                    }
                    Err(Halt::Refused(error)) if unparked.claim.form.is_beside_completion() => {
                        tracing::error!(%error, "no next task could be claimed beside a completion");
                        let nothing = nothing(&unparked.claim, self.returns);
                        served.push((unparked, nothing));
                    }
                    Err(Halt::Refused(error)) => served.push((unparked, Err(error))),
                    Err(Halt::Failed(fault)) => {
                        self.parked.put(unparked);
                        return Err(fault);
                    }
                }
                if left == 0 {
                    // The next transaction goes on from here.
                    self.turn.memory.lanes.ready(readied.chain([text]));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the waiting claim whose turn it is, if a line has a task to give. No claim that has waited longer may
    /// take the task that this claim will get.
    fn next_for(&mut self, text: &str) -> Option<Unparked> {
        let mut unparked = self.first_for(text)?;
        loop {
            let memory = &*self.turn.memory;
            let Some((_, lane)) = memory.lanes.first_for(&unparked.claim.claimant, &memory.gates) else { break };
            match self.first_for(&lane) {
                Some(other) if other.number < unparked.number => {
                    self.parked.put(std::mem::replace(&mut unparked, other));
                }
                Some(other) => {
                    self.parked.put(other);
                    break;
                }
                None => break,
            }
        }
        Some(unparked)
    }

    /// Returns the claim that has waited longest for a line, if nothing holds the line back.
    fn first_for(&mut self, text: &str) -> Option<Unparked> {
        let memory = &*self.turn.memory;
        let lane = Arc::clone(memory.lanes.get(text)?.1);
        let is_held = memory.gates.closes_type(&lane.task_type)
            || lane.concurrency_key.as_ref().is_some_and(|key| memory.gates.closes_key(key));
        if is_held { None } else { self.parked.first_for(&lane) }
    }

    fn claim_again(&mut self, work: &Work, answer: &mut Reply) -> Result<(), Fault> {
        let Ok(Done::Claimed(given)) = answer else { return Ok(()) };
        if !given.tasks.is_empty() {
            return Ok(());
        }
        let claim = match work {
            Work::Claim(claim) => Some(&**claim),
            Work::Complete(work) => work.claim.as_ref(),
            _ => None,
        };
        let Some(claim) = claim else { return Ok(()) };
        let claim = ClaimWork { form: given.form.clone(), ..claim.clone() };
        match claim::claim(self.turn, &claim, self.returns) {
            Ok(given) => *answer = Ok(Done::Claimed(given)),
            // The completion that this claim came with stands.
            Err(Halt::Refused(error)) if matches!(claim.form, Form::Next(_)) => tracing::error!(%error, "no next task"),
            Err(Halt::Refused(error)) => *answer = Err(error),
            Err(Halt::Failed(fault)) => return Err(fault),
        }
        Ok(())
    }
}

/// Turns a refusal into an answer. Only failed rows end the transaction.
fn answered(result: Result<Done, Halt>) -> Result<Reply, Fault> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Halt::Refused(error)) => Ok(Err(error)),
        Err(Halt::Failed(fault)) => Err(fault),
    }
}

/// Turns the refusal of a chore into a fault. Such a chore has met damage, and is tried again after a while, like a
/// failed statement.
fn unrefused(result: Result<(), Halt>) -> Result<(), Fault> {
    result.map_err(|halt| match halt {
        Halt::Refused(error) => Fault::Failed(error.message),
        Halt::Failed(fault) => fault,
    })
}

/// About how many tasks one transaction gives to waiting claims; the last claim may exceed it. This takes some
/// milliseconds, then commands have their turn. The number is small in tests, because their histories have few claims.
const SERVED_MAX: usize = if cfg!(test) { 4 } else { 512 };

/// The most owners of other peers' tasks that are remembered, at about 150 bytes each. The oldest are dropped, because
/// people ask about recent tasks.
const ROUTES_MAX: i64 = 100_000;
