//! Tasks that were claimed for a caller that no longer waits for them. They are given back. Otherwise no worker could
//! claim them until their leases end.

use taskqueue_api::{Release, Request, Response, TaskRecord};

/// The tasks that the answer hands out.
pub(super) fn handed_out(response: &Response) -> &[TaskRecord] {
    match response {
        Response::Claimed(claimed) => claimed.task.as_slice(),
        Response::ClaimedMany(claimed) => &claimed.tasks,
        Response::Completed(completed) => completed.next.as_slice(),
        _ => &[],
    }
}

/// Gives the task back.
pub(super) fn give_back(task: &TaskRecord, reason: &str) -> Option<Request> {
    let (task_id, fence) = (task.task_id, task.fence?);
    Some(Request::Release(Release { task_id, fence, delay_s: 0.0, reason: reason.to_owned() }))
}
