//! The output of commands: one JSON document with `--json`, otherwise text for a person, with control characters
//! escaped.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{Table, presets::NOTHING};
use p2p_taskqueue::{
    Json,
    api::{Attempt, TaskRecord, span_text, write_answer, write_refusal},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    failure::Failure,
    foreign::{self, Foreign},
    names::Names,
};

/// The form in which a command answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the answer is printed as a JSON document.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints an answer: with `--json` as `{"ok":true, …}`, otherwise as the text that `human` returns.
    pub(crate) fn answer<T: Serialize>(self, answer: &T, human: impl FnOnce() -> String) {
        if self.json { line(&ok(answer)) } else { person(&human()) }
    }

    /// Prints an answer: with `--json` as a document, otherwise the result alone. On a terminal the result is escaped;
    /// anywhere else it is printed unchanged.
    pub(crate) fn result<T: Serialize>(self, answer: &T, result: impl FnOnce() -> String) {
        if self.json {
            line(&ok(answer));
        } else {
            let result = result();
            print(&if io::stdout().is_terminal() { foreign::alone(&result) } else { Cow::Borrowed(&*result) });
        }
    }

    /// Prints an answer with `--json`, otherwise nothing.
    pub(crate) fn quiet<T: Serialize>(self, answer: &T) {
        if self.json {
            line(&ok(answer));
        }
    }

    /// Says that the thing that was asked for does not exist: with `--json` by the answer, otherwise on standard error,
    /// and standard output stays empty.
    pub(crate) fn absent<T: Serialize>(self, answer: &T, human: &str) {
        if self.json {
            line(&ok(answer));
        } else {
            complain(human);
        }
    }

    /// Prints a document unchanged with `--json`, otherwise the text.
    pub(crate) fn document(self, document: &Value, human: impl FnOnce() -> String) {
        if self.json { line(&document.to_string()) } else { person(&human()) }
    }

    /// Prints a step of a longer command, for a person only.
    pub(crate) fn step(self, text: &str) {
        if !self.json {
            person(text);
        }
    }

    /// Says in one line on standard error what is good to know beside the answer.
    pub(crate) fn note(text: &str) {
        complain(&Foreign(text).to_string());
    }

    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            line(&write_refusal(&failure.record()));
        }
        complain(&failure.to_string());
    }
}

/// Returns the answer in the form that the MCP tools give it.
fn ok<T: Serialize>(answer: &T) -> String {
    write_answer(answer).unwrap_or_else(|error| write_refusal(&error))
}

/// Prints a line of JSON, escaped on a terminal.
fn line(text: &str) {
    print(&if io::stdout().is_terminal() { foreign::json(text) } else { Cow::Borrowed(text) });
}

/// Prints a text for a person.
fn person(text: &str) {
    print(&foreign::lines(text));
}

/// Prints a line. It is no failure when the reader, such as `head`, has gone away.
fn print(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

/// Prints a problem on standard error.
fn complain(problem: &str) {
    // Nothing can be done when standard error is gone.
    drop(writeln!(io::stderr(), "taskmesh: {}", foreign::indented(problem, COMPLAINT_INDENT)));
}

/// Returns a result in the form for scripts: a string as its text, anything else as JSON.
pub(crate) fn result_text(result: Option<&Json>) -> String {
    result.map_or_else(String::new, |json| json.to::<String>().unwrap_or_else(|_| json.get().to_owned()))
}

/// Returns named values for a person. A value may have several lines.
pub(crate) fn record<'a>(width: usize, rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let indented = |value: String| foreign::indented(&value, width + 1);
    let text: Vec<_> = rows.into_iter().map(|(name, value)| format!("{name:<width$} {}", indented(value))).collect();
    text.join("\n")
}

/// Returns the text of a record for a person.
pub(crate) fn task_text(task: &TaskRecord, names: &Names) -> String {
    let mut rows = vec![
        ("task", task.task_id.to_string()),
        ("type", task.task_type.clone()),
        ("status", if task.dead { format!("{} (dead)", task.status) } else { task.status.to_string() }),
        ("attempt", attempts(task)),
        ("created", ago(task.created_at)),
        ("updated", ago(task.updated_at)),
        ("owner", names.show(&task.owner)),
    ];
    rows.extend(task.waiting_for.as_ref().map(|waiting| ("waiting", waiting.message.clone())));
    rows.extend(task.submitted_by.map(|machine| ("from", names.show(&machine))));
    rows.extend((!task.requires.is_empty()).then(|| ("requires", task.requires.join(", "))));
    rows.extend(task.pin_to.map(|machine| ("pinned to", names.show(&machine))));
    let after: Vec<_> = task.after.iter().map(ToString::to_string).collect();
    rows.extend((!after.is_empty()).then(|| ("after", after.join(" "))));
    rows.extend(task.assigned_worker.clone().map(|worker| ("worker", worker)));
    rows.extend(task.submitter.clone().map(|submitter| ("for", submitter)));
    rows.extend(task.progress.map(|progress| ("progress", format!("{:.0} %", progress * 100.0))));
    rows.extend(task.status_message.clone().map(|message| ("message", message)));
    rows.extend(task.input_requests.iter().map(|(key, request)| ("asks", format!("{key}: {}", request.get()))));
    rows.extend(task.error.clone().map(|error| ("error", error)));
    rows.extend(task.result.as_ref().map(|result| ("result", result_text(Some(result)))));
    rows.extend(task.attempts.iter().map(|attempt| ("ran", attempt_text(attempt, names))));
    record(9, rows)
}

/// Returns one line about an attempt: where it ran, how long, and how it ended.
fn attempt_text(attempt: &Attempt, names: &Names) -> String {
    let Attempt { machine, machine_name, worker_id, started_at, ended_at, outcome, error } = attempt;
    // A machine that has left the mesh has no name there any more.
    let machine = machine_name.clone().unwrap_or_else(|| names.show(machine));
    let outcome = outcome.and_then(|outcome| serde_json::to_value(outcome).ok());
    let outcome =
        outcome.as_ref().and_then(Value::as_str).map_or_else(|| "running".to_owned(), |one| one.replace('_', " "));
    let spent = ended_at.map(|ended| format!(" after {}", span((ended - started_at).max(0.0)))).unwrap_or_default();
    let error = error.as_ref().map(|error| format!(": {}", first_line(error))).unwrap_or_default();
    format!("on {} ({worker_id}), {}: {outcome}{spent}{error}", Foreign(machine), ago(*started_at))
}

/// Returns the records as a table for a person.
pub(crate) fn tasks_table(tasks: &[TaskRecord]) -> String {
    if tasks.is_empty() {
        return "no tasks".to_owned();
    }
    let rows = tasks.iter().map(|task| {
        // A task that waits for another attempt has the error of the one before as well.
        let waiting = task.waiting_for.as_ref().map(|waiting| waiting.message.clone());
        let note = waiting.or_else(|| task.error.clone()).unwrap_or_else(|| result_text(task.result.as_ref()));
        [
            task.task_id.to_string(),
            task.task_type.clone(),
            task.status.to_string(),
            attempts(task),
            ago(task.created_at),
            first_line(&note),
        ]
    });
    table(["TASK", "TYPE", "STATUS", "ATTEMPT", "CREATED", "NOTE"], rows)
}

/// Returns a table without rules. A cell is one line, whatever it contains.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    let rows = rows.map(|row| row.map(|cell| Foreign(cell).to_string()));
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    let text = table.to_string();
    let lines: Vec<_> = text.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n")
}

/// Returns how long ago a moment was, given in Unix seconds.
pub(crate) fn ago(unix_s: f64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    format!("{} ago", span((now - unix_s).max(0.0)))
}

/// Returns a span of time in a suitable unit.
pub(crate) fn span(seconds: f64) -> String {
    // Tenths of a second are not of interest in a table.
    if seconds < 10.0 { format!("{seconds:.0} s") } else { span_text(seconds) }
}

fn attempts(task: &TaskRecord) -> String {
    if task.max_attempts == 0 { task.attempt.to_string() } else { format!("{}/{}", task.attempt, task.max_attempts) }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(NOTE_CHARS).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// The indent of the further lines of a problem, so that none of them begins where the program's name does.
const COMPLAINT_INDENT: usize = 2;

/// The most characters of a result or an error in a table, so that a row fits on a line of a common terminal.
const NOTE_CHARS: usize = 48;

#[cfg(test)]
mod tests {
    use p2p_taskqueue::{
        PeerId, TaskStatus,
        api::{WaitReason, WaitingFor},
    };
    use serde_json::json;

    use super::*;

    fn task(attempt: &Value) -> TaskRecord {
        let task = json!({
            "task_id": "00112233445566778899aabbccddeeff", "task_type": "render", "status": "queued", "priority": 5,
            "attempt": 1, "max_attempts": 3, "created_at": 1.0, "updated_at": 1.0, "error": "no such model",
            "owner": PeerId::random().to_string(), "attempts": [attempt],
        });
        let waiting_for = Some(WaitingFor::new(WaitReason::Backoff, "the next attempt is in 4.0 s"));
        TaskRecord { waiting_for, ..serde_json::from_value(task).unwrap() }
    }

    #[test]
    fn a_queued_task_shows_what_it_waits_for_and_an_ended_one_its_error() {
        let queued = task(&json!({ "machine": PeerId::random().to_string(), "worker_id": "w", "started_at": 1.0 }));
        let text = task_text(&queued, &Names::default());
        assert!(text.contains("\nwaiting   the next attempt is in 4.0 s\n"), "{text}");
        let table = tasks_table(std::slice::from_ref(&queued));
        assert!(table.ends_with("  the next attempt is in 4.0 s"), "{table}");
        let failed = TaskRecord { status: TaskStatus::Failed, waiting_for: None, ..queued };
        assert!(!task_text(&failed, &Names::default()).contains("waiting"));
        assert!(tasks_table(&[failed]).ends_with("  no such model"));
    }

    #[test]
    fn an_attempt_names_its_machine_and_without_a_name_its_id() {
        let machine = PeerId::random().to_string();
        let named = json!({ "machine": machine, "machine_name": "gpu-box", "worker_id": "w", "started_at": 1.0 });
        let text = task_text(&task(&named), &Names::default());
        assert!(text.contains("ran       on gpu-box (w), "), "{text}");
        let unnamed = json!({ "machine": machine, "worker_id": "w", "started_at": 1.0 });
        let text = task_text(&task(&unnamed), &Names::default());
        assert!(text.contains(&format!("ran       on {machine} (w), ")), "{text}");
    }
}
