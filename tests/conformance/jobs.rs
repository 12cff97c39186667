use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use p2p_taskqueue::{
    Json, PeerId, TaskQueue,
    api::{Submit, TaskRecord},
    store::{LocalQueue, SqliteStore, StoreOptions},
    worker::{AskError, AttemptEnd, Contact, Handler, Worker, WorkerConfig},
};
use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use runtime_bridge::{Runtime, TokioRuntime};
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::watch};

/// The tools that are tasks and have a worker. `protocol_error_job` has none: its task fails at its deadline.
const WORKED_ON: [&str; 5] = ["slow_compute", "failing_job", "confirm_delete", "multi_input", "test_tool_with_task"];

/// A queue on disk and its workers. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) queue: Arc<dyn TaskQueue>,
    _workers: Vec<Worker>,
    /// The sender of the list of peers to the workers; the list stays empty.
    _peers: watch::Sender<Vec<PeerId>>,
}

impl Jobs {
    pub(crate) fn start(file: &Path) -> Result<Self> {
        let owner = PeerId::random();
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(Handle::current()));
        let store = SqliteStore::open(file, StoreOptions::new(owner))?;
        let queue: Arc<dyn TaskQueue> = Arc::new(LocalQueue::new(Arc::new(store), owner, Arc::clone(&runtime)));
        let (send_peers, peers) = watch::channel(Vec::new());
        let start = |job: &&str| {
            let handler = Arc::new(Job { runtime: Arc::clone(&runtime) });
            let config = WorkerConfig { slots: SLOTS, ..WorkerConfig::new("fixture", [*job], handler) };
            Worker::start(config, Arc::clone(&queue), peers.clone(), &runtime)
        };
        let workers = WORKED_ON.iter().map(start).collect();
        Ok(Self { queue, _workers: workers, _peers: send_peers })
    }
}

/// Returns the task of a tool call; `None` for a tool that answers at once.
pub(crate) fn submit(tool: &str, arguments: &JsonObject) -> Option<Submit> {
    let payload = Json::from_value(&Value::Object(arguments.clone())).ok()?;
    match tool {
        "protocol_error_job" => Some(Submit { deadline_s: Some(GIVEN_UP_AFTER_S), ..Submit::new(tool, payload) }),
        tool if WORKED_ON.contains(&tool) => Some(Submit::new(tool, payload)),
        _ => None,
    }
}

/// Whether the tool works only for clients that follow tasks by handles.
pub(crate) fn needs_handle(tool: &str) -> bool {
    tool == "failing_job"
}

/// Returns the answer of a tool for its task.
pub(crate) fn shape(task: TaskRecord, _done: bool) -> CallToolResult {
    match (task.result, task.error) {
        (Some(result), _) => CallToolResult::success(vec![ContentBlock::text(result.get())]),
        (None, error) => CallToolResult::error(vec![ContentBlock::text(error.unwrap_or_default())]),
    }
}

#[derive(Debug)]
struct Job {
    runtime: Arc<dyn Runtime>,
}

#[async_trait]
impl Handler for Job {
    async fn run(&self, task: &TaskRecord, mut contact: Contact) -> AttemptEnd {
        let arguments: JsonObject = task.payload.to().unwrap_or_default();
        let asking = contact.clone();
        tokio::select! {
            outcome = self.work(&task.task_type, &arguments, &asking) => outcome.unwrap_or_else(unanswered),
            () = contact.stop_requested() => AttemptEnd::Stopped,
        }
    }
}

impl Job {
    async fn work(&self, job: &str, arguments: &JsonObject, contact: &Contact) -> Result<AttemptEnd, AskError> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok(match job {
            "slow_compute" => {
                let seconds = arguments.get("seconds").and_then(Value::as_f64).unwrap_or_default();
                self.pause(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
                done(&format!("computed for {seconds} s"))
            }
            "failing_job" => {
                self.pause(FAILS_AFTER).await;
                failed("this job always fails")
            }
            "confirm_delete" => {
                let question = format!("Delete {}?", text("filename"));
                done(&format!("told {}", contact.ask("confirm", form(&question, "confirm", "boolean")).await?))
            }
            "multi_input" => {
                let name = contact.ask("name", form("What is your name?", "name", "string"));
                let sure = contact.ask("sure", form("Are you sure?", "confirm", "boolean"));
                let (name, sure) = tokio::try_join!(name, sure)?;
                done(&format!("told {name} and {sure}"))
            }
            "test_tool_with_task" => done(&format!("Hello, {}!", text("name"))),
            job => failed(&format!("{job} is not known")),
        })
    }

    async fn pause(&self, time: Duration) {
        let now = self.runtime.now();
        self.runtime.sleep_until(now.checked_add(time).unwrap_or(now)).await;
    }
}

/// Returns a question with one field to fill in.
fn form(message: &str, field: &str, kind: &str) -> Json {
    let schema = json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] });
    let params = json!({ "message": message, "requestedSchema": schema });
    Json::from_value(&json!({ "method": "elicitation/create", "params": params })).unwrap_or_else(|_| Json::null())
}

fn unanswered(error: AskError) -> AttemptEnd {
    match error {
        AskError::Stopped => AttemptEnd::Stopped,
        error => failed(&error.to_string()),
    }
}

fn failed(error: &str) -> AttemptEnd {
    AttemptEnd::Failed { error: error.to_owned(), retryable: false }
}

fn done(text: &str) -> AttemptEnd {
    match Json::from_value(&Value::from(text)) {
        Ok(result) => AttemptEnd::Done(result),
        Err(error) => failed(&error.to_string()),
    }
}

/// More tasks than the suite has under way at any time.
const SLOTS: usize = 32;

/// The deadline of the task that no worker takes: soon enough for the suite, which polls for ten seconds.
const GIVEN_UP_AFTER_S: f64 = 0.5;

/// As the suite prescribes it.
const FAILS_AFTER: Duration = Duration::from_secs(1);
