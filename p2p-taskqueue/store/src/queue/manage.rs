use std::sync::Arc;

use taskqueue_api::{Json, Limit, Limited, Pause, Paused, Response, Resume, Resumed, TaskId, TaskStatus};

use super::{
    depend::{self, Parents},
    sets::once,
    turn::{Found, Halt, Item, Kind, Turn, unusable, usable},
    work::Done,
};
use crate::{
    backend::{Due, EdgeTable as _, Fault, Seq, TaskRow, TaskTable as _, TimerTable as _, TypeTable as _},
    engine::{self, Ended, Record, Standing},
};

/// Queues dead letters again.
pub(super) fn retry(turn: &mut Turn<'_>, ids: &[TaskId]) -> Result<Done, Halt> {
    change(turn, ids, |turn, id, seq, ended| {
        if ended.status == TaskStatus::Completed {
            return Ok(false);
        }
        let Some(task) = turn.rows.task(seq).map_err(|fault| unusable(id, fault))? else { return Ok(false) };
        let parents = Parents::of(turn, &task.spec)?;
        if parents.failed.is_some() || depend::has_lost_one(turn, seq)? {
            return Ok(false);
        }
        let kind = Arc::new(Kind::of(&task.spec));
        forget_end(turn, seq, id, ended, &kind.task_type)?;
        let live = engine::block(engine::retry(&task.spec, ended, turn.now), parents.count());
        let live = turn.placed(live);
        turn.begin(Item { seq, id, kind, live }, &parents.waiting, true)?;
        Ok(true)
    })
}

/// Removes ended tasks.
pub(super) fn purge(turn: &mut Turn<'_>, ids: &[TaskId]) -> Result<Done, Halt> {
    // Somebody waits for the answer, so each removal is completed at once, however many tasks have failed because of
    // it.
    change(turn, ids, |turn, id, seq, ended| Ok(remove(turn, seq, id, ended, usize::MAX)?))
}

/// Removes an ended task, and returns whether it is gone. A task stays while its children still have to be told of its
/// end. If more than `failed_max` tasks have failed because of it, only that many are handled, and the next call goes
/// on.
pub(super) fn remove(
    turn: &mut Turn<'_>,
    seq: Seq,
    id: TaskId,
    ended: &Ended,
    failed_max: usize,
) -> Result<bool, Fault> {
    if !turn.rows.children(seq, 1)?.is_empty() {
        return Ok(false);
    }
    match usable(turn.rows.task(seq))?.flatten() {
        Some(task) => {
            if !depend::forget(turn, seq, &task.spec, ended, failed_max)? {
                return Ok(false);
            }
            let task_type = task.spec.task_type.as_str().into();
            if turn.watches.are_for(id) {
                hand_over(turn, task)?;
            }
            forget_end(turn, seq, id, ended, &task_type)?;
        }
        // The counts that included the task are not known any more; a repair counts anew.
        None => drop_end(turn, seq, id, ended)?,
    }
    turn.rows.remove_task(seq, id)?;
    Ok(true)
}

/// Gives a record that is about to be removed to the callers that wait for the task, so that they are answered all the
/// same.
fn hand_over(turn: &mut Turn<'_>, task: TaskRow) -> Result<(), Fault> {
    let ended = usable(turn.rows.ended(task.seq))?.flatten();
    if let (Some((_, ended, result)), Ok(payload)) = (ended, Json::parse(task.payload)) {
        let record = Record { spec: task.spec, payload, standing: Standing::Ended(ended), result };
        turn.watches.keep(record, turn.now);
    }
    Ok(())
}

pub(super) fn pause(turn: &mut Turn<'_>, pause: &Pause) -> Result<Response, Halt> {
    let task_types = once(pause.task_types.clone());
    turn.memory.gates.admit_settings(&task_types)?;
    let (queued, running) = turn.memory.gates.set(&task_types, |row| {
        if pause.drain {
            row.draining = true;
        } else {
            row.paused = true;
        }
    });
    Ok(Response::Paused(Paused { queued, running }))
}

pub(super) fn resume(turn: &mut Turn<'_>, resume: &Resume) -> Response {
    let go_on = |row: &mut crate::backend::TypeRow| (row.paused, row.draining) = (false, false);
    let (gates, task_types) = (&mut turn.memory.gates, once(resume.task_types.clone()));
    let (queued, running) = if task_types.is_empty() { gates.set_all(go_on) } else { gates.set(&task_types, go_on) };
    Response::Resumed(Resumed { queued, running })
}

pub(super) fn limit(turn: &mut Turn<'_>, limit: &Limit) -> Result<Response, Halt> {
    // To remove a limit needs no room.
    let adds = limit.running_max.is_some();
    let running = if let Some(task_type) = &limit.task_type {
        let names = std::slice::from_ref(task_type);
        if adds {
            turn.memory.gates.admit_settings(names)?;
        }
        turn.memory.gates.set(names, |row| row.running_max = limit.running_max).1
    } else {
        let key = limit.concurrency_key.as_deref().unwrap_or_default();
        if adds {
            turn.memory.gates.admit_key_limit(key)?;
        }
        turn.rows.put_key_limit(key, limit.running_max)?;
        let running = turn.memory.gates.limit_key(key, limit.running_max);
        turn.memory.lanes.key_changed(key, &turn.memory.gates);
        running
    };
    Ok(Response::Limited(Limited { running }))
}

/// Applies a change to each of these tasks that has ended, and counts the tasks that were changed and those that were
/// skipped.
fn change(
    turn: &mut Turn<'_>,
    ids: &[TaskId],
    mut one: impl FnMut(&mut Turn<'_>, TaskId, Seq, &Ended) -> Result<bool, Halt>,
) -> Result<Done, Halt> {
    let (mut changed, mut skipped) = (0, 0);
    for id in ids {
        let done = match turn.find_if_any(*id) {
            Ok(Some(Found::Ended(seq, ended, _))) => one(turn, *id, seq, &ended),
            Ok(_) => Ok(false),
            Err(halt) => Err(halt),
        };
        match done {
            Ok(true) => changed += 1,
            Ok(false) | Err(Halt::Refused(_)) => skipped += 1,
            Err(failed) => return Err(failed),
        }
    }
    Ok(Done::Changed { changed, skipped })
}

/// Removes a task's end from the rows and the counts.
fn forget_end(turn: &mut Turn<'_>, seq: Seq, id: TaskId, ended: &Ended, task_type: &Arc<str>) -> Result<(), Fault> {
    turn.memory.gates.leave(task_type, ended.status);
    drop_end(turn, seq, id, ended)
}

fn drop_end(turn: &mut Turn<'_>, seq: Seq, id: TaskId, ended: &Ended) -> Result<(), Fault> {
    turn.rows.clear_timer(Due::Removal(ended.expires_at), seq)?;
    turn.rows.remove_ended(seq, id)
}
