//! What commands print: one JSON document with `--json`, else text for a person, without what a terminal obeys.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{Table, presets::NOTHING};
use p2p_taskqueue::{
    Json,
    api::{Task, write_answer, write_refusal},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    failure::Failure,
    foreign::{self, Foreign},
};

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
        if self.json { line(&ok(answer)) } else { person(&human()) }
    }

    /// Prints an answer, without `--json` as a result alone: to a terminal it is shown, to anything else given as it is.
    pub(crate) fn result<T: Serialize>(self, answer: &T, result: impl FnOnce() -> String) {
        if self.json {
            line(&ok(answer));
        } else {
            let result = result();
            print(&if io::stdout().is_terminal() { foreign::alone(&result) } else { Cow::Borrowed(&*result) });
        }
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
            complain(human);
        }
    }

    /// Prints a document as it is with `--json`, else the text.
    pub(crate) fn document(self, document: &Value, human: impl FnOnce() -> String) {
        if self.json { line(&document.to_string()) } else { person(&human()) }
    }

    /// Prints a step of something longer, for a person only.
    pub(crate) fn step(self, text: &str) {
        if !self.json {
            person(text);
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            line(&write_refusal(&failure.record()));
        }
        complain(&failure.to_string());
    }
}

/// The answer as MCP's tools write it.
fn ok<T: Serialize>(answer: &T) -> String {
    write_answer(answer).unwrap_or_else(|error| write_refusal(&error))
}

/// A line of JSON; on a terminal without what a terminal obeys.
fn line(text: &str) {
    print(&if io::stdout().is_terminal() { foreign::json(text) } else { Cow::Borrowed(text) });
}

/// Text for a person.
fn person(text: &str) {
    print(&foreign::lines(text));
}

/// A reader that has gone away, such as `head`, is no failure.
fn print(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

/// Says what is wrong, beside standard output.
fn complain(problem: &str) {
    // Nothing is left to be done about a standard error that is gone.
    drop(writeln!(io::stderr(), "taskmesh: {}", foreign::indented(problem, COMPLAINT_INDENT)));
}

/// A result as a script wants it: a string as its text, anything else as JSON.
pub(crate) fn result_text(result: Option<&Json>) -> String {
    result.map_or_else(String::new, |json| json.to::<String>().unwrap_or_else(|_| json.get().to_owned()))
}

/// Named values for a person, which may have several lines each.
pub(crate) fn record<'a>(width: usize, rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let indented = |value: String| foreign::indented(&value, width + 1);
    let text: Vec<_> = rows.into_iter().map(|(name, value)| format!("{name:<width$} {}", indented(value))).collect();
    text.join("\n")
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
    record(8, rows)
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

/// A table without rules; a cell is one line, whatever is in it.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    let rows = rows.map(|row| row.map(|cell| Foreign(cell).to_string()));
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

/// Behind the program's name: no further line begins where it does.
const COMPLAINT_INDENT: usize = 2;

/// What a table shows of a result: a line stays a line on a common terminal.
const NOTE_CHARS: usize = 48;
