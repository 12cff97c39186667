use super::{
    cache, depend,
    finish::chance,
    manage,
    turn::{Found, Halt, Turn, usable},
};
use crate::{
    engine::{self, Live, Phase, Standing, Step, Wall},
    store::backend::{Fault, Timer},
    task::{Fence, TaskId},
};

/// Does what time calls for and what was left over.
pub(super) fn before(turn: &mut Turn<'_>, given_out: &[(TaskId, Fence)]) -> Result<(), Halt> {
    take_back(turn, given_out)?;
    expire_leases(turn)?;
    pass_deadlines(turn)?;
    ready_delayed(turn)?;
    Ok(depend::settle(turn)?)
}

/// Makes room, once the rest is done.
pub(super) fn after(turn: &mut Turn<'_>) -> Result<(), Halt> {
    remove_ended(turn)?;
    remove_keys(turn)?;
    cache::sweep(turn)
}

/// Takes back what was given out to callers that had gone away.
fn take_back(turn: &mut Turn<'_>, given_out: &[(TaskId, Fence)]) -> Result<(), Halt> {
    for (id, fence) in given_out {
        let item = match turn.find_if_any(*id) {
            Ok(Some(Found::Live(item))) => item,
            Ok(_) | Err(Halt::Refused(_)) => continue,
            Err(failed) => return Err(failed),
        };
        if let Some(step) = engine::give_back(Standing::Live(item.live.clone()), *id, *fence, turn.now) {
            turn.take_step(item, step)?;
        }
    }
    Ok(())
}

/// Ends the leases that were not renewed in time (clause T4).
fn expire_leases(turn: &mut Turn<'_>) -> Result<(), Halt> {
    for id in turn.memory.running.ended_by(turn.now.monotonic, CHORES_MAX) {
        if let Some(Found::Live(item)) = turn.find_if_any(id)? {
            let step = engine::expire(item.live.clone(), chance(), turn.now);
            turn.take_step(item, step)?;
        }
    }
    Ok(())
}

/// Gives up the tasks whose deadline has passed.
fn pass_deadlines(turn: &mut Turn<'_>) -> Result<(), Halt> {
    each_due(turn, Timer::Deadline, turn.now.steady, |turn, at, seq| {
        let item = usable(turn.item(seq))?.flatten();
        match item.filter(|item| item.live.deadline == Some(at)) {
            Some(item) => {
                let ended = engine::give_up(item.live.clone(), turn.now);
                turn.end(&item, &ended, None)
            }
            None => turn.rows.clear_timer(Timer::Deadline, at, seq),
        }
    })
}

/// Makes delayed tasks claimable whose time has come.
fn ready_delayed(turn: &mut Turn<'_>) -> Result<(), Halt> {
    each_due(turn, Timer::Ready, turn.now.wall, |turn, at, seq| {
        let item = usable(turn.item(seq))?.flatten();
        match item.filter(|item| item.live.phase == Phase::Delayed && item.live.ready_at == at) {
            Some(item) => {
                let live = Live { phase: Phase::Ready, updated_at: turn.now.wall, ..item.live.clone() };
                turn.take_step(item, Step::Stay(live))
            }
            None => turn.rows.clear_timer(Timer::Ready, at, seq),
        }
    })
}

fn each_due(
    turn: &mut Turn<'_>,
    timer: Timer,
    by: Wall,
    mut one: impl FnMut(&mut Turn<'_>, Wall, i64) -> Result<(), Fault>,
) -> Result<(), Halt> {
    if turn.memory.first(timer).is_none_or(|at| at > by) {
        return Ok(());
    }
    let due = turn.rows.due(timer, by, CHORES_MAX)?;
    for (at, seq) in &due {
        turn.wrote = true;
        one(turn, *at, *seq)?;
    }
    if due.len() < CHORES_MAX {
        let first = turn.rows.first_due(timer)?;
        turn.memory.set_first(timer, first);
    }
    Ok(())
}

/// Removes a few of the ended tasks whose time is over (clause T11).
fn remove_ended(turn: &mut Turn<'_>) -> Result<(), Halt> {
    if turn.memory.first(Timer::Removal).is_none_or(|at| at > turn.now.steady) {
        return Ok(());
    }
    let due = turn.rows.due(Timer::Removal, turn.now.steady, SWEEP_MAX)?;
    let mut bytes = 0;
    for (at, seq) in &due {
        turn.wrote = true;
        match usable(turn.rows.ended(*seq))?.flatten() {
            Some((ended, result)) => {
                bytes += result.map_or(0, |result| result.len_bytes());
                manage::remove(turn, *seq, &ended)?;
            }
            // What cannot be read is left for a repair.
            None => turn.rows.clear_timer(Timer::Removal, *at, *seq)?,
        }
        if bytes > SWEEP_BYTES_MAX {
            return Ok(());
        }
    }
    if due.len() < SWEEP_MAX {
        let first = turn.rows.first_due(Timer::Removal)?;
        turn.memory.set_first(Timer::Removal, first);
    }
    Ok(())
}

fn remove_keys(turn: &mut Turn<'_>) -> Result<(), Halt> {
    if turn.memory.keys_at.is_none_or(|at| at > turn.now.steady) {
        return Ok(());
    }
    let removed = turn.rows.remove_keys(turn.now.steady, SWEEP_MAX)?;
    turn.wrote |= removed > 0;
    if removed < SWEEP_MAX {
        turn.memory.keys_at = turn.rows.first_key_expiry()?;
    }
    Ok(())
}

/// Leases ended and delayed tasks readied in one transaction: a few milliseconds of work, then commands have their turn.
const CHORES_MAX: usize = 256;

/// Rows removed in one transaction, well under a millisecond of work unless they are large.
const SWEEP_MAX: usize = 32;

/// Removing a large row walks all its pages: stop the chunk after this many bytes.
const SWEEP_BYTES_MAX: usize = 4 * 1024 * 1024;
