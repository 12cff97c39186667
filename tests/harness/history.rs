use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context as _, Result, bail, ensure};
use p2p_taskqueue::{
    Fence, Json, TaskId, TaskStatus,
    api::{OnParentFailure, Submit, TaskRecord},
};

use crate::talk::Said;

/// What is known of a store from everything that its processes have acknowledged, over all their lives.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The number of the current process.
    life: u32,
    tasks: BTreeMap<TaskId, Known>,
    /// Every fence that was ever issued.
    fences: HashSet<Fence>,
    /// Every submit that was ever tried, by its payload, with the id of its task if it was acknowledged.
    tried: BTreeMap<String, (Submit, Option<TaskId>)>,
}

#[derive(Debug)]
struct Known {
    payload: Json,
    /// The fence of the task's last claim.
    fence: Option<Fence>,
    end: Option<End>,
}

#[derive(Debug, Clone, PartialEq)]
struct End {
    status: TaskStatus,
    result: Option<Json>,
    /// `None` when the task was cancelled.
    fence: Option<Fence>,
    life: u32,
}

impl History {
    /// Notes that the following lines come from another process.
    pub(crate) fn next_life(&mut self) {
        self.life += 1;
    }

    /// Notes what a process has said. Fails when it contradicts what was said before.
    pub(crate) fn note(&mut self, said: Said) -> Result<()> {
        match said {
            Said::Refused(error) => bail!("refused: {error:?}"),
            Said::Submitting(submit) => {
                self.tried.insert(submit.payload.to()?, (submit, None));
                Ok(())
            }
            Said::Submitted(id, submit) => self.submitted(id, submit),
            Said::Claimed(id, fence, payload) => self.claimed(id, fence, &payload),
            Said::Completed(id, fence, result, children) => {
                self.ended(id, TaskStatus::Completed, Some(result), Some(fence))?;
                children.into_iter().try_for_each(|(child, submit)| self.submitted(child, submit))
            }
            Said::LetGo(id, fence, status) if status.is_terminal() => self.ended(id, status, None, Some(fence)),
            Said::Cancelled(id, status) if status.is_terminal() => self.ended(id, status, None, None),
            Said::Ready | Said::Answered(_) | Said::Renewed(..) | Said::LetGo(..) | Said::Cancelled(..) => Ok(()),
        }
    }

    /// Notes the task of an acknowledged submit.
    pub(crate) fn submitted(&mut self, id: TaskId, submit: Submit) -> Result<()> {
        self.known(id, &submit.payload)?;
        let known = self.tried.insert(submit.payload.to()?, (submit, Some(id)));
        if let Some((submit, Some(first))) = known {
            ensure!(first == id, "{first} and {id} are both the task of {submit:?}");
        }
        Ok(())
    }

    /// Returns all submits with an idempotency key, acknowledged or not. A repeat of one must answer the same task.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = (&Submit, Option<TaskId>)> {
        let keyed = self.tried.values().filter(|(submit, _)| submit.idempotency_key.is_some());
        keyed.map(|(submit, id)| (submit, *id))
    }

    /// Fails unless the store has every acknowledged task in its acknowledged state, and no task that nobody submitted.
    /// `records` are all records of the store.
    pub(crate) fn verify(&self, records: &[TaskRecord]) -> Result<()> {
        let there: BTreeMap<_, _> = records.iter().map(|task| (task.task_id, task)).collect();
        ensure!(there.len() == records.len(), "a task is listed twice");
        for (id, known) in &self.tasks {
            let task = there.get(id).with_context(|| format!("{id} is gone: {known:?}"))?;
            known.verify(task).with_context(|| format!("{known:?} has become {task:?}"))?;
        }
        for task in records {
            self.verify_parents(task, &there)?;
        }
        self.verify_payloads(records)
    }

    /// Checks that no task ran before its parents had ended in the way that its submit asked for.
    fn verify_parents(&self, task: &TaskRecord, there: &BTreeMap<TaskId, &TaskRecord>) -> Result<()> {
        let (submit, _) = self.tried.get(&task.payload.to::<String>()?).context("nobody has submitted it")?;
        let runs_anyway = submit.on_parent_failure == OnParentFailure::Run;
        for parent in submit.after.iter().filter(|_| has_run(task)) {
            let parent = there.get(parent).with_context(|| format!("{parent} is gone, which {task:?} comes after"))?;
            let ended = parent.status == TaskStatus::Completed || runs_anyway && parent.status.is_terminal();
            ensure!(ended, "{task:?} was given out before {parent:?} had ended");
        }
        Ok(())
    }

    fn verify_payloads(&self, records: &[TaskRecord]) -> Result<()> {
        let mut payloads = BTreeSet::new();
        for task in records {
            let payload: String = task.payload.to()?;
            ensure!(self.tried.contains_key(&payload), "nobody has submitted {task:?}");
            ensure!(payloads.insert(payload), "submitted once, queued twice: {task:?}");
        }
        // The children that a completion submitted exist either all or not at all.
        for task in records {
            let (payload, children) = children(task)?.unwrap_or((task.payload.to()?, 0));
            let there = payloads.range(format!("{payload}/")..format!("{payload}0"));
            let depth = payload.matches('/').count() + 1;
            let direct = there.filter(|child| child.matches('/').count() == depth).count();
            ensure!(direct == children, "{direct} tasks came with {task:?}");
        }
        Ok(())
    }

    fn known(&mut self, id: TaskId, payload: &Json) -> Result<&mut Known> {
        let fresh = || Known { payload: payload.clone(), fence: None, end: None };
        let known = self.tasks.entry(id).or_insert_with(fresh);
        ensure!(known.payload == *payload, "{id} has the payload {payload} of another task: {known:?}");
        Ok(known)
    }

    fn claimed(&mut self, id: TaskId, fence: Fence, payload: &Json) -> Result<()> {
        ensure!(self.fences.insert(fence), "{fence} was given out twice, now for {id}");
        let life = self.life;
        let known = self.known(id, payload)?;
        if let Some(end) = &known.end {
            // A process may report concurrent operations in any order; the fences show the real one.
            let before = end.life == life && end.fence.is_none_or(|last| fence < last);
            ensure!(before, "{id} was given out with {fence} after its end: {known:?}");
        }
        known.fence = known.fence.max(Some(fence));
        Ok(())
    }

    fn ended(&mut self, id: TaskId, status: TaskStatus, result: Option<Json>, fence: Option<Fence>) -> Result<()> {
        let life = self.life;
        let known = self.tasks.get_mut(&id).with_context(|| format!("{id} ended before anybody heard of it"))?;
        if fence.is_some() {
            ensure!(known.fence == fence, "{id} was ended with {fence:?}, which is not its last: {known:?}");
        }
        let end = End { status, result, fence, life };
        if let Some(first) = &known.end {
            let again = first.status == TaskStatus::Cancelled && status == first.status;
            ensure!(again, "{id} ended twice: {first:?} and {end:?}");
        }
        known.end = Some(end);
        Ok(())
    }
}

impl Known {
    fn verify(&self, task: &TaskRecord) -> Result<()> {
        ensure!(task.payload == self.payload, "another payload");
        if let Some(end) = &self.end {
            ensure!(task.status == end.status, "another end");
            ensure!(end.status != TaskStatus::Completed || task.result == end.result, "another result");
        }
        Ok(())
    }
}

fn has_run(task: &TaskRecord) -> bool {
    task.attempt > 0
}

/// Returns the payload of a completed task and the number of children that its completion submitted, as its result
/// gives them.
fn children(task: &TaskRecord) -> Result<Option<(String, usize)>> {
    Ok(task.result.as_ref().map(Json::to).transpose()?)
}
