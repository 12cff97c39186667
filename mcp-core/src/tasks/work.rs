use p2p_taskqueue::{
    QueueError, Task,
    api::{Submit, Target},
};
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult};

use crate::tools::Answer;

/// A task to submit, whose end is the answer of the tool call.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) submit: Submit,
    /// Whose task it becomes.
    pub(crate) target: Target,
    /// How long a client that cannot be given a handle waits for the end.
    pub(crate) timeout_s: f64,
}

/// Makes a tool's result of the record; of one that has not ended when the wait for it is over, too. The handle answers
/// the same as the plain call, so that only the record may count.
pub(crate) type Shape = fn(Task, bool) -> CallToolResult;

/// What a tool call is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: CallToolResponse,
    /// `ok`, also of a handle; `failed` when the task came to nothing; or the code of the error.
    pub(crate) outcome: &'static str,
}

impl Reply {
    /// The queue's refusal, in the form that every tool has for it.
    pub(crate) fn refused(error: &QueueError) -> Self {
        Answer::refused(error).into()
    }

    pub(super) fn handle(handle: CreateTaskResult) -> Self {
        Self { response: CallToolResponse::Task(handle), outcome: "ok" }
    }

    pub(super) fn ended(result: CallToolResult) -> Self {
        let outcome = if result.is_error == Some(true) { "failed" } else { "ok" };
        Self { response: CallToolResponse::Complete(result), outcome }
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { outcome: answer.outcome, response: CallToolResponse::Complete(answer.into()) }
    }
}

impl From<Answer> for CallToolResult {
    fn from(answer: Answer) -> Self {
        let mut result = Self::success(vec![ContentBlock::text(answer.text)]);
        result.is_error = Some(answer.is_error);
        result.structured_content = Some(answer.structured);
        result
    }
}
