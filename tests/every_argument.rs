//! Tries every argument of every tool, as the tools' own schemas name them, with values that nobody should send. Each
//! value has its documented effect, or is refused with the name and place that the caller wrote, and the node goes on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::harness::{Era, HttpConnection, Node, at};

/// An argument that is tried: its place, and its schema.
struct Argument {
    tool: String,
    /// The place, such as `tasks[0].priority`.
    path: String,
    schema: Value,
    is_required: bool,
}

impl Argument {
    /// Returns the name of the outermost argument: its own, or that of the argument that it is within.
    fn top(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Whether the value means that the argument is not given.
    fn is_absent(&self, value: &Value) -> bool {
        let is_empty_list = at(&self.schema, "/type") == "array" && (value == " " || value == &json!([]));
        !self.is_required && (value.is_null() || value == "" || is_empty_list)
    }

    /// Whether the value has to be refused: the schema does not allow it, and there is no lenient reading of it either.
    fn is_wrong(&self, value: &Value) -> bool {
        let schema = &self.schema;
        let fits = match at(schema, "/type").as_str() {
            // The argument takes any value, or is accepted and ignored.
            None => return false,
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64() || value.is_i64(),
            Some("number") => value.is_number(),
            // A text is also read as a list of texts.
            Some("array") => value.is_array() || value.is_string() && at(schema, "/items/type") == "string",
            Some("object") => value.is_object(),
            Some(_) => true,
        };
        let is_below = value.as_f64() < at(schema, "/minimum").as_f64() && value.is_number();
        let is_above = at(schema, "/maximum").is_number() && value.as_f64() > at(schema, "/maximum").as_f64();
        let is_no_choice = at(schema, "/enum").as_array().is_some_and(|choices| !choices.contains(value));
        !self.is_absent(value) && (!fits || is_below || is_above || is_no_choice)
    }
}

/// Returns the values that are sent, as JSON texts: of every type, and at both ends of the range of numbers and texts.
fn values() -> Vec<String> {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let mut values: Vec<String> = [
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "1",
        "-1",
        "0.5",
        "1e308",
        "-1e308",
        "5e-324",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "4294967296",
        r#""""#,
        r#"" ""#,
        r#""text""#,
        r#""a,b""#,
        r#""\u0000""#,
        "[]",
        "[null]",
        "[1]",
        r#"["",""]"#,
        r#"["text"]"#,
        "[[]]",
        "[{}]",
        "{}",
        r#"{"a":1}"#,
        r#"{"a":null}"#,
        r#"{"":{}}"#,
        r#"{"a":"b"}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    values.push(format!("\"{}\"", "x".repeat(HUGE_TEXT_BYTES)));
    values.push(format!("[{}]", vec!["1"; HUGE_LIST].join(",")));
    values.push(format!("[{}]", vec![r#""text""#; HUGE_LIST].join(",")));
    values.push(format!("[{}]", vec!["{}"; HUGE_LIST].join(",")));
    values.push(nested(DEEP));
    values.push(format!("{}1{}", "{\"a\":".repeat(DEEP), "}".repeat(DEEP)));
    values
}

/// Collects the arguments that a schema names, and those within them.
fn arguments(tool: &str, schema: &Value, within: &str, found: &mut Vec<Argument>) {
    let required = at(schema, "/required").as_array().cloned().unwrap_or_default();
    for (name, property) in at(schema, "/properties").as_object().into_iter().flatten() {
        let path = format!("{within}{name}");
        let is_required = required.iter().any(|required| required == name);
        found.push(Argument { tool: tool.to_owned(), path: path.clone(), schema: property.clone(), is_required });
        arguments(tool, property, &format!("{path}."), found);
        arguments(tool, at(property, "/items"), &format!("{path}[0]."), found);
    }
}

/// The node under test, and a connection to it.
struct Tools<'a> {
    node: &'a Node,
    connection: HttpConnection,
    /// A task that a worker holds; `None` after a call may have changed it.
    held: Option<Value>,
}

impl Tools<'_> {
    fn ask(&mut self, era: Era, tool: &str, arguments: Value, value: Option<&str>) -> Result<Value> {
        let request = era.call(tool, arguments);
        let request = value.iter().fold(request, |request, value| request.replacing(PLACE, value));
        let reply = request.ask_on(&mut self.connection, self.node.http()?)?;
        ensure!(reply.status == 200, "{reply:?}");
        reply.structured()
    }

    fn done(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let answer = self.ask(Era::Modern, tool, arguments, None)?;
        ensure!(at(&answer, "/ok") == true, "{tool}: {answer}");
        Ok(answer)
    }

    /// Returns a task that a worker holds.
    fn held(&mut self) -> Result<Value> {
        if let Some(held) = &self.held {
            return Ok(held.clone());
        }
        self.done("p2p_taskqueue_submit", json!({ "task_type": "held", "priority": 10 }))?;
        let claim = json!({ "worker_id": "w", "supported_task_types": ["held"], "lease_s": 3_600 });
        let task = at(&self.done("p2p_taskqueue_claim_next", claim)?, "/task").clone();
        self.held = Some(task.clone());
        Ok(task)
    }

    /// Returns the id of a task that has ended, so that a wait for it is short.
    fn ended(&mut self) -> Result<Value> {
        let task = at(&self.done("p2p_taskqueue_submit", json!({ "task_type": "t" }))?, "/task_id").clone();
        self.done("p2p_taskqueue_cancel_task", json!({ "task_id": task }))?;
        Ok(task)
    }

    /// Returns arguments that are all right except for the one that is tried.
    fn around(&mut self, argument: &Argument, schema: &Value) -> Result<Value> {
        let mut filled = Map::new();
        let required = at(schema, "/required").as_array().cloned().unwrap_or_default();
        let mut held = Value::Null;
        for name in required.iter().filter_map(Value::as_str) {
            if matches!(name, "task_id" | "fence" | "task_ids") && held.is_null() {
                held = self.held()?;
            }
            filled.insert(name.to_owned(), filler(name, &held).with_context(|| format!("no filler for {name}"))?);
        }
        if argument.tool == "p2p_taskqueue_wait_task" && argument.top() != "task_ids" {
            filled.insert("task_id".to_owned(), self.ended()?);
        }
        if let Value::Object(more) = beside(argument) {
            filled.extend(more);
        }
        let mut filled = Value::Object(filled);
        set(&mut filled, &argument.path)?;
        Ok(filled)
    }

    fn is_well(&mut self) -> Result<()> {
        // A call may have paused something.
        self.done("p2p_taskqueue_resume", json!({}))?;
        self.done("p2p_taskqueue_status", json!({})).map(drop)
    }
}

/// Returns a right value for a required argument.
fn filler(name: &str, held: &Value) -> Option<Value> {
    Some(match name {
        "task_type" => json!("t"),
        "task_id" => at(held, "/task_id").clone(),
        "task_ids" => json!([at(held, "/task_id")]),
        "fence" => at(held, "/fence").clone(),
        "worker_id" | "peer_id" => json!("w"),
        "error" => json!("no ink"),
        "tasks" => json!([{ "task_type": "t" }]),
        "input_responses" => json!({ "size": 1 }),
        "key" => json!("k"),
        "machine" => json!("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"),
        "member" => json!("nobody-of-this-name"),
        "ticket" => json!("not a ticket"),
        "tool_name" => json!("echo"),
        "image" => json!("alpine:3"),
        "repo_url" => json!("https://example.com/a/b"),
        _ => return None,
    })
}

/// Returns further arguments that give the call a meaning and keep it from waiting.
fn beside(argument: &Argument) -> Value {
    match (argument.tool.as_str(), argument.top()) {
        // By default it waits for a minute, so its task is one that a worker does.
        ("run_task", "timeout_s") => json!({ "task_type": "echo" }),
        ("run_task" | "p2p_taskqueue_wait_task" | "p2p_taskqueue_call_tool" | "p2p_taskqueue_discover", _) => {
            json!({ "timeout_s": 0 })
        }
        ("list_peers", _) => json!({ "discover": false }),
        ("p2p_taskqueue_retry_task" | "p2p_taskqueue_purge", name) if name != "task_ids" => {
            json!({ "status": "failed" })
        }
        ("p2p_taskqueue_limit", name) if name != "concurrency_key" => json!({ "task_type": "limited" }),
        ("p2p_taskqueue_members_change", name) if name != "role" => json!({ "name": "box" }),
        ("p2p_taskqueue_complete_task", "claim_next") => json!({ "claim_next": { "worker_id": "w" } }),
        ("p2p_taskqueue_complete_task", "submit") => json!({ "submit": [{ "task_type": "t" }] }),
        _ => json!({}),
    }
}

/// Returns the argument that the refusal names as missing when this one is not given.
fn alternative(argument: &Argument) -> Option<&'static str> {
    match (argument.tool.as_str(), argument.top()) {
        ("p2p_taskqueue_wait_task", "task_ids") => Some("task_id"),
        ("p2p_taskqueue_retry_task" | "p2p_taskqueue_purge", "status") => Some("task_ids"),
        ("p2p_taskqueue_limit", "concurrency_key") => Some("task_type"),
        ("p2p_taskqueue_members_change", "role") => Some("name"),
        _ => None,
    }
}

/// Puts the placeholder for the value at a path.
fn set(arguments: &mut Value, path: &str) -> Result<()> {
    let pointer = format!("/{}", path.replace("[0]", "/0").replace('.', "/"));
    let (parent, name) = pointer.rsplit_once('/').context("no path")?;
    let parent = arguments.pointer_mut(parent).with_context(|| format!("nothing around {path}"))?;
    parent[name] = json!("PLACE");
    Ok(())
}

/// Judges whether an answer is one that the reference promises for this argument and value.
fn judge(argument: &Argument, value: &str, answer: &Value) -> Result<(), String> {
    let given: Value = serde_json::from_str(value).unwrap_or_default();
    let wrong = argument.is_wrong(&given);
    if at(answer, "/ok") == true {
        return if wrong { Err("is taken though it is wrong".to_owned()) } else { Ok(()) };
    }
    let error = at(answer, "/error");
    let (code, field) =
        (at(error, "/code").as_str().unwrap_or_default(), at(error, "/field").as_str().unwrap_or_default());
    if at(error, "/outcome") != "not_applied" {
        return Err(format!("may have been applied: {error}"));
    }
    // No worker offers a tool with that name.
    if (code, argument.path.as_str()) == ("not_found", "tool_name") && !wrong {
        return Ok(());
    }
    // The filler names no machine and no ticket, a machine that is alone leaves nothing, and tickets are bounded.
    let is_of_filler = ["member", "ticket"].contains(&field) || argument.tool == "p2p_taskqueue_leave";
    let has_too_many = (code, argument.tool.as_str()) == ("limit_exceeded", "p2p_taskqueue_invite");
    if !wrong && (is_of_filler || has_too_many) {
        return Ok(());
    }
    if argument.is_absent(&given) && alternative(argument) == Some(field) {
        return Ok(());
    }
    let within = field.strip_prefix(&argument.path);
    let is_named = within.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    match code {
        "invalid_argument" | "limit_exceeded" if is_named => Ok(()),
        // No machine has that name.
        "not_found" if is_named && !wrong && MACHINES.contains(&argument.name()) => Ok(()),
        _ => Err(error.to_string()),
    }
}

#[test]
fn every_argument_has_its_effect_or_is_refused_by_name() -> Result<()> {
    let node = Node::start(&["--worker", "echo=cat", "--durability", "relaxed"])?;
    let connection = HttpConnection::open(node.http()?)?;
    let mut tools = Tools { node: &node, connection, held: None };
    let reply = Era::Modern.request("tools/list", json!({})).ask_on(&mut tools.connection, node.http()?)?.message()?;
    let listed = at(&reply, "/result/tools").as_array().context("no tools")?.clone();
    let own: Vec<_> = listed.iter().filter(|tool| tool["name"] != "echo").collect();
    let values = values();
    let (mut tried, mut mistakes) = (0, Vec::new());
    for tool in own {
        let (name, schema) = (tool["name"].as_str().context("no name")?, &tool["inputSchema"]);
        let mut found = Vec::new();
        arguments(name, schema, "", &mut found);
        for argument in &found {
            ensure!(
                KNOWN.contains(&argument.name()),
                "{name} has an argument that this test does not know: {}",
                argument.path
            );
            for value in &values {
                // The two revisions differ in what is around the arguments. Each value is tried in one of them, in
                // turn.
                let era = Era::BOTH[(tried + tried / values.len()) % Era::BOTH.len()];
                let filled = tools.around(argument, schema)?;
                let since = Instant::now();
                let answer = tools.ask(era, name, filled, Some(value));
                let said: String = value.chars().take(40).collect();
                let answer = answer.with_context(|| format!("{name} {} = {said}", argument.path))?;
                ensure!(since.elapsed() < SOON, "{name} {} = {said} took {:?}", argument.path, since.elapsed());
                if answer["ok"] == true {
                    tools.held = None;
                }
                if let Err(mistake) = judge(argument, value, &answer) {
                    mistakes.push(format!("{name} {} = {said}: {mistake:.300}", argument.path));
                }
                tried += 1;
            }
            tools.is_well()?;
        }
    }
    assert!(mistakes.is_empty(), "{} of {tried}:\n{}", mistakes.len(), mistakes.join("\n"));
    Ok(())
}

/// The arguments that name a machine.
const MACHINES: &[&str] = &["machine", "peer_id", "pin_to", "remote_peer_id"];

/// The placeholder for the value in the text of a request.
const PLACE: &str = "\"PLACE\"";

/// Above every bound of a text, including the 1 MiB of a payload.
const HUGE_TEXT_BYTES: usize = 1024 * 1024;

/// Above the bound of every list.
const HUGE_LIST: usize = 20_000;

/// Deeper than the 100 levels that are accepted, and than the 128 that are read from a peer or a store.
const DEEP: usize = 200;

/// The longest time for an answer. No value here asks for a wait of more than a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Every argument that a tool may have. For one that is not here yet, two questions have to be answered: does it need a
/// filler, and can it make a call wait?
const KNOWN: &[&str] = &[
    "after",
    "args",
    "backoff_s",
    "branch",
    "build_args",
    "capabilities_detail",
    "capabilities_timeout_s",
    "claim_next",
    "clock",
    "command",
    "concurrency_key",
    "connected_only",
    "context_path",
    "cursor",
    "deadline_s",
    "delay_s",
    "detail",
    "discover",
    "discovery_methods",
    "discovery_timeout_s",
    "dockerfile_path",
    "drain",
    "entrypoint",
    "environment",
    "error",
    "extra",
    "fence",
    "for_s",
    "force",
    "idempotency_key",
    "idempotency_window_s",
    "image",
    "include_capabilities",
    "input_requests",
    "input_responses",
    "keep",
    "keep_trying",
    "key",
    "label",
    "labels",
    "lease_s",
    "leave",
    "limit",
    "machine",
    "max_attempts",
    "max_tasks",
    "member",
    "methods",
    "model_name",
    "multiaddr",
    "name",
    "not_before",
    "older_than_s",
    "on_parent_failure",
    "order",
    "payload",
    "peer_id",
    "pin_to",
    "priority",
    "progress",
    "reason",
    "remote_multiaddr",
    "remote_peer_id",
    "repo_url",
    "requires",
    "result",
    "result_ttl_s",
    "retryable",
    "role",
    "running_max",
    "schemas",
    "session",
    "status",
    "status_message",
    "submit",
    "supported_task_types",
    "task_id",
    "task_ids",
    "task_type",
    "task_types",
    "tasks",
    "ticket",
    "timeout_s",
    "tool_name",
    "ttl_s",
    "uses",
    "value",
    "volumes",
    "wait_s",
    "worker_id",
];
