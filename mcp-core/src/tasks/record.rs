//! The record of a task in the form of the Tasks extension.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};
use rmcp::model::{
    ClientCapabilities, CreateTaskResult, DetailedTask, ElicitRequestParams, InputRequest, InputRequests, JsonObject,
    Task as RpcTask, TaskPayload, TaskStatus as RpcStatus,
};
use serde_json::{Value, json};
use taskqueue_api::{FailedBy, TaskRecord, TaskStatus, limits::RESULT_KEPT_S_MIN};

use super::work::Shape;
use crate::{http::Splice, tools::queued};

/// Makes the handle of a task that was just submitted.
///
/// It says `working` whatever the record says. A client reads the end of a task with `tasks/get`, and may leave that
/// out when the handle says that the task has ended.
pub(super) fn handle(task: &TaskRecord) -> CreateTaskResult {
    CreateTaskResult::new(described(task, working(task)))
}

/// Makes the full state of a task for a client with these capabilities.
pub(super) fn state(task: TaskRecord, client: &ClientCapabilities, shape: Shape, splice: &Splice) -> DetailedTask {
    match task.status {
        TaskStatus::Queued => DetailedTask::new(described(&task, working(&task)), TaskPayload::Working),
        TaskStatus::Running => running(&task, client),
        TaskStatus::Cancelled => DetailedTask::new(described(&task, task.error.clone()), TaskPayload::Cancelled),
        TaskStatus::Failed if task.failed_by == Some(FailedBy::Queue) => {
            DetailedTask::new(described(&task, None), TaskPayload::Failed { error: given_up(&task) })
        }
        // The call of a tool that failed is completed all the same. Its result says that it failed.
        TaskStatus::Completed | TaskStatus::Failed => {
            let told = described(&task, None);
            let result = object(serde_json::to_value(shape.result(task, true, splice)));
            DetailedTask::new(told, TaskPayload::Completed { result })
        }
    }
}

fn running(task: &TaskRecord, client: &ClientCapabilities) -> DetailedTask {
    let message = working(task);
    if task.input_requests.is_empty() {
        return DetailedTask::new(described(task, message), TaskPayload::Working);
    }
    let input_requests = askable(task, client);
    if input_requests.is_empty() {
        let message = format!("{}; {UNASKABLE}", message.unwrap_or_default());
        return DetailedTask::new(described(task, Some(message)), TaskPayload::Working);
    }
    DetailedTask::new(described(task, message), TaskPayload::InputRequired { input_requests })
}

/// Returns the worker's questions that the protocol has a form for, and that the client declares it can be asked.
fn askable(task: &TaskRecord, client: &ClientCapabilities) -> InputRequests {
    let read = |(key, request): (&String, &taskqueue_api::Json)| {
        let request: InputRequest = request.to().ok()?;
        can_be_asked(client, &request).then(|| (key.clone(), request))
    };
    task.input_requests.iter().filter_map(read).collect()
}

fn can_be_asked(client: &ClientCapabilities, request: &InputRequest) -> bool {
    match request {
        InputRequest::Elicitation(elicit) => client.elicitation.as_ref().is_some_and(|can| match &elicit.params {
            ElicitRequestParams::UrlElicitationParams { .. } => can.url.is_some(),
            // A client that names neither forms nor URLs can show forms.
            _ => can.form.is_some() || can.url.is_none(),
        }),
        InputRequest::CreateMessage(_) => client.sampling.is_some(),
        InputRequest::ListRoots(_) => client.roots.is_some(),
        _ => false,
    }
}

/// Describes in words the state of a task that has not ended.
fn working(task: &TaskRecord) -> Option<String> {
    match (task.status, &task.error) {
        (TaskStatus::Queued, Some(error)) if task.attempt > 0 => {
            let again = format!("queued again after a failed attempt: {error}");
            Some(task.waiting_for.iter().fold(again, |again, waiting| format!("{again}; {}", waiting.message)))
        }
        (TaskStatus::Queued, _) => Some(task.waiting_for.as_ref().map_or_else(|| "queued".to_owned(), queued)),
        (TaskStatus::Running, _) => Some(at_work(task)),
        _ => None,
    }
}

fn at_work(task: &TaskRecord) -> String {
    let message = task.status_message.as_deref().filter(|message| !message.is_empty()).unwrap_or("running");
    match task.progress {
        Some(progress) => format!("{message} ({:.0} %)", progress * 100.0),
        None => message.to_owned(),
    }
}

fn given_up(task: &TaskRecord) -> JsonObject {
    let message = task.error.as_deref().unwrap_or("the queue gave the task up");
    object(Ok(json!({
        "code": rmcp::model::ErrorCode::INTERNAL_ERROR,
        "message": message,
        "data": { "task_id": task.task_id, "task_type": task.task_type, "attempt": task.attempt },
    })))
}

fn described(task: &TaskRecord, message: Option<String>) -> RpcTask {
    let ids = task.task_id.to_string();
    let mut told = RpcTask::new(ids, RpcStatus::Working, iso(task.created_at), iso(task.updated_at));
    told.status_message = message;
    if task.status.is_terminal() {
        let kept_s = task.result_ttl_s.max(RESULT_KEPT_S_MIN);
        told.ttl_ms = Some(millis(task.updated_at + kept_s - task.created_at));
    } else {
        told.poll_interval_ms = Some(poll_interval(now() - task.created_at));
    }
    told
}

/// Returns how long a client should wait before it asks again, in milliseconds. A task that has just begun may end
/// soon, so the interval grows with the age of the task.
fn poll_interval(age_s: f64) -> u64 {
    millis(age_s / LOOKS_PER_AGE).clamp(POLL_MS_MIN, POLL_MS_MAX)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Returns the milliseconds of a span in seconds, at least one: the protocol allows no smaller number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn millis(seconds: f64) -> u64 {
    ((seconds * 1_000.0).round() as u64).max(1)
}

/// Writes a date, given in Unix seconds, as the protocol does. The record may come from a peer: a number that is no
/// date becomes the beginning of 1970.
#[expect(clippy::cast_possible_truncation, reason = "a float's cast saturates")]
fn iso(seconds: f64) -> String {
    let micros = (seconds * 1e6).round() as i64;
    DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn object(value: serde_json::Result<Value>) -> JsonObject {
    match value {
        Ok(Value::Object(object)) => object,
        _ => JsonObject::new(),
    }
}

const UNASKABLE: &str = "its worker asks for something that this client does not say that it can be asked, or that the \
protocol has no form for: p2p_taskqueue_get_task shows it, p2p_taskqueue_answer_task answers it";

/// The age of a task divided by the interval at which a client should poll.
const LOOKS_PER_AGE: f64 = 10.0;

/// Short enough for a person who waits, and long enough for a server with a thousand clients.
const POLL_MS_MIN: u64 = 200;

/// Short for a person who has waited long for a task.
const POLL_MS_MAX: u64 = 5_000;
