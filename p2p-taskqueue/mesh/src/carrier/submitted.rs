//! Which tasks a request has queued. The node that passes the request on notes where they are.

use taskqueue_api::{Adds, Request, Response, Submit, TaskId};

/// Draws an id for every new task that has none, and returns the ids of all new tasks. If the system gives no random bytes,
/// a task stays without an id and its owner draws one.
pub(super) fn draw_ids(request: &mut Request) -> Vec<TaskId> {
    let submits: &mut [Submit] = match request {
        Request::Submit(submit) => std::slice::from_mut(submit),
        Request::SubmitMany(many) => &mut many.tasks,
        _ => &mut [],
    };
    submits.iter_mut().for_each(|submit| submit.task_id = submit.task_id.or_else(|| TaskId::random().ok()));
    submits.iter().filter_map(|submit| submit.task_id).collect()
}

/// How many tasks the request asks to queue.
pub(super) fn count(request: &Request) -> usize {
    match request.adds() {
        Adds::Tasks(submits) => submits.len(),
        Adds::Nothing | Adds::Value => 0,
    }
}

/// The tasks that the answer says are queued, but no more than the peer was asked to queue.
pub(super) fn ids(response: &Response, asked_for: usize) -> Vec<TaskId> {
    let ids: Vec<TaskId> = match response {
        Response::Submitted(submitted) => vec![submitted.task_id],
        Response::SubmittedMany(many) => {
            many.results.iter().filter_map(|result| Some(result.submitted.as_ref()?.task_id)).collect()
        }
        Response::Completed(completed) => completed.submitted.clone(),
        _ => Vec::new(),
    };
    ids.into_iter().take(asked_for).collect()
}
