//! A worker's command reports its progress and asks questions.

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::harness::{Node, PROGRAM};

/// The command of a worker: this script, with the program as `$0`.
fn worker(script: &str) -> String {
    format!("asks=sh -c '{script}' {PROGRAM}")
}

/// Reports half of the work, then asks how to go on. Every attempt asks the same question.
const SCRIPT: &str = r#""$0" progress 0.5 half && "$0" ask go-on --message "Go on?" --schema "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}}}""#;

fn submit(node: &Node) -> Result<String> {
    let submitted = node.ask(&["submit", "asks"])?;
    Ok(submitted.get("task_id").and_then(Value::as_str).context("no task id")?.to_owned())
}

/// Waits until the task's record fulfils the condition, and returns the record.
fn until(node: &Node, task: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    crate::harness::until(format_args!("the record of {task}"), || {
        let record = node.ask(&["get", task])?.get("task").cloned().context("no task")?;
        Ok(is_so(&record).then_some(record))
    })
}

fn ended(node: &Node, task: &str) -> Result<Value> {
    let waited = node.run(&["wait", task, "--timeout", "60", "--json"])?.json()?;
    waited.get("task").cloned().context("no task")
}

fn asks(record: &Value) -> bool {
    record.pointer("/input_requests/go-on").is_some()
}

#[test]
fn a_command_tells_its_progress_asks_and_goes_on_with_the_answer() -> Result<()> {
    let node = Node::start(&["--worker", &worker(SCRIPT)])?;
    let task = submit(&node)?;
    let record = until(&node, &task, asks)?;
    assert_eq!((&record["progress"], &record["status_message"]), (&json!(0.5), &json!("half")));
    let question = &record["input_requests"]["go-on"];
    assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Go on?")));
    assert_eq!(question["params"]["requestedSchema"]["properties"]["n"]["type"], "integer");
    let shown = node.run(&["get", &task])?.stdout;
    assert!(shown.contains("50 %") && shown.contains("go-on: "), "{shown}");
    let wrong = node.run(&["answer", &task, "another", "{}"])?;
    assert!(wrong.code == Some(1) && wrong.stderr.contains("asks no such thing"), "{wrong:?}");
    let answered = Instant::now();
    assert_eq!(node.ask(&["answer", &task, "go-on", r#"{"n":7}"#])?["open"], 0);
    assert_eq!(ended(&node, &task)?["result"], json!({ "n": 7 }));
    println!("ended {:?} after the answer", answered.elapsed());
    Ok(())
}

#[test]
fn a_question_that_is_declined_or_called_off_fails_its_command() -> Result<()> {
    let node = Node::start(&["--worker", &worker(SCRIPT)])?;
    let task = submit(&node)?;
    until(&node, &task, asks)?;
    node.ask(&["answer", &task, "go-on", "--decline"])?;
    // The answer counts for the whole life of the task, so each attempt is declined.
    let failed = ended(&node, &task)?;
    assert_eq!(
        (&failed["status"], &failed["failed_by"], &failed["attempt"]),
        (&json!("failed"), &json!("worker"), &json!(3))
    );
    assert!(failed["error"].as_str().context("no error")?.contains("decline"), "{failed}");

    let task = submit(&node)?;
    until(&node, &task, asks)?;
    let called_off = Instant::now();
    node.ask(&["cancel", &task])?;
    assert_eq!(ended(&node, &task)?["status"], "cancelled");
    println!("stopped after {:?}", called_off.elapsed());
    Ok(())
}

#[test]
fn a_command_asks_the_peer_that_keeps_its_task() -> Result<()> {
    let owner = Node::start(&[])?;
    let other = Node::start(&["--worker", &worker(SCRIPT)])?;
    other.join(&owner)?;
    let task = submit(&owner)?;
    let record = until(&owner, &task, asks)?;
    assert_eq!(record["progress"], 0.5);
    owner.ask(&["answer", &task, "go-on", r#"{"n":8}"#])?;
    assert_eq!(ended(&owner, &task)?["result"], json!({ "n": 8 }));
    let task = submit(&owner)?;
    until(&owner, &task, asks)?;
    let called_off = Instant::now();
    owner.ask(&["cancel", &task])?;
    assert_eq!(ended(&owner, &task)?["status"], "cancelled");
    println!("stopped after {:?}", called_off.elapsed());
    Ok(())
}

#[test]
fn outside_a_command_of_a_worker_the_usage_is_told() -> Result<()> {
    let node = Node::start(&[])?;
    let refused = node.run(&["progress", "0.5"])?;
    assert!(refused.code == Some(2) && refused.stderr.contains("--task-id"), "{refused:?}");
    let fence = ["--task-id", "00112233445566778899aabbccddeeff", "--fence", "1.1"];
    let unknown = node.run(&[&["ask", "q", "--message", "?", "--json"], &fence[..]].concat())?;
    assert_eq!((unknown.code, &unknown.json()?["error"]["code"]), (Some(1), &json!("not_found")), "{unknown:?}");
    Ok(())
}
