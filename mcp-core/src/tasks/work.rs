use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult};
use taskqueue_api::{QueueError, Submit, Target, TaskRecord};

use crate::{
    http::Splice,
    tools::{Names, ToolAnswer},
};

/// A task to submit, whose end is the answer of the tool call.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) submit: Submit,
    /// The node that is to own the task.
    pub(crate) target: Target,
    /// How long a client that cannot be given a handle waits for the end, in seconds.
    pub(crate) timeout_s: f64,
    /// The caller's names for the arguments of the submit.
    pub(crate) names: Names,
}

/// The function that makes a tool's result of a record. The record may also be of a task that has not ended when the
/// wait for it is over.
///
/// A handle gives the same result as a plain call, so the function sees nothing but the record and whether the task has
/// ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// For the tools of the product.
    Answer(fn(TaskRecord, bool) -> ToolAnswer),
    /// For the tools of the fixtures.
    #[cfg(feature = "fixtures")]
    Result(fn(TaskRecord, bool) -> CallToolResult),
}

impl Shape {
    pub(super) fn result(self, task: TaskRecord, done: bool, splice: &Splice) -> CallToolResult {
        match self {
            Self::Answer(shape) => result(shape(task, done), splice),
            #[cfg(feature = "fixtures")]
            Self::Result(shape) => shape(task, done),
        }
    }
}

/// The answer to a tool call.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: CallToolResponse,
    /// `ok`, also for a handle; `failed` when the task failed or was cancelled; otherwise the code of the error.
    pub(crate) outcome: &'static str,
}

impl Reply {
    /// Makes the answer for a refusal of the queue, in the form that all tools have for it.
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

/// Makes the result with the answer in the two forms that clients read: as text, and as `structuredContent`. A second text
/// has the sentence about a task that waits.
fn result(answer: ToolAnswer, splice: &Splice) -> CallToolResult {
    let structured = splice.leave(&answer.text);
    let texts = [answer.text].into_iter().chain(answer.note);
    let mut result = CallToolResult::success(texts.map(ContentBlock::text).collect());
    result.is_error = Some(answer.is_error);
    result.structured_content = structured;
    result
}
