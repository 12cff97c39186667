//! JSON values that programs often alter or cannot handle, sent through the built program: by the command line, over
//! its socket, to peers, and through the commands of workers.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use p2p_taskqueue::{
    Caller, Json, PeerId, TaskQueueExt as _,
    api::Submit,
    store::{SqliteStore, StoreOptions},
};
use serde_json::{Value, json, value::RawValue};
use taskqueue_api::testing::odd_json;
use tempfile::TempDir;

use crate::harness::{Answered, Era, Node, taskmesh, taskmesh_with_input};

/// Returns the part of a JSON text at this path, unchanged.
fn raw<'a>(text: &'a str, path: &[&str]) -> Result<&'a str> {
    path.iter().try_fold(text, |text, step| {
        let found: Option<&RawValue> = match step.parse::<usize>() {
            Ok(at) => serde_json::from_str::<Vec<&RawValue>>(text)?.get(at).copied(),
            Err(_) => serde_json::from_str::<BTreeMap<String, &RawValue>>(text)?.get(*step).copied(),
        };
        Ok(found.with_context(|| format!("no {step} in {text}"))?.get())
    })
}

fn ok(answered: Answered) -> Result<String> {
    ensure!(answered.code == Some(0), "{answered:?}");
    Ok(answered.stdout)
}

/// Returns the output of a command with `--json`, and checks that the whole of it can be parsed.
fn printed(answered: Answered) -> Result<String> {
    let printed = ok(answered)?;
    serde_json::from_str::<Value>(&printed).with_context(|| printed.clone())?;
    Ok(printed)
}

/// Returns the form of a result for scripts: a string as its text.
fn plain(odd: &str) -> String {
    serde_json::from_str::<String>(odd).unwrap_or_else(|_| odd.to_owned())
}

fn submit(folder: &Path, task_type: &str, odd: &str, more: &[&str]) -> Result<String> {
    let arguments = [&["submit", task_type, "--payload", "-", "--json"], more].concat();
    let submitted = printed(taskmesh_with_input(folder, &arguments, odd.as_bytes())?)?;
    Ok(serde_json::from_str(raw(&submitted, &["task_id"])?)?)
}

/// Returns the result of a worker's `cat` for a payload: the compact JSON, or for a string its text, which may itself
/// be JSON.
fn through_cat(odd: &str) -> Result<String> {
    let payload = Json::parse(odd.to_owned())?;
    Ok(match payload.to::<String>() {
        Ok(text) => match Json::parse(text.trim().to_owned()) {
            Ok(json) => json.into_text(),
            Err(_) => Json::from_text(text.strip_suffix('\n').unwrap_or(&text)).into_text(),
        },
        Err(_) => payload.compact(),
    })
}

#[test]
fn the_command_line_takes_and_prints_values_as_they_are() -> Result<()> {
    let node = Node::start(&["--worker", "cat=cat"])?;
    let folder = node.folder();
    for odd in odd_json::kept().into_iter().chain(odd_json::some(10)) {
        let id = submit(folder, "nobody", &odd, &[])?;
        let got = printed(node.run(&["get", &id, "--json"])?)?;
        assert_eq!(raw(&got, &["task", "payload"])?, odd);
        let listed = printed(node.run(&["list", "--type", "nobody", "--limit", "1", "--json"])?)?;
        assert_eq!(raw(&listed, &["tasks", "0", "payload"])?, odd);
        ok(taskmesh_with_input(folder, &["cache", "set", "k", "--value", "-"], odd.as_bytes())?)?;
        let cached = printed(node.run(&["cache", "get", "k", "--json"])?)?;
        assert_eq!(raw(&cached, &["value"])?, odd);
        assert_eq!(ok(node.run(&["cache", "get", "k"])?)?, format!("{}\n", plain(&odd)));
        let expected = through_cat(&odd)?;
        let run =
            taskmesh_with_input(folder, &["submit", "cat", "--payload", "-", "--wait", "--json"], odd.as_bytes())?;
        assert_eq!(raw(&printed(run)?, &["task", "result"])?, expected);
        let called = taskmesh_with_input(folder, &["call", "cat", "--args", "-"], odd.as_bytes())?;
        assert_eq!(ok(called)?, format!("{}\n", plain(&expected)));
    }
    Ok(())
}

#[test]
fn the_command_line_is_refused_as_every_other_client_is() -> Result<()> {
    let node = Node::start(&[])?;
    for odd in odd_json::refused().into_iter().chain([odd_json::nested(200)]) {
        let is_deep = odd.matches(['[', '{']).count() > odd_json::DEEPEST;
        let code = if is_deep { "limit_exceeded" } else { "invalid_argument" };
        for (arguments, field) in [
            (&["submit", "t", "--payload", "-", "--json"][..], "payload"),
            (&["cache", "set", "k", "--value", "-", "--json"], "value"),
            (&["call", "t", "--args", "-", "--json"], "args"),
        ] {
            let refused = taskmesh_with_input(node.folder(), arguments, odd.as_bytes())?;
            let error = refused.json()?["error"].clone();
            assert_eq!(
                (refused.code, &error["code"], &error["field"]),
                (Some(1), &code.into(), &field.into()),
                "{odd}"
            );
        }
    }
    assert_eq!(node.ask(&["list"])?["tasks"], Value::Array(Vec::new()));
    assert_eq!(node.run(&["cache", "has", "k"])?.code, Some(1));
    Ok(())
}

#[test]
fn a_peer_keeps_and_answers_values_as_they_are() -> Result<()> {
    let (owner, other) = (Node::start(&[])?, Node::start(&[])?);
    other.join(&owner)?;
    let peer = owner.peer_id()?;
    for odd in odd_json::kept().into_iter().chain(odd_json::some(10)) {
        let id = submit(other.folder(), "t", &odd, &["--peer", &peer])?;
        let got = printed(owner.run(&["get", &id, "--json"])?)?;
        assert_eq!(raw(&got, &["task", "payload"])?, odd);
        let got = printed(other.run(&["get", &id, "--json", "--peer", &peer])?)?;
        assert_eq!(raw(&got, &["task", "payload"])?, odd);
        for era in Era::BOTH {
            // The other node passes this on, and later finds the owner by itself.
            let submit = json!({ "task_type": "t", "payload": "ODD", "peer_id": peer });
            let submitted = era.call("p2p_taskqueue_submit", submit).replacing("\"ODD\"", &odd).ask(other.http()?)?;
            let id = submitted.structured()?["task_id"].clone();
            let got = era.call("p2p_taskqueue_get_task", json!({ "task_id": id })).ask(other.http()?)?.body;
            assert_eq!(raw(&got, &["result", "structuredContent", "task", "payload"])?, odd);
        }
    }
    for odd in odd_json::refused() {
        let arguments = ["submit", "t", "--payload", "-", "--json", "--peer", &peer];
        let refused = taskmesh_with_input(other.folder(), &arguments, odd.as_bytes())?;
        assert_eq!((refused.code, refused.json()?["error"]["field"].as_str()), (Some(1), Some("payload")), "{odd}");
    }
    Ok(())
}

/// The command's output looks like JSON, but a result may not be such a value: many readers could not parse it, nor the
/// answer around it.
#[test]
fn output_that_a_result_may_not_be_is_kept_as_a_text() -> Result<()> {
    let files = tempfile::tempdir()?;
    let file = files.path().join("output");
    let worker = format!("odd=cat {}", file.display());
    let node = Node::start(&["--worker", &worker])?;
    for odd in odd_json::refused() {
        fs::write(&file, odd.as_bytes())?;
        assert_eq!(ok(node.run(&["submit", "odd", "--wait"])?)?, format!("{odd}\n"));
        let ran = printed(node.run(&["submit", "odd", "--wait", "--json"])?)?;
        assert_eq!(raw(&ran, &["task", "result"])?, Json::from_text(&odd).get());
    }
    Ok(())
}

/// Makes a folder whose store has values that an earlier version accepted, each beside an ordinary one.
fn folder_of_an_earlier_version() -> Result<(TempDir, BTreeMap<String, String>)> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(&folder.path().join(STORE), StoreOptions::new(PeerId::random()))?;
    let (store, mut put) = (Arc::new(store), BTreeMap::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for odd in odd_json::refused() {
        for text in [odd, "1".to_owned()] {
            let submit = Submit::new("t", Json::parse(text.clone())?);
            let submitted = runtime.block_on(store.submit(&Caller::Local, submit))?;
            put.insert(submitted.task_id.to_string(), text);
        }
    }
    Ok((folder, put))
}

fn payloads(tasks: &str) -> Result<BTreeMap<String, String>> {
    let tasks: Vec<&RawValue> = serde_json::from_str(tasks)?;
    let of = |task: &&RawValue| {
        let id = serde_json::from_str(raw(task.get(), &["task_id"])?)?;
        Ok((id, raw(task.get(), &["payload"])?.to_owned()))
    };
    tasks.iter().map(of).collect()
}

#[test]
fn what_an_earlier_version_took_is_listed_claimed_and_completed_among_others() -> Result<()> {
    let (folder, put) = folder_of_an_earlier_version()?;
    let node = Node::start_on(folder, None, &["--p2p-listen", "/ip4/127.0.0.1/tcp/0"])?;
    let listed = ok(node.run(&["list", "--limit", "1000", "--json"])?)?;
    assert_eq!(payloads(raw(&listed, &["tasks"])?)?, put);
    ok(taskmesh(node.folder(), &["list"])?)?;
    for era in Era::BOTH {
        let call = |tool: &str, arguments: Value| -> Result<String> {
            let body = era.call(tool, arguments).ask(node.http()?)?.body;
            Ok(raw(&body, &["result", "structuredContent"])?.to_owned())
        };
        let listed = call("p2p_taskqueue_list_tasks", json!({ "limit": 1_000 }))?;
        assert_eq!(payloads(raw(&listed, &["tasks"])?)?, put);
        let claim = json!({ "worker_id": "w", "max_tasks": 8 });
        let claimed = call("p2p_taskqueue_claim_many", claim)?;
        let tasks: Vec<&RawValue> = serde_json::from_str(raw(&claimed, &["tasks"])?)?;
        assert_eq!(tasks.len(), 8);
        for task in tasks {
            let held = |name: &str| -> Result<Value> { Ok(serde_json::from_str(raw(task.get(), &[name])?)?) };
            let complete = json!({ "task_id": held("task_id")?, "fence": held("fence")?, "result": 1 });
            let completed = call("p2p_taskqueue_complete_task", complete)?;
            assert_eq!(raw(&completed, &["ok"])?, "true", "{completed}");
        }
    }
    Ok(())
}

/// The name of the store's file in a data folder.
const STORE: &str = "queue.sqlite3";
