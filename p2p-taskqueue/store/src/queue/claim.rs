use std::sync::Arc;

use taskqueue_api::{ErrorCode, QueueError, TaskStatus, limits::CLAIMED_BYTES_MAX};

use super::{
    turn::{Halt, Turn},
    work::{ClaimWork, Given, GivenOut, Returns},
};
use crate::{
    backend::{Fault, Place},
    engine::{self, NewLease},
};

/// Gives out tasks, up to the claim's number and the bytes of one answer.
pub(super) fn claim(turn: &mut Turn<'_>, claim: &ClaimWork, returns: &Arc<Returns>) -> Result<GivenOut, Halt> {
    let mut tasks: Vec<Given> = Vec::new();
    let mut bytes = 0;
    while tasks.len() < claim.max_tasks as usize && bytes < CLAIMED_BYTES_MAX {
        match claim_one(turn, claim) {
            Ok(Some(given)) => {
                bytes += given.payload.len();
                tasks.push(given);
            }
            Ok(None) => break,
            // The tasks that were given out before must reach the worker.
            Err(Halt::Refused(_)) if !tasks.is_empty() => break,
            Err(halt) => return Err(halt),
        }
    }
    Ok(GivenOut::new(tasks, claim.form.clone(), returns))
}

/// Gives out the first task that the worker may take, if there is one.
fn claim_one(turn: &mut Turn<'_>, claim: &ClaimWork) -> Result<Option<Given>, Halt> {
    for _ in 0..=SET_ASIDE_MAX {
        let first = turn.memory.lanes.first_for(&claim.claimant, &turn.memory.gates);
        let Some((place, lane)) = first else { return Ok(None) };
        let Some((item, task)) = turn.in_line(&lane, place)? else {
            set_aside(turn, &lane, place)?;
            continue;
        };
        let fence = turn.next_fence();
        let machine = claim.claimant.peer;
        let grant = NewLease { fence, machine, worker: claim.worker.clone(), lease_s: claim.lease_s };
        let live = engine::grant(&item.live, grant, turn.now);
        turn.stay(item, live.clone())?;
        return Ok(Some(Given { spec: task.spec, live, payload: task.payload, fence }));
    }
    Err(QueueError::new(ErrorCode::StorageError, "too many damaged records in a row; run `taskmesh repair`").into())
}

/// Takes a task that cannot be used out of its line, so that it does not hold up those behind it.
fn set_aside(turn: &mut Turn<'_>, lane: &Arc<str>, place: Place) -> Result<(), Fault> {
    tracing::error!(task = %place.id, seq = place.seq, "a task's stored record is damaged; it is set aside");
    let task_type = turn.memory.lanes.get(lane).map(|(_, lane)| Arc::from(lane.task_type.as_str()));
    if let Some(task_type) = task_type {
        turn.memory.gates.leave(&task_type, TaskStatus::Queued);
    }
    turn.leave_line(lane, place)
}

/// The most damaged rows that one claim passes over.
const SET_ASIDE_MAX: usize = 16;
