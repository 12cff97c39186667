//! `workers`.

use std::process::ExitCode;

use clap::Args;
use p2p_taskqueue::{
    PeerId,
    api::{WorkerInfo, Workers, WorkersListed},
};

use super::PeerArg;
use crate::{
    client::with_client,
    data_dir::DataDir,
    failure::Failure,
    foreign::Foreign,
    output::{Output, ago, table},
};

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct WorkersArgs {
    /// Only workers that take tasks of this type. The table then names it first.
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<String>,
    /// Only workers with this label, which a task can require (`taskmesh submit --require`).
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    #[command(flatten)]
    peer: PeerArg,
}

pub(super) fn run(args: WorkersArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let WorkersArgs { task_type, label, peer } = args;
    let query = Workers { task_type, label, schemas: output.is_json() };
    let asked = query.clone();
    let listed = with_client(data_dir, peer.peer, async move |client| client.ask(asked).await)?;
    output.answer(&listed, || workers_text(&listed, &query));
    Ok(ExitCode::SUCCESS)
}

/// Returns the workers as a table of at most [`COLUMNS`] characters a line, or what to do when there are none.
pub(super) fn workers_text(listed: &WorkersListed, query: &Workers) -> String {
    if listed.workers.is_empty() {
        return none_text(query);
    }
    let wanted = query.task_type.as_deref();
    let rows: Vec<Row> = listed.workers.iter().map(|worker| Row::of(worker, listed.self_peer_id, wanted)).collect();
    let widths = widths(&rows);
    let rows = rows.iter().map(|row| row.cells(widths));
    table(HEADER, rows)
}

fn none_text(query: &Workers) -> String {
    let takes = query.task_type.as_ref().map(|task_type| format!("takes '{}'", Foreign(task_type)));
    let has = query.label.as_ref().map(|label| format!("has the label '{}'", Foreign(label)));
    let asked: Vec<String> = takes.into_iter().chain(has).collect();
    if asked.is_empty() {
        return "no workers: start one with `taskmesh serve --worker TYPE=COMMAND`, on this machine or another one of \
                the mesh"
            .to_owned();
    }
    format!("no worker {}: `taskmesh workers` shows all that are known", asked.join(" and "))
}

/// What is shown of a worker, with every text of others escaped.
struct Row {
    machine: String,
    worker: String,
    takes: Vec<String>,
    labels: Vec<String>,
    busy: String,
    state: String,
}

impl Row {
    fn of(worker: &WorkerInfo, own: PeerId, wanted: Option<&str>) -> Self {
        let mut takes: Vec<&str> = worker.takes.iter().map(|tool| tool.name.as_str()).collect();
        // The type that was asked for is never among those that are cut.
        takes.sort_by_key(|name| Some(*name) != wanted);
        let mut takes: Vec<String> = takes.into_iter().map(|name| Foreign(name).to_string()).collect();
        if takes.is_empty() {
            takes.push("any".to_owned());
        }
        let mut labels: Vec<String> = worker.labels.iter().map(|label| Foreign(label).to_string()).collect();
        if labels.is_empty() {
            labels.push("-".to_owned());
        }
        Self {
            machine: Foreign(&worker.machine).to_string(),
            worker: Foreign(&worker.worker_id).to_string(),
            takes,
            labels,
            busy: match (worker.busy, worker.slots) {
                (Some(busy), Some(slots)) => format!("{busy}/{slots}"),
                _ => "-".to_owned(),
            },
            state: state(worker, own),
        }
    }

    /// Returns the widths that the cells have if nothing is cut.
    fn natural(&self) -> [usize; CUT] {
        [chars(&self.machine), chars(&self.worker), chars(&self.takes.join(", ")), chars(&self.labels.join(", "))]
    }

    fn cells(&self, [machine, worker, takes, labels]: [usize; CUT]) -> [String; HEADER.len()] {
        [
            cut(&self.machine, machine),
            cut(&self.worker, worker),
            cut_list(&self.takes, takes),
            cut_list(&self.labels, labels),
            self.busy.clone(),
            self.state.clone(),
        ]
    }
}

/// Returns whether the worker is there, or since when it is not.
fn state(worker: &WorkerInfo, own: PeerId) -> String {
    match (worker.connected, worker.last_seen) {
        (true, _) => "here".to_owned(),
        // The machine that answers is there, so the worker itself has stopped.
        (false, Some(at)) if worker.peer_id == own => format!("stopped {}", ago(at)),
        (false, Some(at)) => format!("last seen {}", ago(at)),
        (false, None) => "stopped".to_owned(),
    }
}

/// Returns the widths of the columns that may be cut, so that every row fits. The widest column gives way first.
fn widths(rows: &[Row]) -> [usize; CUT] {
    let headers = HEADER.map(chars);
    let [machine, worker, takes, labels, busy, state] = headers;
    let longest = |header: usize, length: fn(&Row) -> usize| rows.iter().map(length).fold(header, usize::max);
    let fixed = longest(busy, |row| chars(&row.busy)) + longest(state, |row| chars(&row.state));
    let room = COLUMNS.saturating_sub(fixed + GAP * (HEADER.len() - 1));
    let least = [machine, worker, takes, labels];
    let mut widths = least;
    for row in rows {
        for (width, natural) in widths.iter_mut().zip(row.natural()) {
            *width = natural.min(room).max(*width);
        }
    }
    while widths.iter().sum::<usize>() > room {
        let above_least = widths.iter_mut().zip(least).filter(|(width, least)| **width > *least);
        let Some((widest, _)) = above_least.max_by_key(|(width, _)| **width) else { break };
        *widest -= 1;
    }
    widths
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, width: usize) -> String {
    if chars(text) <= width {
        return text.to_owned();
    }
    let shown: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{shown}…")
}

/// Returns as many of the names as fit, and how many more there are.
fn cut_list(names: &[String], width: usize) -> String {
    let more = |shown: usize| match names.len() - shown {
        0 => String::new(),
        left => format!(" and {left} more"),
    };
    let mut text = String::new();
    let mut best = None;
    for (at, name) in names.iter().enumerate() {
        text += if at == 0 { "" } else { ", " };
        text += name;
        if chars(&text) > width {
            break;
        }
        let whole = format!("{text}{}", more(at + 1));
        if chars(&whole) <= width {
            best = Some(whole);
        }
    }
    let (first, rest) = (names.first().map_or("", String::as_str), more(1.min(names.len())));
    best.unwrap_or_else(|| match width.saturating_sub(chars(&rest)) {
        // There is no room for a part of the first name.
        0 | 1 => cut(&format!("{first}{rest}"), width),
        room => cut(first, room) + &rest,
    })
}

const AFTER_HELP: &str = "\
BUSY is how many tasks a worker runs now, of how many it runs at a time; `-` is a worker that does not say it. A worker \
of a machine that is away stays in the list, with when it was last seen. A list that is too long for the table ends with \
how many more there are; --json has everything, with the description and the JSON Schema of each type.

Examples:
  taskmesh workers --type render     # who could take a task of this type
  taskmesh workers --label gpu       # who has what `submit --require gpu` asks for";

const HEADER: [&str; 6] = ["MACHINE", "WORKER", "TAKES", "LABELS", "BUSY", "STATE"];

/// How many of the columns may be cut: the first ones.
const CUT: usize = 4;

/// The characters of a line, as many as a common terminal shows.
const COLUMNS: usize = 80;

/// The spaces between two columns.
const GAP: usize = 2;

#[cfg(test)]
mod tests {
    use p2p_taskqueue::{Json, api::ToolOffer};

    use super::*;

    fn worker(machine: &str, takes: &[&str], labels: &[&str]) -> WorkerInfo {
        let offer = |name: &&str| ToolOffer {
            name: (*name).to_owned(),
            description: String::new(),
            input_schema: Json::default(),
        };
        WorkerInfo {
            machine: machine.to_owned(),
            peer_id: PeerId::random(),
            worker_id: "worker".to_owned(),
            connected: true,
            last_seen: None,
            takes: takes.iter().map(offer).collect(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            session: None,
            slots: Some(2),
            busy: Some(1),
            since: 1.0,
        }
    }

    fn columns(line: &str) -> Vec<String> {
        line.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().to_owned()).collect()
    }

    fn shown(workers: &[WorkerInfo], query: &Workers) -> Vec<Vec<String>> {
        let listed = WorkersListed { self_peer_id: PeerId::random(), workers: workers.to_vec() };
        let text = workers_text(&listed, query);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        text.lines().skip(1).map(columns).collect()
    }

    #[test]
    fn a_worker_is_a_row_with_what_it_takes_and_how_busy_it_is() {
        let unknown = WorkerInfo { slots: None, busy: None, ..worker("laptop", &[], &[]) };
        let rows = shown(&[worker("gpu-box", &["render", "ocr"], &["gpu"]), unknown], &Workers::default());
        assert_eq!(rows[0], ["gpu-box", "worker", "render, ocr", "gpu", "1/2", "here"]);
        assert_eq!(rows[1], ["laptop", "worker", "any", "-", "-", "here"]);
    }

    #[test]
    fn a_worker_that_is_not_there_says_since_when() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let away = WorkerInfo { connected: false, last_seen: Some(now - 301.0), ..worker("a", &[], &[]) };
        assert_eq!(state(&away, PeerId::random()), "last seen 5 min ago");
        assert_eq!(state(&away, away.peer_id), "stopped 5 min ago");
        assert_eq!(state(&WorkerInfo { last_seen: None, ..away }, PeerId::random()), "stopped");
    }

    #[test]
    fn what_is_long_is_cut_so_that_a_row_fits_and_the_rest_is_counted() {
        let names: Vec<String> = (0..256).map(|number| format!("type-{number:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let long = "a-machine-with-the-longest-name-that-a-machine-can-have-63-bytes";
        let now = 1.0;
        let away = WorkerInfo {
            connected: false,
            last_seen: Some(now),
            slots: Some(u32::MAX),
            busy: Some(u32::MAX),
            ..worker(long, &names, &["x".repeat(256).as_str(); 32])
        };
        let rows = shown(&[away, worker("b", &names, &[])], &Workers::default());
        assert!(rows[0][0].starts_with("a-mach") && rows[0][0].ends_with('…'), "{rows:?}");
        let rows = shown(&[worker("b", &names, &[])], &Workers::default());
        assert_eq!(rows[0][2], "type-000, type-001, type-002 and 253 more", "{rows:?}");
        let asked = Workers { task_type: Some("type-200".to_owned()), ..Workers::default() };
        let rows = shown(&[worker("b", &names, &[])], &asked);
        assert!(rows[0][2].starts_with("type-200, "), "{rows:?}");
    }

    #[test]
    fn a_list_shows_as_much_as_fits() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cut_list(&names("one two three"), 15), "one, two, three");
        assert_eq!(cut_list(&names("one two three"), 14), "one and 2 more");
        assert_eq!(cut_list(&names("one two three"), 13), "o… and 2 more");
        assert_eq!(cut_list(&names("one two three"), 6), "one a…");
        assert_eq!(cut_list(&names("one two three four"), 19), "one, two and 2 more");
        assert_eq!(cut_list(&names("a-long-name"), 6), "a-lon…");
        assert_eq!(cut_list(&[], 6), "");
    }

    #[test]
    fn without_a_worker_it_is_said_what_to_do() {
        let text = |task_type: Option<&str>, label: Option<&str>| {
            let query =
                Workers { task_type: task_type.map(str::to_owned), label: label.map(str::to_owned), schemas: false };
            workers_text(&WorkersListed { self_peer_id: PeerId::random(), workers: Vec::new() }, &query)
        };
        assert!(text(None, None).contains("taskmesh serve --worker"), "{}", text(None, None));
        let both = text(Some("render\n"), Some("gpu"));
        assert!(both.starts_with("no worker takes 'render\\n' and has the label 'gpu'"), "{both}");
        assert!(text(None, Some("gpu")).starts_with("no worker has the label"));
    }
}
