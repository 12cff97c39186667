use taskqueue_api::{Fence, TaskId};

use super::{
    cache,
    depend::{self, SETTLED_MAX},
    finish::chance,
    manage,
    turn::{Found, Halt, Turn, usable},
};
use crate::{
    backend::{Due, Fault, KeyTable as _, Seq, TaskTable as _, Timer, TimerTable as _},
    engine::{self, Elapsed, Standing, Step},
};

/// Does what is due by now, and what an earlier transaction has left over.
pub(super) fn before(turn: &mut Turn<'_>, given_out: &[(TaskId, Fence)]) -> Result<(), Halt> {
    take_back(turn, given_out)?;
    expire_leases(turn)?;
    pass_deadlines(turn)?;
    make_ready(turn, Timer::Ready)?;
    make_ready(turn, Timer::Date)?;
    Ok(depend::settle(turn)?)
}

/// Removes what has expired, once everything else is done.
pub(super) fn after(turn: &mut Turn<'_>) -> Result<(), Halt> {
    remove_ended(turn)?;
    remove_keys(turn)?;
    cache::sweep(turn)
}

/// Takes back tasks that were given out to callers that had gone away.
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

/// Ends the tasks whose deadline has passed.
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

/// Makes delayed and scheduled tasks claimable when their time has come.
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
    let due = due(turn, by, CHORES_MAX)?;
    for (due, seq) in &due {
        one(turn, *due, *seq)?;
    }
    Ok(note_next(turn, timer, &due)?)
}

/// Returns the first timers that end at `by` or before, without those that were set aside.
fn due(turn: &mut Turn<'_>, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault> {
    let aside = &turn.memory.aside;
    let mut due = turn.rows.due(by, count_max + aside.count(by.timer()))?;
    due.retain(|(due, seq)| !aside.has(*due, *seq));
    due.truncate(count_max);
    Ok(due)
}

/// Notes when the next timer ends. A timer that was just looked at but is still there would stay due for ever, so it is
/// set aside.
fn note_next(turn: &mut Turn<'_>, timer: Timer, looked_at: &[(Due, Seq)]) -> Result<(), Fault> {
    loop {
        let next = due(turn, timer.at(i64::MAX), 1)?.pop();
        let stuck = next.filter(|next| looked_at.contains(next));
        let Some((due, seq)) = stuck else {
            turn.memory.set_first(timer, next.map(|(due, _)| due));
            return Ok(());
        };
        tracing::error!(?timer, seq, "a timer of the store cannot be cleared; it is passed over until a repair");
        if !turn.memory.aside.put_stuck(due, seq) {
            tracing::error!(
                ?timer,
                "too many timers of the store cannot be cleared; these are at rest until a restart"
            );
            turn.memory.set_first(timer, None);
            return Ok(());
        }
    }
}

/// Removes a few of the ended tasks whose retention is over (clause T11).
fn remove_ended(turn: &mut Turn<'_>) -> Result<(), Halt> {
    let by = Timer::Removal.by(turn.now);
    if turn.memory.first(Timer::Removal).is_none_or(|first| first > by) {
        return Ok(());
    }
    let (mut looked_at, mut bytes) = (Vec::new(), 0);
    for (removal, seq) in due(turn, by, SWEEP_MAX)? {
        looked_at.push((removal, seq));
        match usable(turn.rows.ended(seq))?.flatten() {
            Some((id, ended, result)) => {
                bytes += result.map_or(0, |result| result.len_bytes());
                if !manage::remove(turn, seq, id, &ended, SETTLED_MAX)? {
                    turn.memory.aside.put_off(seq, removal);
                    // Telling the children takes the removal up again.
                    turn.memory.unsettled.push_back(seq);
                }
            }
            // A task that cannot be read is left for a repair.
            None => turn.rows.clear_timer(removal, seq)?,
        }
        if bytes > SWEEP_BYTES_MAX {
            break;
        }
    }
    Ok(note_next(turn, Timer::Removal, &looked_at)?)
}

fn remove_keys(turn: &mut Turn<'_>) -> Result<(), Halt> {
    if turn.memory.keys_at.is_none_or(|at| at > turn.now.elapsed) {
        return Ok(());
    }
    let removed = turn.rows.remove_keys(turn.now.elapsed, SWEEP_MAX)?;
    let next = turn.rows.first_key_expiry()?;
    turn.memory.keys_at = if removed > 0 { next } else { next.map(|at| put_off(turn, at, "idempotency keys")) };
    Ok(())
}

/// Returns the time of the next attempt to remove expired rows. If the first one should have been removed and could not
/// be, that is after a pause.
pub(super) fn put_off(turn: &Turn<'_>, due: Elapsed, what: &str) -> Elapsed {
    if due > turn.now.elapsed {
        return due;
    }
    tracing::error!(what, "some of these are due and cannot be removed from the store; `taskmesh repair` may help");
    turn.now.elapsed.after(PUT_OFF_S)
}

/// The most leases that end, and the most delayed tasks that become ready, in one transaction. This takes a few
/// milliseconds, then commands have their turn. The number is smaller in tests, because they have fewer tasks.
pub(super) const CHORES_MAX: usize = if cfg!(test) { 32 } else { 256 };

/// The most rows that are removed in one transaction: well under a millisecond of work, unless the rows are large.
const SWEEP_MAX: usize = if cfg!(test) { 4 } else { 32 };

/// The bytes of results after which one transaction removes no more rows. To remove a large row, all its pages are
/// read.
const SWEEP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The pause before another attempt to remove rows, in seconds: an hour. Such rows only cost room.
const PUT_OFF_S: f64 = 3_600.0;
