//! The resources that clients read without a tool: a task and its result, the node, its peers.

use rmcp::{
    ErrorData,
    model::{
        CacheScope, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource, ResourceContents,
        ResourceTemplate,
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use taskqueue_api::{
    ErrorCode, Get, Json, List, Operation as _, Order, Peers, QueueError, StatusQuery, Target, TaskId, TaskRecord,
};

use crate::{call::Asker, error::rpc_error};

/// The thing that the address of a resource names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Node,
    Peers,
    Task(TaskId),
    TaskResult(TaskId),
}

impl Place {
    fn parse(uri: &str) -> Option<Self> {
        match uri.strip_prefix(SCHEME)? {
            "node" => Some(Self::Node),
            "peers" => Some(Self::Peers),
            rest => {
                let rest = rest.strip_prefix("tasks/")?;
                match rest.strip_suffix("/result") {
                    Some(id) => id.parse().ok().map(Self::TaskResult),
                    None => rest.parse().ok().map(Self::Task),
                }
            }
        }
    }
}

/// Returns a page of resources: the node and its peers, then the tasks of the local node that the client may read, the
/// newest first.
///
/// # Errors
///
/// The error of the queue, as a JSON-RPC error.
pub(crate) async fn list(asker: Asker<'_>, cursor: Option<String>) -> Result<ListResourcesResult, ErrorData> {
    let is_first = cursor.is_none();
    if !asker.allows(&List::FACTS) {
        return Ok(page(if is_first { places() } else { Vec::new() }, None));
    }
    let list = List { order: Order::Newest, limit: PAGE_TASKS, cursor, ..List::default() };
    let listed = asker.ask(Target::default(), list).await.map_err(|error| rpc_error(&error))?;
    let mut resources = if is_first { places() } else { Vec::new() };
    resources.extend(listed.tasks.iter().map(of_task));
    Ok(page(resources, listed.next_cursor))
}

fn page(resources: Vec<Resource>, next_cursor: Option<String>) -> ListResourcesResult {
    let mut result = ListResourcesResult::with_all_items(resources);
    result.next_cursor = next_cursor;
    result.ttl_ms = Some(0);
    result.cache_scope = Some(CacheScope::Private);
    result
}

/// Returns the forms of the addresses of tasks and results.
pub(crate) fn templates() -> ListResourceTemplatesResult {
    let task = ResourceTemplate::new(format!("{SCHEME}tasks/{{id}}"), "task")
        .with_title("A task")
        .with_description("The record of a task, by its task_id: status, progress, payload, result, error.")
        .with_mime_type(JSON);
    let result = ResourceTemplate::new(format!("{SCHEME}tasks/{{id}}/result"), "task-result")
        .with_title("A task's result")
        .with_description("What came out of a completed task, by its task_id: a text as it is, anything else as JSON.");
    let mut templates = ListResourceTemplatesResult::with_all_items(vec![task, result]);
    templates.ttl_ms = Some(FOREVER_MS);
    templates.cache_scope = Some(CacheScope::Public);
    templates
}

/// Reads the resource at this address.
///
/// # Errors
///
/// "Resource not found" for an unknown address, an unknown task, or a task that has no result. Otherwise the error of
/// the queue.
pub(crate) async fn read(asker: Asker<'_>, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let place = Place::parse(uri).ok_or_else(|| absent(uri, "there is nothing at this address"))?;
    let (text, mime_type, ttl_ms) = fetch(asker, place).await.map_err(|error| match error.code {
        ErrorCode::NotFound | ErrorCode::WrongState => absent(uri, &error.message),
        _ => rpc_error(&error),
    })?;
    let contents = ResourceContents::text(text, uri).with_mime_type(mime_type);
    Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(ttl_ms).with_cache_scope(CacheScope::Private))
}

async fn fetch(asker: Asker<'_>, place: Place) -> Result<(String, &'static str, u64), QueueError> {
    let here = Target::default();
    Ok(match place {
        Place::Node => {
            let query = StatusQuery { detail: true, ..StatusQuery::default() };
            (as_json(&asker.ask(here, query).await?)?, JSON, 0)
        }
        Place::Peers => (as_json(&asker.ask(here, Peers::default()).await?)?, JSON, 0),
        Place::Task(task_id) => {
            let task = asker.ask(here, Get { task_id }).await?.task;
            (as_json(&task)?, JSON, ttl_ms(&task))
        }
        Place::TaskResult(task_id) => {
            let task = asker.ask(here, Get { task_id }).await?.task;
            let ttl_ms = ttl_ms(&task);
            let (status, result) = (task.status, task.result);
            let (text, mime_type) = result.map(plain).ok_or_else(|| {
                QueueError::new(ErrorCode::WrongState, format!("task {task_id} is {status}: it has no result"))
            })?;
            (text, mime_type, ttl_ms)
        }
    })
}

/// Returns the text of a result and its MIME type. A JSON string becomes plain text; any other value stays JSON.
fn plain(result: Json) -> (String, &'static str) {
    match result.to::<String>() {
        Ok(text) => (text, "text/plain"),
        Err(_) => (result.into_text(), JSON),
    }
}

fn places() -> Vec<Resource> {
    vec![
        Resource::new(format!("{SCHEME}node"), "node")
            .with_title("The local node")
            .with_description("How the node stands: version, mode, task types of its workers, queue, connections.")
            .with_mime_type(JSON),
        Resource::new(format!("{SCHEME}peers"), "peers")
            .with_title("The machines of the mesh")
            .with_description("The peers that the node knows: ids, addresses, whether connected.")
            .with_mime_type(JSON),
    ]
}

fn of_task(task: &TaskRecord) -> Resource {
    let TaskRecord { task_id, task_type, status, .. } = task;
    Resource::new(format!("{SCHEME}tasks/{task_id}"), task_id.to_string())
        .with_title(format!("{task_type}: {status}"))
        .with_mime_type(JSON)
}

const fn ttl_ms(task: &TaskRecord) -> u64 {
    if task.status.is_terminal() { ENDED_MS } else { 0 }
}

fn as_json(answer: &impl Serialize) -> Result<String, QueueError> {
    serde_json::to_string(answer).map_err(|error| QueueError::new(ErrorCode::Internal, error.to_string()))
}

fn absent(uri: &str, why: &str) -> ErrorData {
    let error = rpc_error(&QueueError::new(ErrorCode::NotFound, format!("{uri:?}: {why}")));
    let mut data = error.data.unwrap_or_else(|| json!({}));
    if let Value::Object(record) = &mut data {
        record.insert("uri".to_owned(), uri.into());
    }
    ErrorData::resource_not_found(error.message, Some(data))
}

const SCHEME: &str = "taskmesh://";

const JSON: &str = "application/json";

/// The tasks of one page: as many as a person looks through.
const PAGE_TASKS: u32 = 50;

/// How long a client may keep the record of an ended task, in milliseconds. An ended task seldom changes, but it may be
/// removed or queued again.
const ENDED_MS: u64 = 60_000;

/// How long a client may keep the forms of the addresses, in milliseconds. They change only with the program.
const FOREVER_MS: u64 = 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_place_or_none() {
        let id = TaskId::from_bytes([7; 16]);
        assert_eq!(Place::parse("taskmesh://node"), Some(Place::Node));
        assert_eq!(Place::parse(&format!("taskmesh://tasks/{id}")), Some(Place::Task(id)));
        assert_eq!(Place::parse(&format!("taskmesh://tasks/{id}/result")), Some(Place::TaskResult(id)));
        for uri in ["", "node", "taskmesh://", "taskmesh://node/", "taskmesh://tasks/", "taskmesh://tasks/x/result"] {
            assert_eq!(Place::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_text_is_read_as_text_and_anything_else_as_it_was_given() {
        assert_eq!(plain(Json::from_text("a\nb")), ("a\nb".to_owned(), "text/plain"));
        let number = r#"{"n":1.50}"#;
        assert_eq!(plain(Json::parse(number.to_owned()).unwrap()), (number.to_owned(), JSON));
    }
}
