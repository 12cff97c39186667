//! A wait for tasks of several owners: one wait for each owner, and one answer.

use std::collections::HashMap;

use libp2p::PeerId;

use crate::{
    ErrorCode, Json, QueueError, Response, Task, TaskId,
    api::{Wait, Waited},
    wire::limits::WAITED_BYTES_MAX,
};

/// Tasks by owner; none is this node.
#[derive(Debug, Default)]
pub(super) struct Groups {
    tasks: HashMap<Option<PeerId>, Vec<TaskId>>,
}

impl Groups {
    pub(super) fn add(&mut self, task: TaskId, owner: Option<PeerId>) {
        self.tasks.entry(owner).or_default().push(task);
    }

    pub(super) fn are_all_local(&self) -> bool {
        self.tasks.keys().all(Option::is_none)
    }

    /// The wait of each owner.
    pub(super) fn split(self, wait: &Wait) -> impl Iterator<Item = (Option<PeerId>, Wait)> {
        let timeout_s = wait.timeout_s;
        self.tasks.into_iter().map(move |(owner, task_ids)| (owner, Wait { task_id: None, task_ids, timeout_s }))
    }
}

/// The records in the order asked for.
pub(super) fn merge(order: &[TaskId], answers: Vec<Response>) -> Result<Waited, QueueError> {
    let foreign = || QueueError::new(ErrorCode::Internal, "a peer answered a wait with something else");
    let (mut found, mut done) = (HashMap::new(), true);
    for answer in answers {
        let Response::Waited(waited) = answer else { return Err(foreign()) };
        done &= waited.done;
        found.extend(waited.tasks.unwrap_or_default().into_iter().map(|task| (task.task_id, task)));
    }
    let tasks = order.iter().map(|id| found.get(id).cloned().ok_or_else(foreign));
    Ok(Waited { task: None, tasks: Some(tasks.collect::<Result<_, _>>()?), done })
}

/// Refuses an answer that would not fit into a frame, so that it does not depend on where the caller is.
pub(super) fn check_size(answer: &Response) -> Result<(), QueueError> {
    let Response::Waited(Waited { tasks: Some(tasks), .. }) = answer else { return Ok(()) };
    let bytes: usize = tasks.iter().map(size).sum();
    if bytes > WAITED_BYTES_MAX {
        return Err(QueueError::over_limit("task_ids", bytes, WAITED_BYTES_MAX, "bytes of records: wait for fewer"));
    }
    Ok(())
}

/// About how long the record is on the wire.
fn size(task: &Task) -> usize {
    /// Names, times and numbers.
    const REST: usize = 1_024;
    let texts = task.error.as_ref().map_or(0, String::len) + task.status_message.as_ref().map_or(0, String::len);
    let labels: usize = task.labels.iter().map(String::len).sum();
    task.payload.len_bytes() + task.result.as_ref().map_or(0, Json::len_bytes) + texts + labels + REST
}
