//! Operations on tasks of several owners: one part for each owner, and one answer.

use std::collections::{HashMap, HashSet};

use libp2p::PeerId;

use crate::{
    ErrorCode, Json, QueueError, Response, Task, TaskId,
    api::{ClaimedMany, GotMany, Waited},
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

    /// Only those of peers.
    pub(super) fn without_local(mut self) -> Self {
        self.tasks.remove(&None);
        self
    }

    /// The tasks of each owner.
    pub(super) fn split(self) -> impl Iterator<Item = (Option<PeerId>, Vec<TaskId>)> {
        self.tasks.into_iter()
    }
}

/// The waited-for records in the order asked for.
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

/// The records in the order asked for, and the ids that no owner has one for.
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

/// Refuses an answer that would not fit into a frame, so that it does not depend on where the caller is.
pub(super) fn check_size(answer: &Response) -> Result<(), QueueError> {
    let (field, tasks) = match answer {
        Response::Waited(Waited { tasks: Some(tasks), .. }) | Response::GotMany(GotMany { tasks, .. }) => {
            ("task_ids", tasks)
        }
        // A store stops long before: what it gives out all the same is safe until its leases end.
        Response::ClaimedMany(ClaimedMany { tasks }) => ("max_tasks", tasks),
        _ => return Ok(()),
    };
    let bytes: usize = tasks.iter().map(size).sum();
    if bytes <= WAITED_BYTES_MAX {
        return Ok(());
    }
    let error = QueueError::over_limit(field, bytes, WAITED_BYTES_MAX, "bytes of records: ask for fewer");
    // What was claimed is claimed.
    Err(if matches!(answer, Response::ClaimedMany(_)) { error.with_unknown_outcome() } else { error })
}

/// About how long the record is on the wire.
fn size(task: &Task) -> usize {
    /// Names, times and numbers.
    const REST: usize = 1_024;
    let texts = task.error.as_ref().map_or(0, String::len) + task.status_message.as_ref().map_or(0, String::len);
    let labels: usize = task.labels.iter().map(String::len).sum();
    task.payload.len_bytes() + task.result.as_ref().map_or(0, Json::len_bytes) + texts + labels + REST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        PeerId,
        api::{Outcome, Submit},
        testing,
    };

    #[test]
    fn an_answer_that_is_too_long_says_what_was_done() {
        let record = || testing::task(PeerId::random(), Submit::new("t", testing::payload(WAITED_BYTES_MAX / 2)));
        let tasks = || vec![record(), record()];
        let read = Response::GotMany(GotMany { tasks: tasks(), missing: Vec::new() });
        let claimed = Response::ClaimedMany(ClaimedMany { tasks: tasks() });
        for (answer, outcome) in [(read, Outcome::NotApplied), (claimed, Outcome::Unknown)] {
            let error = check_size(&answer).unwrap_err();
            assert_eq!((error.code, error.outcome), (ErrorCode::LimitExceeded, outcome));
        }
    }
}
