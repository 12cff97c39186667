//! One suite of tool calls, made in every mode. The answers are the same, except for what a mode may say of itself.

mod calls;
mod compare;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Era, Front, Node, at, until};

/// A place where the suite runs: a node, and its MCP server if that is a separate process.
struct Place {
    name: &'static str,
    node: Node,
    front: Option<Front>,
}

impl Place {
    fn serve(name: &'static str, arguments: &[&str]) -> Result<Self> {
        Ok(Self { name, node: Node::start(&[WORKERS, arguments].concat())?, front: None })
    }

    fn daemon(name: &'static str, arguments: &[&str]) -> Result<Self> {
        let node = Node::daemon(&[WORKERS, arguments].concat())?;
        let front = Some(Front::of(&node)?);
        Ok(Self { name, node, front })
    }

    fn url(&self) -> Result<&str> {
        self.front.as_ref().map_or_else(|| self.node.http(), Front::http)
    }
}

/// One worker repeats its payload, the other one fails.
const WORKERS: &[&str] = &["--worker", "echo=cat", "--worker", "broken=sh -c 'echo no >&2; exit 3'"];

/// The requests of a run and their answers, without the things that may differ.
struct Transcript {
    era: Era,
    url: String,
    entries: Vec<(String, Value)>,
    tools: BTreeSet<String>,
}

impl Transcript {
    fn of(place: &Place, era: Era) -> Result<Vec<(String, Value)>> {
        let mut transcript = Self { era, url: place.url()?.to_owned(), entries: Vec::new(), tools: BTreeSet::new() };
        transcript.until_offered("broken")?;
        let listed = transcript.request("tools/list", json!({}))?;
        calls::make(&mut transcript).with_context(|| place.name)?;
        let tools = at(&listed, "/result/tools").as_array().context("no tools")?;
        let names = tools.iter().filter_map(|tool| at(tool, "/name").as_str()).map(str::to_owned);
        let uncalled: Vec<_> = names.filter(|name| !transcript.tools.contains(name)).collect();
        ensure!(uncalled.is_empty(), "the suite does not call {uncalled:?}");
        Ok(transcript.entries)
    }

    /// Waits until a tool is listed, because a worker's tool is seen a moment after the worker started.
    fn until_offered(&mut self, tool: &str) -> Result<()> {
        let name = format!("\"{tool}\"");
        until(format_args!("{tool} is offered"), || {
            Ok(self.request("tools/list", json!({}))?.to_string().contains(&name).then_some(()))
        })?;
        self.entries.clear();
        Ok(())
    }

    fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        // The arguments are left out because some are huge. The number of the entry identifies the call.
        let name = at(&params, "/name").as_str().unwrap_or_default();
        let label = format!("{} {method} {name}", self.entries.len());
        let reply = self.era.request(method, params).ask(&self.url).with_context(|| label.clone())?;
        let answer = reply.message()?;
        self.entries.push((label, json!({ "status": reply.status, "answer": compare::without_what_differs(&answer) })));
        Ok(answer)
    }

    /// Calls a tool and returns its structured answer.
    fn call(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        self.tools.insert(tool.to_owned());
        let params = [("name".to_owned(), Value::from(tool)), ("arguments".to_owned(), arguments)];
        let answer = self.request("tools/call", params.into_iter().collect())?;
        Ok(at(&answer, "/result/structuredContent").clone())
    }

    /// Calls a tool that has to succeed.
    fn done(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let answer = self.call(tool, arguments)?;
        ensure!(at(&answer, "/ok") == true, "{tool}: {answer}");
        Ok(answer)
    }

    /// Calls a tool that has to answer with this error code.
    fn fails(&mut self, code: &str, tool: &str, arguments: Value) -> Result<()> {
        let answer = self.call(tool, arguments)?;
        ensure!(at(&answer, "/ok") == false && at(&answer, "/error/code") == code, "{tool}, not {code}: {answer}");
        Ok(())
    }
}

/// Checks that the answers are the same as in bridge mode on tokio.
fn answers_as_bridge_does(place: &Place, era: Era) -> Result<()> {
    let bridge = Place::serve("bridge", &[])?;
    let (expected, answered) = (Transcript::of(&bridge, era)?, Transcript::of(place, era)?);
    let mut differences = Vec::new();
    for ((label, expected), (other, answered)) in expected.iter().zip(&answered) {
        ensure!(label == other, "{}: {other} where bridge has {label}", place.name);
        differences.extend(compare::differences(label, expected, answered));
    }
    ensure!(differences.is_empty(), "{}, after what bridge answers: {differences:#?}", place.name);
    assert_eq!(expected.len(), answered.len(), "{}", place.name);
    Ok(())
}

#[test]
fn native_on_tokio_answers_as_bridge_does() -> Result<()> {
    answers_as_bridge_does(&Place::serve("native, tokio", &["--mode", "native"])?, Era::Modern)
}

#[test]
fn native_on_smol_answers_as_bridge_does() -> Result<()> {
    answers_as_bridge_does(&Place::serve("native, smol", &["--mode", "native", "--p2p-runtime", "smol"])?, Era::Legacy)
}

#[test]
fn native_on_async_std_answers_as_bridge_does() -> Result<()> {
    answers_as_bridge_does(
        &Place::serve("native, async-std", &["--mode", "native", "--p2p-runtime", "async-std"])?,
        Era::Modern,
    )
}

#[test]
fn a_daemon_behind_its_socket_answers_as_bridge_does() -> Result<()> {
    answers_as_bridge_does(&Place::daemon("daemon, socket", &[])?, Era::Modern)
}

#[test]
fn a_daemon_behind_loopback_http_answers_as_bridge_does() -> Result<()> {
    answers_as_bridge_does(&Place::daemon("daemon, http", &["--rpc", "http://127.0.0.1:0"])?, Era::Legacy)
}
