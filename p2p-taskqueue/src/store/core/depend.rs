use super::turn::{Found, Halt, Turn, usable};
use crate::{
    QueueError,
    api::{ErrorCode, OnParentFailure},
    engine::{self, Ended, Phase, Spec, Step},
    store::backend::{Fault, Seq},
    task::{TaskId, TaskStatus},
};

/// How the tasks stand that a task comes after.
#[derive(Debug, Default)]
pub(super) struct Parents {
    /// Those that have not ended.
    pub(super) waiting: Vec<Seq>,
    /// One that failed or was called off, where that decides.
    pub(super) failed: Option<(TaskId, Ended)>,
    /// One that is not there.
    pub(super) missing: Option<TaskId>,
}

impl Parents {
    /// Looks at them.
    pub(super) fn of(turn: &mut Turn<'_>, spec: &Spec) -> Result<Self, Halt> {
        let mut parents = Self::default();
        for id in &spec.after {
            match turn.find_if_any(*id)? {
                None => parents.missing = Some(*id),
                Some(Found::Live(item)) => parents.waiting.push(item.seq),
                Some(Found::Ended(_, ended, _)) if ended.status == TaskStatus::Completed => {}
                Some(Found::Ended(_, ended, _)) => {
                    if spec.on_parent_failure == OnParentFailure::Fail {
                        parents.failed = Some((*id, ended));
                    }
                }
            }
        }
        parents.waiting.sort_unstable();
        parents.waiting.dedup();
        Ok(parents)
    }

    /// Refuses a new task that comes after one which is not there. Ids are made here and only of tasks that are kept, so
    /// whatever a new task comes after is older than it: there are no cycles (clause T10).
    pub(super) fn known(self) -> Result<Self, QueueError> {
        match self.missing {
            Some(id) => {
                let message = format!("after: no task {id} on this node");
                let error = QueueError::new(ErrorCode::NotFound, message);
                Err(QueueError { field: Some("after".to_owned()), ..error })
            }
            None => Ok(self),
        }
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }
}

/// Tells tasks of the ends of those that they come after (clause T10); what one transaction does not come to, the next does.
pub(super) fn settle(turn: &mut Turn<'_>) -> Result<(), Fault> {
    let mut left = SETTLED_MAX;
    while let Some(parent) = turn.memory.unsettled.front().copied() {
        let children = turn.rows.children(parent, left)?;
        let all = children.len() < left;
        left = left.saturating_sub(children.len());
        if !children.is_empty() {
            tell(turn, parent, &children)?;
        }
        if all {
            turn.memory.unsettled.pop_front();
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

fn tell(turn: &mut Turn<'_>, parent: Seq, children: &[Seq]) -> Result<(), Fault> {
    let task = usable(turn.rows.task(parent))?.flatten();
    let ended = usable(turn.rows.ended(parent))?.flatten();
    // One that is queued again meanwhile will end once more.
    let (Some(task), Some((ended, _))) = (task, ended) else { return Ok(()) };
    for child in children {
        turn.rows.remove_edge(parent, *child)?;
        turn.wrote = true;
        let Some((item, row)) = usable(turn.item_and_task(*child))?.flatten() else { continue };
        if item.live.phase != Phase::Blocked {
            continue;
        }
        let policy = row.spec.on_parent_failure;
        match engine::parent_ended(item.live.clone(), task.spec.id, &ended, policy, turn.now) {
            Step::Stay(live) if live.phase == Phase::Blocked => turn.put_live(&item, &live)?,
            Step::Stay(live) => turn.stay(item, live)?,
            Step::End(ended) => turn.end_alone(&item, &ended, None)?,
        }
    }
    Ok(())
}

/// Tasks told in one transaction: some milliseconds of work, then commands have their turn.
const SETTLED_MAX: usize = 512;
