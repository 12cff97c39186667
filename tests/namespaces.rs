//! Hosts with their own addresses on a separate network: they find each other by mDNS, are parted, and meet again.

use std::{fmt::Display, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gate, Lan, Node, at, until_within};

/// The longest wait for a partition to be noticed or to end. A session notices a silent end within half a minute; then
/// come redials.
const PARTED: Duration = Duration::from_secs(120);

pub(crate) fn on_host(lan: &Lan, host: u8, folder: TempDir, arguments: &[&str]) -> Result<Node> {
    Node::start_on(folder, Some(lan.host(host)), &[&["--lan"], arguments].concat())
}

pub(crate) fn knows(node: &Node, other: &Node, connected: bool) -> Result<()> {
    let them = other.peer_id()?;
    let what = format!("{them} should be connected: {connected}");
    let is_so = || Ok(node.ask(&["peers", "--connected"])?.to_string().contains(&them) == connected);
    until(node, what, is_so)
}

/// Polls until the condition holds. On failure the error tells what the node says of its connections.
fn until(node: &Node, what: impl Display, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    until_within(PARTED, what, || Ok(is_so()?.then_some(()))).with_context(|| {
        let status =
            node.ask(&["status", "--detail"]).map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("the node says: {status}")
    })
}

fn id(submitted: &Value) -> Result<String> {
    Ok(at(submitted, "/task_id").as_str().context("no id")?.to_owned())
}

#[test]
fn hosts_of_one_mesh_find_each_other_by_mdns_and_a_stranger_stays_outside() -> Result<()> {
    let Some(lan) = Lan::new(3)? else { return Ok(()) };
    let owner = on_host(&lan, 1, tempfile::tempdir()?, &[])?;
    let addresses = owner.ready("addresses")?.to_string();
    for address in ["/ip4/10.77.0.1/tcp/9710/", "/ip4/10.77.0.1/udp/9710/quic-v1/"] {
        assert!(addresses.contains(address), "{addresses}");
    }
    let worker = on_host(&lan, 2, owner.guest_folder()?, &["--worker", "wordcount=wc -w"])?;
    knows(&owner, &worker, true)?;
    let counted = owner.run(&["submit", "wordcount", "--text", "a b c", "--wait"])?;
    assert_eq!(counted.stdout, "3\n", "{counted:?}");

    // The stranger sees the nodes and is seen by them, but they refuse it.
    let stranger = on_host(&lan, 3, tempfile::tempdir()?, &[])?;
    let found = stranger.ask(&["discover", "--method", "mdns", "--timeout", "20", "--limit", "2"])?;
    let attempts = found["attempts"].as_array().context("no attempts")?;
    let outcomes: Vec<_> = attempts.iter().map(|attempt| &attempt["code"]).collect();
    assert_eq!(outcomes, [&json!("unauthorized"), &json!("unauthorized")], "{found}");
    assert_eq!(found["peers"], json!([]), "{found}");
    assert_eq!(stranger.ask(&["peers", "--connected"])?["peers"], json!([]));
    let peers = owner.ask(&["peers", "--connected"])?;
    assert!(!peers.to_string().contains(&stranger.peer_id()?), "{peers}");
    Ok(())
}

#[test]
fn a_second_node_of_a_host_takes_free_ports_and_is_found() -> Result<()> {
    let Some(lan) = Lan::new(1)? else { return Ok(()) };
    let first = on_host(&lan, 1, tempfile::tempdir()?, &[])?;
    let second = on_host(&lan, 1, first.guest_folder()?, &[])?;
    let addresses = second.ready("addresses")?.to_string();
    assert!(!addresses.contains("/9710/"), "{addresses}");
    assert!(addresses.contains("/tcp/") && addresses.contains("/quic-v1/"), "{addresses}");
    knows(&first, &second, true)
}

#[test]
fn a_host_that_starts_while_its_cable_is_out_is_found_when_it_is_in() -> Result<()> {
    let Some(lan) = Lan::new(2)? else { return Ok(()) };
    let owner = on_host(&lan, 1, tempfile::tempdir()?, &[])?;
    lan.set_cable(2, false)?;
    let other = on_host(&lan, 2, owner.guest_folder()?, &[])?;
    let found = other.ask(&["discover", &owner.peer_id()?, "--timeout", "1"]);
    assert!(found.is_err(), "nothing can be found yet: {found:?}");
    lan.set_cable(2, true)?;
    knows(&other, &owner, true)
}

/// The hosts are parted until the lease has expired: in both directions, and in each direction alone. The three cases
/// run at the same time, because each takes a minute.
#[test]
fn work_goes_on_after_a_partition_and_nothing_is_lost() -> Result<()> {
    let Some(lan) = Lan::new(2)? else { return Ok(()) };
    let (deaf_owner, deaf_worker) = (Lan::new(2)?.context("no second network")?, Lan::new(2)?.context("no third one")?);
    thread::scope(|scope| {
        let cases = [
            scope.spawn(|| part_and_heal(&lan, |is_parted| lan.set_cable(2, !is_parted)).context("parted")),
            scope.spawn(|| {
                part_and_heal(&deaf_owner, |is_parted| deaf_owner.set_deaf(1, 2, is_parted)).context("deaf owner")
            }),
            scope.spawn(|| {
                part_and_heal(&deaf_worker, |is_parted| deaf_worker.set_deaf(2, 1, is_parted)).context("deaf worker")
            }),
        ];
        cases.into_iter().try_for_each(|case| case.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Parts the hosts while one task is under way, until its lease has expired, and then lets them meet again. Other tasks
/// are submitted meanwhile.
fn part_and_heal(lan: &Lan, set_parted: impl Fn(bool) -> Result<()>) -> Result<()> {
    let job = Job::start(lan)?;
    let Job { owner, worker, end, .. } = &job;
    let held = job.submit("held", "first")?;
    job.begun.written()?;
    set_parted(true)?;
    knows(owner, worker, false)?;
    knows(worker, owner, false)?;
    until(owner, "the lease ends", || Ok(at(&owner.ask(&["get", &held])?, "/task/status") != "running"))?;
    let mut quick: Vec<_> = (0..5).map(|number| job.submit("quick", &number.to_string())).collect::<Result<_>>()?;
    end.write("a late result")?;
    set_parted(false)?;
    quick.push(job.submit("quick", "5")?);

    for (number, id) in quick.iter().enumerate() {
        let task = job.completed(id)?;
        assert_eq!((at(&task, "/result"), at(&task, "/attempt")), (&json!(number), &json!(1)), "{task}");
        assert_eq!(job.runs(id)?, 1, "{task}");
    }
    // The first attempt had lost its lease, so its result does not count; and there is no third attempt.
    let task = job.completed(&held)?;
    assert_eq!((at(&task, "/result"), at(&task, "/attempt")), (&json!("second run"), &json!(2)), "{task}");
    assert_eq!(job.runs(&held)?, 2);
    Ok(())
}

/// The task ends while the cable is unplugged, for less time than a lease lasts.
#[test]
fn a_result_that_is_ready_during_a_short_break_arrives_after_it_and_nothing_runs_twice() -> Result<()> {
    let Some(lan) = Lan::new(2)? else { return Ok(()) };
    let job = Job::start(&lan)?;
    let held = job.submit("held", "first")?;
    job.begun.written()?;
    lan.set_cable(2, false)?;
    let quick = job.submit("quick", "1")?;
    job.end.write("in time")?;
    lan.set_cable(2, true)?;
    for (id, result) in [(&held, json!("in time")), (&quick, json!(1))] {
        let task = job.completed(id)?;
        assert_eq!((at(&task, "/result"), at(&task, "/attempt")), (&result, &json!(1)), "{task}");
        assert_eq!(job.runs(id)?, 1, "{task}");
    }
    Ok(())
}

/// An owner on the first host and a worker on the second one, whose runs leave marks.
struct Job {
    owner: Node,
    worker: Node,
    /// The gates of the first run of a held task: it opens `begun` when it has begun, and ends with the text written to
    /// `end`.
    begun: Gate,
    end: Gate,
    marks: TempDir,
}

impl Job {
    fn start(lan: &Lan) -> Result<Self> {
        let (begun, end, marks) = (Gate::new()?, Gate::new()?, tempfile::tempdir()?);
        let mark = format!("echo run >> {}/$TASKMESH_TASK_ID", marks.path().display());
        let first = marks.path().join("first");
        let held = format!(
            "held=sh -c '{mark}; if [ -e {first} ]; then echo second run; \
             else touch {first}; echo > {begun}; cat {end}; fi'",
            first = first.display(),
            begun = begun.path().display(),
            end = end.path().display()
        );
        let quick = format!("quick=sh -c '{mark}; cat'");
        let owner = on_host(lan, 1, tempfile::tempdir()?, &[])?;
        let worker = on_host(lan, 2, owner.guest_folder()?, &["--worker", &held, "--worker", &quick])?;
        knows(&owner, &worker, true)?;
        Ok(Self { owner, worker, begun, end, marks })
    }

    fn submit(&self, task_type: &str, text: &str) -> Result<String> {
        id(&self.owner.ask(&["submit", task_type, "--text", text])?)
    }

    fn completed(&self, id: &str) -> Result<Value> {
        let task = at(&self.owner.ask(&["wait", id, "--timeout", "60"])?, "/task").clone();
        ensure!(at(&task, "/status") == "completed", "{task}");
        Ok(task)
    }

    fn runs(&self, id: &str) -> Result<usize> {
        Ok(fs::read_to_string(self.marks.path().join(id))?.lines().count())
    }
}
