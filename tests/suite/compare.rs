//! Compares two runs, without the things that may differ between them: ids, times, fences, peers, addresses, and what a
//! mode says of itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::harness::at;

/// The fields of a status that depend on the mode.
const OF_THE_MODE: &[&str] = &["mode", "p2p_runtime", "uptime_s", "bridge"];

/// Fields that hold a time or a measured span.
const TIMES: &[&str] = &[
    "created_at",
    "updated_at",
    "not_before",
    "deadline",
    "lease_until",
    "started_s",
    "elapsed_s",
    "oldest_queued_s",
    "last_seen",
    "expires_at",
    "timestamp",
    "at",
];

/// The characters that follow the type in the name of a worker.
const NOT_OF_A_NAME: [char; 11] = ['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/// Numbers above this are times in Unix seconds; no count or size of the suite is so large.
const TIME_MIN: f64 = 1e9;

pub(super) fn without_what_differs(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.iter().filter_map(field).collect::<Map<_, _>>()),
        Value::Array(values) => {
            values.iter().filter(|value| !says_why_it_waits(value)).map(without_what_differs).collect()
        }
        Value::Number(number) if number.as_f64().is_some_and(|number| number > TIME_MIN) => "TIME".into(),
        Value::String(text) => text_without(text),
        value => value.clone(),
    }
}

fn field((name, value): (&String, &Value)) -> Option<(String, Value)> {
    if OF_THE_MODE.contains(&name.as_str()) {
        return None;
    }
    let value = match name.as_str() {
        "fence" => "FENCE".into(),
        // Whether a worker is still busy with an earlier task of the suite is chance.
        "busy" => "COUNT".into(),
        "waiting_for" if at(value, "/reason") == "worker_busy" => return None,
        // The message may say how long the task still waits.
        "waiting_for" => at(value, "/reason").clone(),
        "mesh" if value.is_string() => "MESH".into(),
        "ticket" if value.is_string() => "TICKET".into(),
        // The name of a node's own worker contains the process id.
        "assigned_worker" | "worker_id" => {
            value.as_str().map_or(Value::Null, |name| name.trim_matches(NOT_OF_A_NAME).into())
        }
        time if TIMES.contains(&time) && value.is_number() => "TIME".into(),
        // The cursor is random, and its length differs each time.
        "next_cursor" if value.is_string() => "CURSOR".into(),
        // This field repeats the JSON of the answer as a text.
        "text" => value
            .as_str()
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .map_or_else(|| without_what_differs(value), |json| without_what_differs(&json)),
        _ => without_what_differs(value),
    };
    Some((words(name), value))
}

/// Whether this is the second text of an answer, which repeats the message of `waiting_for`.
fn says_why_it_waits(value: &Value) -> bool {
    at(value, "/text").as_str().is_some_and(|text| text.starts_with("queued: "))
}

fn text_without(text: &str) -> Value {
    // Of a payload of a megabyte only the length is compared. It contains no ids.
    if text.len() > 64 * 1024 { text.len().into() } else { words(text).into() }
}

/// Replaces every id, peer and port in a text.
fn words(text: &str) -> String {
    let mut replaced = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let end = word.get(bare.len()..).unwrap_or_default();
        // A digest of 64 digits is computed over ids, so it differs, too.
        let is_id = [32, 64].contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_peer = bare.len() > 40 && bare.starts_with("12D3KooW");
        let after_port = replaced.ends_with("/tcp/") || replaced.ends_with("127.0.0.1:");
        let is_port = after_port && bare.bytes().all(|byte| byte.is_ascii_digit());
        let instead = if is_id {
            "ID"
        } else if is_peer {
            "PEER"
        } else if is_port {
            "PORT"
        } else {
            bare
        };
        replaced.push_str(instead);
        replaced.push_str(end);
    }
    replaced
}

/// Returns the places where two values differ, and how.
pub(super) fn differences(path: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(lefts), Value::Object(rights)) => {
            let names: BTreeSet<_> = lefts.keys().chain(rights.keys()).collect();
            let field = |name: &String| {
                let null = Value::Null;
                let (left, right) = (lefts.get(name).unwrap_or(&null), rights.get(name).unwrap_or(&null));
                let missing = (lefts.contains_key(name) != rights.contains_key(name)).then(|| format!("{path}/{name}"));
                missing.into_iter().chain(differences(&format!("{path}/{name}"), left, right)).collect::<Vec<_>>()
            };
            names.into_iter().flat_map(field).collect()
        }
        (Value::Array(lefts), Value::Array(rights)) if lefts.len() == rights.len() => {
            let pairs = lefts.iter().zip(rights).enumerate();
            pairs.flat_map(|(index, (left, right))| differences(&format!("{path}/{index}"), left, right)).collect()
        }
        (left, right) if left == right => Vec::new(),
        (left, right) => vec![format!("{path}: {left}, not {right}")],
    }
}
