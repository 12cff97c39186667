use taskqueue_api::{ErrorCode, OnParentFailure, QueueError, TaskId, TaskStatus};

use super::turn::{Found, Halt, Turn, usable};
use crate::{
    backend::{EdgeTable as _, Fault, LOST_PARENT, Seq, TaskTable as _, failed_parent},
    engine::{self, Ended, Phase, Spec, Step},
};

/// The state of the tasks that a task comes after.
#[derive(Debug, Default)]
pub(super) struct Parents {
    /// The parents that have not ended.
    pub(super) waiting: Vec<Seq>,
    /// A parent that failed or was cancelled, if that makes the task fail.
    pub(super) failed: Option<(TaskId, Ended)>,
    /// All parents that did.
    all_failed: Vec<Seq>,
    /// A parent that does not exist.
    pub(super) missing: Option<TaskId>,
}

impl Parents {
    /// Looks at all parents of a task.
    pub(super) fn of(turn: &mut Turn<'_>, spec: &Spec) -> Result<Self, Halt> {
        let mut parents = Self::default();
        for id in &spec.after {
            match turn.find_if_any(*id)? {
                None => parents.missing = Some(*id),
                Some(Found::Live(item)) => parents.waiting.push(item.seq),
                Some(Found::Ended(_, ended, _)) if ended.status == TaskStatus::Completed => {}
                Some(Found::Ended(seq, ended, _)) => {
                    if spec.on_parent_failure == OnParentFailure::Fail {
                        parents.all_failed.push(seq);
                        parents.failed = Some((*id, ended));
                    }
                }
            }
        }
        parents.waiting.sort_unstable();
        parents.waiting.dedup();
        Ok(parents)
    }

    /// Refuses a new task with a parent that does not exist. So all parents of a task are older than it, and there are
    /// no cycles (clause T10).
    pub(super) fn known(self) -> Result<Self, QueueError> {
        match self.missing {
            Some(id) => {
                let message = format!("after: no task {id} on this node");
                let error = QueueError::new(ErrorCode::NotFound, message);
                Err(error.with_field("after"))
            }
            None => Ok(self),
        }
    }

    /// Notes all parents of a new task that has failed because of one of them, because a retry has to look at each of
    /// them.
    pub(super) fn note(&self, turn: &mut Turn<'_>, child: Seq) -> Result<(), Fault> {
        self.waiting.iter().try_for_each(|parent| turn.rows.add_edge(*parent, child))?;
        self.all_failed.iter().try_for_each(|parent| turn.rows.add_edge(failed_parent(*parent), child))
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }
}

/// Tells children that their parents have ended (clause T10). The next transaction goes on with those that this one
/// does not reach. Parents take turns, so that a crowd behind one of them does not hold up the others.
pub(super) fn settle(turn: &mut Turn<'_>) -> Result<(), Fault> {
    while turn.settle_left > 0
        && let Some(parent) = turn.memory.unsettled.pop_front()
    {
        let share = turn.settle_left.min(SHARE_MAX);
        let children = turn.rows.children(parent, share)?;
        turn.settle_left = turn.settle_left.saturating_sub(children.len().max(1));
        let told = if children.is_empty() { Told::All } else { tell(turn, parent, &children)? };
        match told {
            Told::All if children.len() == share => turn.memory.unsettled.push_back(parent),
            // If the parent lives again, its next end tells the children.
            Told::All | Told::LivesAgain => take_up_removal(turn, parent),
            Told::Damaged => {
                tracing::error!(seq = parent, "an ended task is damaged: those that come after it wait for a repair");
            }
        }
    }
    Ok(())
}

/// The outcome of telling the children of a task.
enum Told {
    /// All children that were given were told.
    All,
    /// None was told, because the task was queued again in the meantime.
    LivesAgain,
    /// The task's end cannot be read, so that none was told, or the children's edges cannot be removed.
    Damaged,
}

fn tell(turn: &mut Turn<'_>, parent: Seq, children: &[Seq]) -> Result<Told, Fault> {
    let Some(ended) = usable(turn.rows.ended(parent))? else { return Ok(Told::Damaged) };
    let Some((_, ended, _)) = ended else { return Ok(Told::LivesAgain) };
    let Some(task) = usable(turn.rows.task(parent))?.flatten() else { return Ok(Told::Damaged) };
    for child in children {
        turn.rows.remove_edge(parent, *child)?;
        let Some((item, row)) = usable(turn.item_and_task(*child))?.flatten() else {
            tracing::error!(seq = child, "a task that waits for another one is damaged; it stays where it is");
            continue;
        };
        let policy = row.spec.on_parent_failure;
        if ended.status != TaskStatus::Completed && policy == OnParentFailure::Fail {
            turn.rows.add_edge(failed_parent(parent), *child)?;
        }
        if item.live.phase != Phase::Blocked {
            continue;
        }
        match engine::parent_ended(item.live.clone(), task.spec.id, &ended, policy, turn.now) {
            Step::Stay(live) if live.phase == Phase::Blocked => turn.put_live(&item, &live)?,
            Step::Stay(live) => turn.stay(item, live)?,
            Step::End(ended) => turn.end_alone(&item, &ended, None)?,
        }
    }
    let first = turn.rows.children(parent, 1)?;
    let is_left = first.first().is_some_and(|first| children.contains(first));
    Ok(if is_left { Told::Damaged } else { Told::All })
}

/// Returns whether a parent of the task was removed without having completed.
pub(super) fn has_lost_one(turn: &mut Turn<'_>, child: Seq) -> Result<bool, Fault> {
    Ok(usable(turn.rows.has_edge(LOST_PARENT, child))?.unwrap_or_default())
}

/// Removes the edges of a task that is being removed, to its parents and to its children. If the task has not
/// completed, its children are noted as having lost a parent for good. Handles at most `count_max` children, and
/// returns whether these were all.
pub(super) fn forget(
    turn: &mut Turn<'_>,
    seq: Seq,
    spec: &Spec,
    ended: &Ended,
    count_max: usize,
) -> Result<bool, Fault> {
    let told = turn.rows.children(failed_parent(seq), count_max)?;
    for child in &told {
        turn.rows.remove_edge(failed_parent(seq), *child)?;
        if ended.status != TaskStatus::Completed {
            turn.rows.add_edge(LOST_PARENT, *child)?;
        }
    }
    if let Some(next) = turn.rows.children(failed_parent(seq), 1)?.first() {
        if !told.contains(next) {
            return Ok(false);
        }
        tracing::error!(seq, "what is noted of those that come after a task cannot be removed");
    }
    for id in &spec.after {
        if let Some(parent) = usable(turn.rows.seq_of(*id))?.flatten() {
            turn.rows.remove_edge(parent, seq)?;
            turn.rows.remove_edge(failed_parent(parent), seq)?;
        }
    }
    if !spec.after.is_empty() {
        turn.rows.remove_edge(LOST_PARENT, seq)?;
    }
    Ok(true)
}

/// Makes the removal of a task due again that had waited until the children were told.
fn take_up_removal(turn: &mut Turn<'_>, parent: Seq) {
    if let Some(removal) = turn.memory.aside.take_up(parent) {
        turn.note_first(removal);
    }
}

/// The most tasks that one transaction tells of an end; a parent without children to tell counts as one. This takes
/// some milliseconds, then commands have their turn. The number is small in tests, because their histories have few
/// children.
pub(super) const SETTLED_MAX: usize = if cfg!(test) { 4 } else { 512 };

/// The most children of one parent that are told before the next parent has its turn.
const SHARE_MAX: usize = SETTLED_MAX.div_ceil(4);
