//! Compares the arguments of the tools, as their schemas describe them to every client, with the reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::Reference;
use crate::harness::{Era, Node, at};

#[test]
fn every_argument_stands_in_the_reference_with_its_type_bounds_and_default() -> Result<()> {
    let tools = tools(&Node::start(&[])?)?;
    let (table, count) = table(&tools)?;
    println!("{count} arguments compared");
    Reference::read()?.check_block("arguments", &table)
}

#[test]
fn the_reference_has_the_tools_that_there_are() -> Result<()> {
    let tools = tools(&Node::start(&[])?)?;
    let reference = Reference::read()?;
    let rows = reference.rows("## MCP tools")?;
    let mut documented = BTreeSet::new();
    for name in rows.iter().filter_map(|row| row.first()).flat_map(|cell| super::quoted(cell)) {
        // `p2p_taskqueue_cache_get`, `_cache_has`
        let name = if name.starts_with('_') { format!("p2p_taskqueue{name}") } else { name.to_owned() };
        ensure!(documented.insert(name.clone()), "{name} stands there twice");
    }
    let known: BTreeSet<String> = tools.into_keys().collect();
    ensure!(documented == known, "documented: {documented:?}, known: {known:?}");
    Ok(())
}

/// Returns the schemas of the tools' arguments, by tool.
fn tools(node: &Node) -> Result<BTreeMap<String, Map<String, Value>>> {
    let listed = Era::Legacy.request("tools/list", json!({})).ask(node.http()?)?.message()?;
    let tools = at(&listed, "/result/tools").as_array().context("no tools")?;
    let read = |tool: &Value| {
        let name = at(tool, "/name").as_str().context("no name")?.to_owned();
        Ok((name, at(tool, "/inputSchema").as_object().context("no schema")?.clone()))
    };
    tools.iter().map(read).collect()
}

/// Returns the table of arguments and the number of arguments. Arguments with the same name and meaning share a row.
fn table(tools: &BTreeMap<String, Map<String, Value>>) -> Result<(String, usize)> {
    let mut rows: BTreeMap<(String, [String; 3]), Vec<&str>> = BTreeMap::new();
    let mut count = 0;
    for (tool, schema) in tools {
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (name, property) in properties(schema)? {
            let default = match property.get("default") {
                _ if required.iter().any(|required| required == name) => "required".to_owned(),
                Some(value) if *value != json!([]) && *value != json!({}) && *value != json!("") => shown(value),
                _ => String::new(),
            };
            let what = at(property, "/description").as_str().with_context(|| format!("{tool}: {name}"))?;
            let cells = [kind(property, tools).with_context(|| format!("{tool}: {name}"))?, default, one_line(what)];
            rows.entry((name.clone(), cells)).or_default().push(tool.trim_start_matches("p2p_taskqueue_"));
            count += 1;
        }
    }
    let mut table = "| argument | type | default | what | of |\n|---|---|---|---|---|\n".to_owned();
    for ((name, [kind, default, what]), of) in rows {
        let of = if of.len() == tools.len() { "every tool".to_owned() } else { of.join(", ") };
        writeln!(table, "| `{name}` | {kind} | {default} | {what} | {of} |")?;
    }
    Ok((table, count))
}

fn properties(schema: &Map<String, Value>) -> Result<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object).context("no properties")
}

/// Returns the type and the bounds of a property in words.
fn kind(property: &Value, tools: &BTreeMap<String, Map<String, Value>>) -> Result<String> {
    if let Some(choices) = property.get("enum").and_then(Value::as_array) {
        return Ok(choices.iter().map(shown).collect::<Vec<_>>().join(", "));
    }
    let Some(name) = property.get("type") else { return Ok("any JSON".to_owned()) };
    let bounds = bounds(property);
    Ok(match name.as_str().context("a type that is no text")? {
        "string" if property.get("pattern").is_some_and(|pattern| pattern == "^[0-9a-f]{32}$") => "task id".to_owned(),
        "string" => format!("text{bounds}"),
        "array" => {
            let items = property.get("items").context("a list of what?")?;
            let kind = kind(items, tools)?;
            format!("list{bounds} of {}", if kind == "any JSON" { "JSON values" } else { &kind })
        }
        "object" => match property.get("properties").and_then(Value::as_object) {
            Some(fields) => format!("object: the arguments of {} without a target", same_arguments(fields, tools)?),
            None => match property.get("additionalProperties") {
                Some(values) if values.is_object() => format!("object of {}", kind(values, tools)?),
                _ => "object".to_owned(),
            },
        },
        name => format!("{name}{bounds}"),
    })
}

/// Returns the tool that has these arguments, apart from those in [`OF_THE_CALL`].
fn same_arguments(fields: &Map<String, Value>, tools: &BTreeMap<String, Map<String, Value>>) -> Result<String> {
    let mut nearest = None;
    for (tool, schema) in tools {
        let own: BTreeSet<&String> =
            properties(schema)?.keys().filter(|name| !OF_THE_CALL.contains(&name.as_str())).collect();
        if own == fields.keys().collect() {
            nearest = nearest.or(Some(tool));
        }
    }
    match nearest {
        Some(tool) => Ok(format!("`{tool}`")),
        None => bail!("no tool has the arguments {:?}", fields.keys()),
    }
}

fn bounds(property: &Value) -> String {
    let bound = |names: [&str; 2]| names.iter().find_map(|name| property.get(name)).map(shown);
    let (min, max) = match property.get("type").and_then(Value::as_str) {
        Some("string") => (bound(["minLength"; 2]), bound(["maxLength"; 2])),
        Some("array") => (bound(["minItems"; 2]), bound(["maxItems"; 2])),
        _ => (bound(["minimum", "exclusiveMinimum"]), bound(["maximum", "exclusiveMaximum"])),
    };
    match (min, max) {
        (Some(min), Some(max)) => format!(" {min}–{max}"),
        (Some(min), None) => format!(" ≥ {min}"),
        (None, Some(max)) => format!(" ≤ {max}"),
        (None, None) => String::new(),
    }
}

/// Returns a value as a person writes it: `60`, not `60.0`.
fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => number.to_string(),
        None => format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Arguments that name the target of a call, or have no meaning within another argument.
const OF_THE_CALL: [&str; 4] = ["remote_multiaddr", "remote_peer_id", "peer_id", "clock"];
