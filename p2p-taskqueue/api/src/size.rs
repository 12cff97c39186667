use crate::{Attempt, ClaimedMany, GotMany, Json, QueueError, Response, TaskRecord, Waited, limits::WAITED_BYTES_MAX};

/// Refuses an answer that would not fit into a frame. So the answer does not depend on where the caller is.
///
/// # Errors
///
/// `limit_exceeded`, which names the argument to lower. The outcome is unknown when the answer hands out tasks.
pub fn check_size(answer: &Response) -> Result<(), QueueError> {
    let (field, tasks) = match answer {
        Response::Waited(Waited { tasks: Some(tasks), .. }) | Response::GotMany(GotMany { tasks, .. }) => {
            ("task_ids", tasks)
        }
        // A store stops long before this bound. If it does hand out more, the tasks are safe until their leases end.
        Response::ClaimedMany(ClaimedMany { tasks }) => ("max_tasks", tasks),
        _ => return Ok(()),
    };
    let bytes: usize = tasks.iter().map(size).sum();
    if bytes <= WAITED_BYTES_MAX {
        return Ok(());
    }
    let error = QueueError::over_limit(field, bytes, WAITED_BYTES_MAX, "bytes of records: ask for fewer");
    // The tasks have been claimed, although the answer is refused.
    Err(if matches!(answer, Response::ClaimedMany(_)) { error.with_unknown_outcome() } else { error })
}

/// Estimates the length of the record on the wire, in bytes.
fn size(task: &TaskRecord) -> usize {
    /// The bytes of names, times and numbers.
    const REST: usize = 1_024;
    let texts = task.error.as_ref().map_or(0, String::len) + task.status_message.as_ref().map_or(0, String::len);
    let labels: usize = task.labels.iter().map(String::len).sum();
    let requires: usize = task.requires.iter().map(String::len).sum();
    let attempts: usize = task.attempts.iter().map(attempt_size).sum();
    let names = labels + requires + attempts;
    task.payload.len_bytes() + task.result.as_ref().map_or(0, Json::len_bytes) + texts + names + REST
}

fn attempt_size(attempt: &Attempt) -> usize {
    /// The bytes of the machine, the times and the names of the fields.
    const REST: usize = 192;
    attempt.worker_id.len() + attempt.error.as_ref().map_or(0, String::len) + REST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, Outcome, PeerId, Submit, testing};

    #[test]
    fn an_answer_that_is_too_long_says_what_was_done() {
        let record = || testing::task(PeerId::random(), Submit::new("t", testing::payload(WAITED_BYTES_MAX / 2)));
        let tasks = || vec![record(), record()];
        let read = Response::GotMany(GotMany { tasks: tasks(), missing: Vec::new() });
        let claimed = Response::ClaimedMany(ClaimedMany { tasks: tasks() });
        for (answer, outcome, field) in
            [(read, Outcome::NotApplied, "task_ids"), (claimed, Outcome::Unknown, "max_tasks")]
        {
            let error = check_size(&answer).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
            assert_eq!((error.code, error.outcome), (ErrorCode::LimitExceeded, outcome));
        }
    }
}
