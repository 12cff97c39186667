//! What commands print: one JSON document with `--json`, else text for a person.

use std::io::{self, Write as _};

use comfy_table::{Table, presets::NOTHING};
use p2p_taskqueue::{
    Json, Task,
    api::{write_answer, write_refusal},
};
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// Where and in which form a command answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints an answer: as `{"ok":true, …}`, or as the text that `human` makes of it.
    pub(crate) fn answer<T: Serialize>(self, answer: &T, human: impl FnOnce() -> String) {
        if self.json { line(&ok(answer)) } else { line(&human()) }
    }

    /// Prints an answer with `--json`, else nothing.
    pub(crate) fn quiet<T: Serialize>(self, answer: &T) {
        if self.json {
            line(&ok(answer));
        }
    }

    /// Says that what was asked for is not there: with `--json` by the answer, else beside standard output, where nothing
    /// stands then.
    pub(crate) fn absent<T: Serialize>(self, answer: &T, human: &str) {
        if self.json {
            line(&ok(answer));
        } else {
            drop(writeln!(io::stderr(), "taskmesh: {human}"));
        }
    }

    /// Prints a document as it is with `--json`, else the text.
    pub(crate) fn document(self, document: &Value, human: impl FnOnce() -> String) {
        if self.json { line(&document.to_string()) } else { line(&human()) }
    }

    /// Prints a step of something longer, for a person only.
    pub(crate) fn step(self, text: &str) {
        if !self.json {
            line(text);
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            line(&write_refusal(&failure.record()));
        }
        // Nothing is left to be done about a standard error that is gone.
        drop(writeln!(io::stderr(), "taskmesh: {failure}"));
    }
}

/// The answer as MCP's tools write it.
fn ok<T: Serialize>(answer: &T) -> String {
    write_answer(answer).unwrap_or_else(|error| write_refusal(&error))
}

/// A reader that has gone away, such as `head`, is no failure.
fn line(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

/// A result as a script wants it: a string as its text, anything else as JSON.
pub(crate) fn result_text(result: Option<&Json>) -> String {
    result.map_or_else(String::new, |json| json.to::<String>().unwrap_or_else(|_| json.get().to_owned()))
}

/// A record for a person.
pub(crate) fn task_text(task: &Task) -> String {
    let mut rows = vec![
        ("task", task.task_id.to_string()),
        ("type", task.task_type.clone()),
        ("status", if task.dead { format!("{} (dead)", task.status) } else { task.status.to_string() }),
        ("attempt", attempts(task)),
        ("created", ago(task.created_at)),
        ("updated", ago(task.updated_at)),
        ("owner", task.owner.to_string()),
    ];
    let after: Vec<_> = task.after.iter().map(ToString::to_string).collect();
    rows.extend((!after.is_empty()).then(|| ("after", after.join(" "))));
    rows.extend(task.assigned_worker.clone().map(|worker| ("worker", worker)));
    rows.extend(task.submitter.clone().map(|submitter| ("for", submitter)));
    rows.extend(task.progress.map(|progress| ("progress", format!("{:.0} %", progress * 100.0))));
    rows.extend(task.status_message.clone().map(|message| ("message", message)));
    rows.extend(task.input_requests.iter().map(|(key, request)| ("asks", format!("{key}: {}", request.get()))));
    rows.extend(task.error.clone().map(|error| ("error", error)));
    rows.extend(task.result.as_ref().map(|result| ("result", result_text(Some(result)))));
    let text: Vec<_> = rows.into_iter().map(|(name, value)| format!("{name:<8} {value}")).collect();
    text.join("\n")
}

/// Records as a table for a person.
pub(crate) fn tasks_table(tasks: &[Task]) -> String {
    if tasks.is_empty() {
        return "no tasks".to_owned();
    }
    let rows = tasks.iter().map(|task| {
        let note = task.error.clone().unwrap_or_else(|| result_text(task.result.as_ref()));
        [
            task.task_id.to_string(),
            task.task_type.clone(),
            task.status.to_string(),
            attempts(task),
            ago(task.created_at),
            first_line(&note),
        ]
    });
    table(["TASK", "TYPE", "STATUS", "ATTEMPT", "CREATED", "RESULT OR ERROR"], rows)
}

/// A table without rules.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    let text = table.to_string();
    let lines: Vec<_> = text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n")
}

/// How long ago a point in time was.
pub(crate) fn ago(unix_s: f64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    format!("{} ago", span((now - unix_s).max(0.0)))
}

/// A span of time in its largest unit.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

fn attempts(task: &Task) -> String {
    if task.max_attempts == 0 { task.attempt.to_string() } else { format!("{}/{}", task.attempt, task.max_attempts) }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(NOTE_CHARS).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// What a table shows of a result: a line stays a line on a common terminal.
const NOTE_CHARS: usize = 48;
