//! Checks that a text that others wrote is harmless in every place that prints it.

use std::collections::BTreeMap;

use p2p_taskqueue::{
    Json, PeerId, TaskStatus,
    api::{
        DialOutcome, Discovered, Grants, Joined, Left, Method, Peer, QueueError, Role, SearchAttempt, Stats, Status,
        TaskRecord, ToolOffer, TransportStatus, TypeStats, WaitReason, WaitingFor, WorkerInfo, Workers, WorkersListed,
    },
};
use serde_json::{Value, json};

use super::{care, discover, members, mesh, tools, workers};
use crate::{
    failure::Failure,
    foreign::{self, tests::HOSTILE},
    names::Names,
    output::{task_text, tasks_table},
};

/// A text that would look like lines of this program if its lines began at the margin.
const FORGED: &str = "x\nstatus   completed\nforged\r\n\u{2028}forged";

fn task(hostile: &str) -> TaskRecord {
    let id = "00112233445566778899aabbccddeeff";
    let task = json!({
        "task_id": id, "task_type": hostile, "model_name": hostile, "payload": null, "status": "failed", "priority": 5,
        "attempt": 1, "max_attempts": 3, "created_at": 1.0, "updated_at": 1.0, "not_before": null, "deadline": null,
        "attempts": [{ "machine": PeerId::random().to_string(), "machine_name": hostile, "worker_id": hostile,
                       "started_at": 1.0, "error": hostile }],
        "assigned_worker": hostile, "lease_until": null, "progress": 0.5, "status_message": hostile, "result": hostile,
        "error": hostile, "labels": [hostile], "result_ttl_s": 1.0, "session": hostile, "dead": true,
        "owner": PeerId::random().to_string(), "submitter": hostile, "input_requests": { hostile: hostile },
    });
    serde_json::from_value(task).unwrap()
}

fn queued(hostile: &str) -> TaskRecord {
    let waiting_for = Some(WaitingFor::new(WaitReason::WorkerAbsent, hostile));
    TaskRecord { status: TaskStatus::Queued, waiting_for, ..task("t") }
}

/// Returns the table of a worker with the text in one place. In several, the columns would be cut.
fn worker(set: impl FnOnce(&mut WorkerInfo)) -> String {
    let mut worker = WorkerInfo {
        machine: "m".to_owned(),
        peer_id: PeerId::random(),
        worker_id: "w".to_owned(),
        connected: true,
        last_seen: None,
        takes: Vec::new(),
        labels: Vec::new(),
        session: None,
        slots: Some(1),
        busy: Some(0),
        since: 1.0,
    };
    set(&mut worker);
    let listed = WorkersListed { self_peer_id: PeerId::random(), workers: vec![worker] };
    workers::workers_text(&listed, &Workers::default())
}

fn no_worker(hostile: &str) -> String {
    let query = Workers { task_type: Some(hostile.to_owned()), label: Some(hostile.to_owned()), schemas: false };
    workers::workers_text(&WorkersListed { self_peer_id: PeerId::random(), workers: Vec::new() }, &query)
}

fn peer(hostile: &str) -> Peer {
    Peer {
        peer_id: PeerId::random(),
        name: Some(hostile.to_owned()),
        connected: false,
        addresses: Vec::new(),
        last_seen: None,
        version: Some(hostile.to_owned()),
        last_dial: Some(DialOutcome { at: 1.0, error: hostile.to_owned() }),
    }
}

fn status(hostile: &str) -> Status {
    let status = json!({
        "peer_id": PeerId::random().to_string(), "version": hostile, "mode": hostile, "p2p_runtime": hostile,
        "uptime_s": 1.0, "addresses": [], "capabilities": { "operations": [], "task_types": [hostile] },
        "queue": { "totals": { hostile: 1 }, "oldest_queued_s": null },
    });
    let refused = BTreeMap::from([(hostile.to_owned(), 1)]);
    let transport = TransportStatus { refused, ..TransportStatus::default() };
    Status {
        transport: Some(transport),
        peers: Some(vec![peer(hostile)]),
        ..serde_json::from_value::<Status>(status).unwrap()
    }
}

/// Returns everything that is printed for a person, as it is handed over for printing.
fn places(hostile: &str) -> Vec<(&'static str, String)> {
    let attempt = SearchAttempt {
        method: Method::Explicit,
        multiaddr: None,
        peer_id: None,
        ok: false,
        code: None,
        error: Some(hostile.to_owned()),
        started_s: 0.0,
        elapsed_s: 0.0,
    };
    let by_type = BTreeMap::from([(hostile.to_owned(), TypeStats { queued: 1, ..TypeStats::default() })]);
    let (name, description) = (hostile.to_owned(), hostile.to_owned());
    let offer = ToolOffer { name, description, input_schema: Json::default() };
    let joined = Joined {
        peer_id: PeerId::random(),
        name: hostile.to_owned(),
        role: Grants::of(Role::Member),
        connected: false,
        error: Some(hostile.to_owned()),
    };
    let failures = [
        Failure::Answer(QueueError::invalid("payload", hostile)),
        Failure::Configuration(anyhow::anyhow!("{hostile}")),
    ];
    let [answered, configured] = failures.map(|failure| foreign::indented(&failure.to_string(), 2));
    vec![
        ("a record", task_text(&task(hostile), &Names::default())),
        ("a table of records", tasks_table(&[task(hostile)])),
        ("stats", care::stats_text(&Stats { by_type, ..Stats::default() })),
        ("status", mesh::status_text(&status(hostile))),
        ("peers", mesh::peers_table(&[peer(hostile)])),
        ("the machine of a worker", worker(|worker| hostile.clone_into(&mut worker.machine))),
        ("the name of a worker", worker(|worker| hostile.clone_into(&mut worker.worker_id))),
        ("the types of a worker", worker(|worker| worker.takes.push(offer.clone()))),
        ("the labels of a worker", worker(|worker| worker.labels.push(hostile.to_owned()))),
        ("no worker", no_worker(hostile)),
        ("why a task waits", task_text(&queued(hostile), &Names::default())),
        ("why a task of a table waits", tasks_table(&[queued(hostile)])),
        ("why a called tool waits", tools::unfinished_text(&queued(hostile))),
        ("a join", members::joined_text(&joined)),
        ("a leave", members::left_text(&Left { told: Some(hostile.to_owned()) })),
        ("a search", discover::found_text(&Discovered { peers: vec![peer(hostile)], attempts: vec![attempt] })),
        ("tools", tools::tools_table(&[offer])),
        ("a call", tools::unfinished_text(&task(hostile))),
        ("an error", answered),
        ("a mistake", configured),
    ]
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed() {
    for (hostile, shown) in HOSTILE {
        for (place, text) in places(hostile) {
            let text = foreign::lines(&text);
            assert!(
                !text.contains(|char: char| char.is_control() && char != '\n' && char != '\t'),
                "{place}: {text:?}"
            );
            assert!(!text.contains(['\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}', '\u{202a}']), "{place}: {text:?}");
            let first = shown.split("\\n").next().unwrap();
            assert!(text.contains(first), "{place} shows {first}: {text}");
        }
    }
}

#[test]
fn no_text_of_others_looks_like_a_line_of_the_programs_own() {
    for (place, text) in places(FORGED) {
        let forged: Vec<_> =
            text.lines().filter(|line| line.starts_with("forged") || line.starts_with("status   completed")).collect();
        assert!(forged.is_empty(), "{place}: {text}");
    }
    // A table has a line for each row.
    assert_eq!(tasks_table(&[task(FORGED), task(FORGED)]).lines().count(), 3);
    assert_eq!(worker(|worker| FORGED.clone_into(&mut worker.machine)).lines().count(), 2);
    let value: Value = serde_json::from_str(&foreign::json(&json!({ "a": FORGED }).to_string())).unwrap();
    assert_eq!(value["a"], FORGED);
}
