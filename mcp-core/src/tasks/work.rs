use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult};
use taskqueue_api::{QueueError, Submit, Target, Task};

use crate::{
    http::Splice,
    tools::{Names, ToolAnswer},
};

/// A task to submit, whose end is the answer of the tool call.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) submit: Submit,
    /// Whose task it becomes.
    pub(crate) target: Target,
    /// How long a client that cannot be given a handle waits for the end.
    pub(crate) timeout_s: f64,
    /// What the caller calls the arguments of the submit.
    pub(crate) names: Names,
}

/// Makes a tool's result of the record; of one that has not ended when the wait for it is over, too. The handle answers
/// the same as the plain call, so that only the record may count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// As the product's tools answer.
    Answer(fn(Task, bool) -> ToolAnswer),
    /// As the fixtures' tools do.
    #[cfg(feature = "fixtures")]
    Result(fn(Task, bool) -> CallToolResult),
}

impl Shape {
    pub(super) fn result(self, task: Task, done: bool, splice: &Splice) -> CallToolResult {
        match self {
            Self::Answer(shape) => result(shape(task, done), splice),
            #[cfg(feature = "fixtures")]
            Self::Result(shape) => shape(task, done),
        }
    }
}

/// What a tool call is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: CallToolResponse,
    /// `ok`, also of a handle; `failed` when the task came to nothing; or the code of the error.
    pub(crate) outcome: &'static str,
}

impl Reply {
    /// The queue's refusal, in the form that every tool has for it.
    pub(crate) fn refused(error: &QueueError, splice: &Splice) -> Self {
        Self::answered(ToolAnswer::refused(error), splice)
    }

    pub(crate) fn answered(answer: ToolAnswer, splice: &Splice) -> Self {
        Self { outcome: answer.outcome, response: CallToolResponse::Complete(result(answer, splice)) }
    }

    pub(super) fn handle(handle: CreateTaskResult) -> Self {
        Self { response: CallToolResponse::Task(handle), outcome: "ok" }
    }

    pub(super) fn ended(result: CallToolResult) -> Self {
        let outcome = if result.is_error == Some(true) { "failed" } else { "ok" };
        Self { response: CallToolResponse::Complete(result), outcome }
    }
}

/// The answer in the two forms that clients read: as a text, and as `structuredContent`.
fn result(answer: ToolAnswer, splice: &Splice) -> CallToolResult {
    let structured = splice.leave(&answer.text);
    let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
    result.is_error = Some(answer.is_error);
    result.structured_content = structured;
    result
}
