//! Operations on tasks of several owners: one request for each owner, and one answer made of theirs.

use std::collections::{HashMap, HashSet};

use libp2p::PeerId;
use taskqueue_api::{ErrorCode, GotMany, QueueError, Response, TaskId, Waited};

/// Tasks by owner. `None` stands for this node.
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

    /// The tasks of peers alone.
    pub(super) fn without_local(mut self) -> Self {
        self.tasks.remove(&None);
        self
    }

    /// The tasks of each owner.
    pub(super) fn split(self) -> impl Iterator<Item = (Option<PeerId>, Vec<TaskId>)> {
        self.tasks.into_iter()
    }
}

/// Puts the answers to waits together, in the order in which the tasks were asked for.
pub(super) fn merge_waited(order: &[TaskId], answers: Vec<Response>) -> Result<Waited, QueueError> {
    let (mut found, mut done) = (HashMap::new(), true);
    for answer in answers {
        let Response::Waited(waited) = answer else { return Err(foreign("wait")) };
        done &= waited.done;
        found.extend(waited.tasks.unwrap_or_default().into_iter().map(|task| (task.task_id, task)));
    }
    let tasks = order.iter().map(|id| found.get(id).cloned().ok_or_else(|| foreign("wait")));
    Ok(Waited { task: None, tasks: Some(tasks.collect::<Result<_, _>>()?), done })
}

/// Puts records together in the order in which they were asked for, with the ids that no owner has a record of.
pub(super) fn merge_got(order: &[TaskId], answers: Vec<Response>) -> Result<GotMany, QueueError> {
    let mut found = HashMap::new();
    for answer in answers {
        let Response::GotMany(got) = answer else { return Err(foreign("get_many")) };
        found.extend(got.tasks.into_iter().map(|task| (task.task_id, task)));
    }
    let tasks = order.iter().filter_map(|id| found.get(id).cloned()).collect();
    let mut named = HashSet::new();
    let missing = order.iter().filter(|id| !found.contains_key(id) && named.insert(**id)).copied().collect();
    Ok(GotMany { tasks, missing })
}

fn foreign(operation: &str) -> QueueError {
    QueueError::new(ErrorCode::Internal, format!("a peer answered {operation} with something else"))
}
