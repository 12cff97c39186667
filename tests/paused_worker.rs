//! Workers that are stopped for longer than their lease, as processes are when their machine sleeps.

use anyhow::{Context as _, Result, bail, ensure};
use p2p_taskqueue::{
    ErrorCode, Fence, Json, Request, TaskId, TaskStatus,
    api::{Claim, Complete, Fail, Get, Release, Renew, Submit, TaskRecord},
};

use crate::{
    harness::{Node, QueueProcess},
    talk::Order,
};

/// A node with two workers. The first one is stopped: its lease has expired, and it is about to complete the task. The
/// second one has the task now.
struct Overtaken {
    _node: Node,
    paused: QueueProcess,
    stale: Fence,
    successor: QueueProcess,
    task: TaskRecord,
}

impl Overtaken {
    fn new(worker: &str, successor_id: &str) -> Result<Self> {
        let node = Node::start(&[])?;
        let socket = node.folder().join("taskmesh.sock");
        let mut paused = QueueProcess::start("socket", &socket)?;
        let mut successor = QueueProcess::start("socket", &socket)?;
        let submit = Submit { max_attempts: 0, backoff_s: 0.0, ..Submit::new("paused", Json::null()) };
        paused.get(submit)?;
        let held = claim(&mut paused, Claim { lease_s: 1.0, ..Claim::new(worker) })?;
        paused.freeze()?;
        let stale = held.fence.context("no fence")?;
        paused.order(&Order::Ask(Box::new(Request::Complete(ending(held.task_id, stale, "too late")))))?;
        let task = claim(&mut successor, Claim { wait_s: 60.0, ..Claim::new(successor_id) })?;
        ensure!(task.task_id == held.task_id && task.fence != held.fence, "{held:?}, then {task:?}");
        Ok(Self { _node: node, paused, stale, successor, task })
    }

    /// Completes the task for the successor.
    fn succeed(&mut self) -> Result<()> {
        let fence = self.task.fence.context("no fence")?;
        let completed = self.successor.get(ending(self.task.task_id, fence, "in time"))?;
        ensure!(!completed.repeated, "{completed:?}");
        Ok(())
    }

    /// Lets the paused worker go on, and returns the code with which its completion is refused.
    fn refusal(&mut self) -> Result<ErrorCode> {
        self.paused.thaw()?;
        match self.paused.answer::<Complete>()? {
            Ok(completed) => bail!("a completion after the lease was taken: {completed:?}"),
            Err(error) => Ok(error.code),
        }
    }

    fn record(&mut self) -> Result<TaskRecord> {
        Ok(self.successor.get(Get { task_id: self.task.task_id })?.task)
    }
}

#[test]
fn a_worker_that_comes_back_after_its_lease_cannot_complete_its_successors_task() -> Result<()> {
    // A worker with the same name as the successor is refused, too.
    for (worker, successor) in [("first", "second"), ("same", "same")] {
        let mut overtaken = Overtaken::new(worker, successor)?;
        assert_eq!(overtaken.refusal()?, ErrorCode::StaleFence);
        let record = overtaken.record()?;
        assert_eq!((record.status, record.attempt, &record.result), (TaskStatus::Running, 2, &None));
        overtaken.succeed()?;
        let record = overtaken.record()?;
        assert_eq!((record.status, record.result), (TaskStatus::Completed, Some(Json::from_text("in time"))));
    }
    Ok(())
}

#[test]
fn a_worker_that_comes_back_after_its_successor_has_finished_changes_nothing() -> Result<()> {
    for (worker, successor) in [("first", "second"), ("same", "same")] {
        let mut overtaken = Overtaken::new(worker, successor)?;
        overtaken.succeed()?;
        let before = overtaken.record()?;
        // A task that has ended is refused with a code of its own.
        assert_eq!(overtaken.refusal()?, ErrorCode::AlreadyFinished);
        assert_eq!(overtaken.record()?, before);
        assert_eq!((before.status, before.result), (TaskStatus::Completed, Some(Json::from_text("in time"))));
    }
    Ok(())
}

#[test]
fn a_worker_that_comes_back_after_its_lease_can_do_nothing_else_with_its_fence() -> Result<()> {
    let mut overtaken = Overtaken::new("same", "same")?;
    overtaken.refusal()?;
    let (task_id, fence, before) = (overtaken.task.task_id, overtaken.stale, overtaken.record()?);
    let renew = Renew { progress: Some(1.0), ..Renew::new(task_id, fence, 60.0) };
    let fail = Fail { task_id, fence, error: "too late".to_owned(), retryable: false, delay_s: None };
    let release = Release { task_id, fence, delay_s: 0.0, reason: "too late".to_owned() };
    let paused = &mut overtaken.paused;
    let refusals = [paused.ask(renew)?.err(), paused.ask(fail)?.err(), paused.ask(release)?.err()];
    for refusal in refusals {
        assert_eq!(refusal.context("not refused")?.code, ErrorCode::StaleFence);
    }
    assert_eq!(overtaken.record()?, before);
    overtaken.succeed()
}

fn claim(worker: &mut QueueProcess, claim: Claim) -> Result<TaskRecord> {
    worker.get(claim)?.task.context("no task")
}

fn ending(task_id: TaskId, fence: Fence, result: &str) -> Complete {
    Complete::new(task_id, fence, Some(Json::from_text(result)))
}
