use std::sync::Arc;

use taskqueue_api::{
    Answer, Cancel, Cancelled, Completed, Fail, Failed, QueueError, Release, Released, Renew, Response, TaskId,
    TaskStatus,
};

use super::{
    claim,
    submit::{self, Plans},
    turn::{Halt, Item, Turn, lease_end, not_found},
    work::{ClaimWork, CompleteWork, Done, Form, GivenOut, Returns},
};
use crate::engine::{self, Completion, Step};

pub(super) fn complete(turn: &mut Turn<'_>, work: &mut CompleteWork, returns: &Arc<Returns>) -> Result<Done, Halt> {
    let CompleteWork { request, children, claim } = work;
    let id = request.task_id;
    let (standing, stored, item) = turn.find(id)?.split();
    let completed = match engine::complete(standing, stored.as_ref(), turn.lease_end(id), request, turn.now)? {
        Completion::Repeated(status) => {
            let submitted = submit::submitted_before(turn, children, "submit")?;
            Completed { task_id: id, status, repeated: true, submitted, next: None }
        }
        Completion::End(ended) => {
            let item = living(item, id)?;
            // The submits are planned before anything is written, so that a refusal changes nothing.
            let submitted = Plans::of(turn, children, "submit")?.carry_out(turn, children)?;
            let status = ended.status;
            turn.end(&item, &ended, request.result.as_ref())?;
            Completed { task_id: id, status, repeated: false, submitted, next: None }
        }
    };
    match claim {
        None => Ok(Response::Completed(completed).into()),
        Some(claim) => Ok(Done::Claimed(next(turn, claim, completed, returns)?)),
    }
}

/// Claims the next task after a completion. The completion stands whatever becomes of the claim.
fn next(
    turn: &mut Turn<'_>,
    claim: &ClaimWork,
    completed: Completed,
    returns: &Arc<Returns>,
) -> Result<GivenOut, Halt> {
    let form = Form::Next(Box::new(completed));
    match claim::claim(turn, &ClaimWork { form: form.clone(), ..claim.clone() }, returns) {
        Err(Halt::Refused(error)) => {
            tracing::error!(%error, "no next task could be claimed beside a completion");
            Ok(GivenOut::new(Vec::new(), form, returns))
        }
        claimed => claimed,
    }
}

pub(super) fn renew(turn: &mut Turn<'_>, request: &Renew) -> Result<Response, Halt> {
    let (standing, _, item) = turn.find(request.task_id)?.split();
    let end = turn.lease_end(request.task_id);
    let (live, renewed) = engine::renew(standing, end, request, turn.now)?;
    let item = living(item, request.task_id)?;
    turn.note(item, live, Some(lease_end(turn.now, request.lease_s)))?;
    Ok(Response::Renewed(renewed))
}

pub(super) fn fail(turn: &mut Turn<'_>, request: &Fail) -> Result<Response, Halt> {
    let (standing, _, item) = turn.find(request.task_id)?.split();
    let end = turn.lease_end(request.task_id);
    let step = engine::fail(standing, end, request, chance(), turn.now)?;
    let item = living(item, request.task_id)?;
    let failed = Failed { status: status_of(&step), attempt: item.live.attempt };
    turn.take_step(item, step)?;
    Ok(Response::Failed(failed))
}

pub(super) fn release(turn: &mut Turn<'_>, request: &Release) -> Result<Response, Halt> {
    let (standing, _, item) = turn.find(request.task_id)?.split();
    let end = turn.lease_end(request.task_id);
    let step = engine::release(standing, end, request, turn.now)?;
    let status = status_of(&step);
    turn.take_step(living(item, request.task_id)?, step)?;
    Ok(Response::Released(Released { status }))
}

pub(super) fn cancel(turn: &mut Turn<'_>, request: &Cancel) -> Result<Response, Halt> {
    let (standing, _, item) = turn.find(request.task_id)?.split();
    let Some(step) = engine::cancel(standing, request, turn.now)? else {
        let status = TaskStatus::Cancelled;
        return Ok(Response::Cancelled(Cancelled { cancelled: true, cancel_requested: false, status }));
    };
    let status = status_of(&step);
    match (step, living(item, request.task_id)?) {
        // This is only a note for the worker: the lease stays as it is.
        (Step::Stay(live), item) => turn.note(item, live, None)?,
        (step, item) => turn.take_step(item, step)?,
    }
    let cancelled = status == TaskStatus::Cancelled;
    Ok(Response::Cancelled(Cancelled { cancelled, cancel_requested: !cancelled, status }))
}

pub(super) fn answer(turn: &mut Turn<'_>, request: &Answer) -> Result<Response, Halt> {
    let (standing, _, item) = turn.find(request.task_id)?.split();
    let (live, answered) = engine::answer(standing, request, turn.now)?;
    if let Some(live) = live {
        // Only running tasks have open questions, and the lease stays as it is.
        turn.note(living(item, request.task_id)?, live, None)?;
    }
    Ok(Response::Answered(answered))
}

fn living(item: Option<Item>, id: TaskId) -> Result<Item, QueueError> {
    item.ok_or_else(|| not_found(id))
}

const fn status_of(step: &Step) -> TaskStatus {
    match step {
        Step::Stay(live) => live.status(),
        Step::End(ended) => ended.status,
    }
}

/// Returns a random number from 0 up to 1 for the jitter of a backoff, or 0.5 when the system has no randomness to
/// give.
pub(super) fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / (f64::from(u32::MAX) + 1.0))
}
