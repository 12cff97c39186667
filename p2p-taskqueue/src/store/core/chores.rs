use super::{
    cache, depend,
    finish::chance,
    manage, timeline,
    turn::{Found, Halt, Turn, usable},
};
use crate::{
    engine::{self, Standing, Step},
    store::backend::{Due, Fault, Seq, Timer},
    task::{Fence, TaskId},
};

/// Does what time calls for and what was left over.
pub(super) fn before(turn: &mut Turn<'_>, given_out: &[(TaskId, Fence)]) -> Result<(), Halt> {
    // A committed batch notes the clocks.
    turn.wrote |= timeline::was_set(turn.memory.meta.clocks, turn.now);
    take_back(turn, given_out)?;
    expire_leases(turn)?;
    pass_deadlines(turn)?;
    make_ready(turn, Timer::Ready)?;
    make_ready(turn, Timer::Date)?;
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
    each_due(turn, Timer::Deadline, |turn, due, seq| {
        let item = usable(turn.item(seq))?.flatten();
        match item.filter(|item| item.live.deadline.map(Due::Deadline) == Some(due)) {
            Some(item) => {
                let ended = engine::give_up(item.live.clone(), turn.now);
                turn.end(&item, &ended, None)
            }
            None => turn.rows.clear_timer(due, seq),
        }
    })
}

/// Makes delayed and scheduled tasks claimable whose time has come.
fn make_ready(turn: &mut Turn<'_>, timer: Timer) -> Result<(), Halt> {
    each_due(turn, timer, |turn, due, seq| {
        let item = usable(turn.item(seq))?.flatten();
        match item.filter(|item| Due::claimable(&item.live) == Some(due)) {
            Some(item) => {
                let live = engine::time_came(item.live.clone(), turn.now);
                turn.take_step(item, Step::Stay(live))
            }
            None => turn.rows.clear_timer(due, seq),
        }
    })
}

fn each_due(
    turn: &mut Turn<'_>,
    timer: Timer,
    mut one: impl FnMut(&mut Turn<'_>, Due, Seq) -> Result<(), Fault>,
) -> Result<(), Halt> {
    let by = timer.by(turn.now);
    if turn.memory.first(timer).is_none_or(|first| first > by) {
        return Ok(());
    }
    let due = turn.rows.due(by, CHORES_MAX)?;
    for (due, seq) in &due {
        turn.wrote = true;
        one(turn, *due, *seq)?;
    }
    if due.len() < CHORES_MAX {
        let first = turn.rows.first_due(timer)?;
        turn.memory.set_first(timer, first);
    }
    Ok(())
}

/// Removes a few of the ended tasks whose time is over (clause T11).
fn remove_ended(turn: &mut Turn<'_>) -> Result<(), Halt> {
    let by = Timer::Removal.by(turn.now);
    if turn.memory.first(Timer::Removal).is_none_or(|first| first > by) {
        return Ok(());
    }
    let due = turn.rows.due(by, SWEEP_MAX)?;
    let mut bytes = 0;
    for (removal, seq) in &due {
        turn.wrote = true;
        match usable(turn.rows.ended(*seq))?.flatten() {
            Some((ended, result)) => {
                bytes += result.map_or(0, |result| result.len_bytes());
                manage::remove(turn, *seq, &ended)?;
            }
            // What cannot be read is left for a repair.
            None => turn.rows.clear_timer(*removal, *seq)?,
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
    if turn.memory.keys_at.is_none_or(|at| at > turn.now.elapsed) {
        return Ok(());
    }
    let removed = turn.rows.remove_keys(turn.now.elapsed, SWEEP_MAX)?;
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
