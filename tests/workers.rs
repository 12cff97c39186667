//! The workers of the mesh, and why a task waits, as a person meets them on the command line.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Gate, Node, at, taskmesh_command, until};

const MISSPELT: &str = "no machine takes 'wordcuont'; did you mean 'wordcount'?";

/// Waits until the node knows a worker on this machine that passes `is_so`, and returns it.
fn worker(node: &Node, machine: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    until(format_args!("a worker on {machine} is known and is as it should be"), || {
        let listed = node.ask(&["workers"])?;
        let mut workers = at(&listed, "/workers").as_array().into_iter().flatten();
        Ok(workers.find(|worker| at(worker, "/peer_id") == machine && is_so(worker)).cloned())
    })
}

/// Waits until the node knows that a worker on `other` is there.
fn knows(node: &Node, other: &Node) -> Result<Value> {
    worker(node, &other.peer_id()?, |worker| at(worker, "/connected") == true)
}

fn name_of(node: &Node) -> Result<String> {
    let (listed, own) = (node.ask(&["members"])?, node.peer_id()?);
    let mut members = at(&listed, "/members").as_array().into_iter().flatten();
    let member = members.find(|member| at(member, "/peer_id") == &own).context("it does not know itself")?;
    Ok(at(member, "/name").as_str().context("no name")?.to_owned())
}

/// Submits a task and returns its id, and the reason why it waits.
fn submit(node: &Node, arguments: &[&str]) -> Result<(String, Value)> {
    let submitted = node.ask(&[&["submit"], arguments].concat())?;
    let id = at(&submitted, "/task_id").as_str().context("no id")?.to_owned();
    Ok((id, at(&submitted, "/waiting_for").clone()))
}

fn message(waiting: &Value) -> Result<&str> {
    at(waiting, "/message").as_str().with_context(|| format!("no message in {waiting}"))
}

/// A worker that says in a pipe that it has begun, and ends when it is told to.
fn held(begun: &Gate, end: &Gate) -> String {
    format!("held=sh -c 'echo > {}; cat {}'", begun.path().display(), end.path().display())
}

/// A command that runs. Dropping it kills the process.
struct Running {
    child: Child,
    errors: Receiver<String>,
}

impl Running {
    fn start(node: &Node, arguments: &[&str]) -> Result<Self> {
        let mut child = taskmesh_command(node.folder()).args(arguments).spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (send, errors) = sync_channel(64);
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Ok(Self { child, errors })
    }

    /// Returns the next line of standard error.
    fn line(&self) -> Result<String> {
        self.errors.recv_timeout(DEADLINE).context("nothing more on standard error")
    }

    /// Waits for the end. Returns the exit code and the rest of standard error.
    fn end(mut self) -> Result<(Option<i32>, Vec<String>)> {
        let mut rest = Vec::new();
        // The channel ends with the process.
        while let Ok(line) = self.errors.recv_timeout(DEADLINE) {
            rest.push(line);
        }
        let status = until("the command has ended", || Ok(self.child.try_wait()?))?;
        Ok((status.code(), rest))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_misspelt_type_is_answered_wherever_one_looks() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    knows(&node, &node)?;
    let submitted = node.run(&["submit", "wordcuont"])?;
    assert_eq!((submitted.code, submitted.stderr.as_str()), (Some(0), &*format!("taskmesh: {MISSPELT}\n")));
    let id = submitted.stdout.trim();
    ensure!(id.len() == 32, "the id alone: {submitted:?}");

    let answered = node.run(&["submit", "wordcuont", "--json"])?;
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let answer = answered.json()?;
    let waiting = at(&answer, "/waiting_for");
    assert_eq!(
        waiting,
        &json!({ "reason": "worker_absent", "message": MISSPELT, "lacking": "type", "nearest": "wordcount" })
    );
    for arguments in [&["get", id][..], &["wait", id, "--timeout", "0"]] {
        assert_eq!(at(&node.run(&[arguments, &["--json"]].concat())?.json()?, "/task/waiting_for"), waiting);
        let shown = node.run(arguments)?.stdout;
        ensure!(shown.contains(&format!("waiting   {MISSPELT}")), "{shown}");
    }
    let listed = node.run(&["list"])?.stdout;
    ensure!(listed.contains("no machine takes 'wordcuont'"), "{listed}");

    let right = node.run(&["submit", "wordcount", "--text", "a b", "--json"])?;
    assert_eq!((at(&right.json()?, "/waiting_for"), right.stderr.as_str()), (&Value::Null, ""));
    Ok(())
}

#[test]
fn who_waits_for_the_end_is_told_why_after_a_second_and_when_the_reason_changes() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    knows(&node, &node)?;
    let waiting = Running::start(&node, &["submit", "wordcuont", "--delay", "5", "--wait", "--label", "mine"])?;
    let first = waiting.line()?;
    ensure!(first.starts_with("taskmesh: ") && !first.contains("no machine"), "the delay comes first: {first}");
    assert_eq!(waiting.line()?, format!("taskmesh: {MISSPELT}"));
    let listed = node.ask(&["list", "--label", "mine"])?;
    let id = at(&listed, "/tasks/0/task_id").as_str().context("no id")?;
    node.ask(&["cancel", id])?;
    let (code, rest) = waiting.end()?;
    assert_eq!((code, rest), (Some(1), Vec::new()), "each reason is said once");
    Ok(())
}

#[test]
fn a_wait_that_is_broken_off_leaves_the_task_and_says_how_to_go_on() -> Result<()> {
    let node = Node::start(&["--worker", "wordcount=wc -w"])?;
    knows(&node, &node)?;
    let waiting = Running::start(&node, &["submit", "wordcuont", "--wait"])?;
    assert_eq!(waiting.line()?, format!("taskmesh: {MISSPELT}"));
    let pid = i32::try_from(waiting.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, Signal::INT)?;
    let (code, rest) = waiting.end()?;
    let listed = node.ask(&["list"])?;
    let id = at(&listed, "/tasks/0/task_id").as_str().context("no id")?;
    assert_eq!(code, Some(130), "{rest:?}");
    ensure!(rest.concat().contains(&format!("`taskmesh wait {id}`")), "{rest:?}");
    assert_eq!(at(&listed, "/tasks/0/status"), "queued");
    Ok(())
}

#[test]
fn the_workers_of_another_machine_are_shown_with_what_they_have_also_when_it_is_gone() -> Result<()> {
    let owner = Node::start(&[])?;
    let empty = owner.run(&["workers"])?;
    ensure!(empty.code == Some(0) && empty.stdout.contains("taskmesh serve --worker"), "{empty:?}");
    let mut other = Node::start(&["--worker", "render=cat", "--label", "gpu"])?;
    other.join(&owner)?;
    let (machine, name) = (other.peer_id()?, name_of(&other)?);
    let known = knows(&owner, &other)?;
    assert_eq!(at(&known, "/machine"), &name);
    assert_eq!(at(&known, "/takes/0/name"), "render");
    assert_eq!(
        (at(&known, "/labels"), at(&known, "/slots"), at(&known, "/busy")),
        (&json!(["gpu"]), &1.into(), &0.into())
    );

    for (arguments, count) in [
        (&["workers", "--label", "gpu"][..], 1),
        (&["workers", "--type", "render"], 1),
        (&["workers", "--type", "render", "--label", "gpu"], 1),
        (&["workers", "--label", "cpu"], 0),
        (&["workers", "--type", "rendre"], 0),
    ] {
        let listed = owner.ask(arguments)?;
        assert_eq!(at(&listed, "/workers").as_array().map(Vec::len), Some(count), "{arguments:?}: {listed}");
    }
    let table = owner.run(&["workers"])?.stdout;
    for part in ["MACHINE", &name, "render", "gpu", "0/1", "here"] {
        ensure!(table.contains(part), "{part}: {table}");
    }
    ensure!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    other.stop(Signal::TERM)?;
    let gone = worker(&owner, &machine, |worker| at(worker, "/connected") == false)?;
    ensure!(at(&gone, "/last_seen").is_f64(), "{gone}");
    let table = owner.run(&["workers"])?.stdout;
    ensure!(table.contains("last seen"), "{table}");

    let (_, waiting) = submit(&owner, &["render", "--require", "gpu"])?;
    assert_eq!((at(&waiting, "/reason"), at(&waiting, "/lacking")), (&"worker_absent".into(), &"nothing".into()));
    assert_eq!(at(&waiting, "/machines"), &json!([name]), "{waiting}");
    let (_, pinned) = submit(&owner, &["render", "--pin-to", &name])?;
    assert_eq!(at(&pinned, "/reason"), "worker_absent", "{pinned}");
    ensure!(message(&pinned)?.contains(&name), "{pinned}");
    Ok(())
}

#[test]
fn a_demand_that_nobody_meets_is_named() -> Result<()> {
    let node = Node::start(&["--worker", "render=cat", "--label", "cpu"])?;
    knows(&node, &node)?;
    let (id, labels) = submit(&node, &["render", "--require", "gpu"])?;
    assert_eq!((at(&labels, "/reason"), at(&labels, "/lacking")), (&"worker_absent".into(), &"labels".into()));
    ensure!(message(&labels)?.contains("gpu"), "{labels}");
    let (_, session) = submit(&node, &["render", "--session", "night"])?;
    assert_eq!((at(&session, "/reason"), at(&session, "/lacking")), (&"worker_absent".into(), &"session".into()));
    ensure!(message(&session)?.contains("night"), "{session}");

    let (_, delayed) = submit(&node, &["render", "--delay", "3600"])?;
    assert_eq!(at(&delayed, "/reason"), "delayed", "{delayed}");
    let (_, after) = submit(&node, &["render", "--after", &id])?;
    assert_eq!(at(&after, "/reason"), "after", "{after}");
    node.ask(&["pause", "render"])?;
    let (_, paused) = submit(&node, &["render"])?;
    assert_eq!(at(&paused, "/reason"), "paused", "{paused}");
    let quiet = node.run(&["submit", "render"])?;
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""), "only what nobody takes is told at once");
    let shown = node.run(&["get", quiet.stdout.trim()])?.stdout;
    ensure!(shown.contains("waiting") && shown.contains("paused"), "{shown}");
    Ok(())
}

#[test]
fn a_task_waits_for_a_busy_machine_by_name_and_names_it_when_it_has_run_there() -> Result<()> {
    let (begun, end) = (Gate::new()?, Gate::new()?);
    let owner = Node::start(&[])?;
    let other = Node::start(&["--worker", &held(&begun, &end)])?;
    other.join(&owner)?;
    let name = name_of(&other)?;
    knows(&owner, &other)?;
    let (first, _) = submit(&owner, &["held"])?;
    begun.written()?;
    worker(&owner, &other.peer_id()?, |worker| at(worker, "/busy") == 1)?;
    let (second, waiting) = submit(&owner, &["held"])?;
    assert_eq!(
        (at(&waiting, "/reason"), at(&waiting, "/machines")),
        (&"worker_busy".into(), &json!([name])),
        "{waiting}"
    );
    ensure!(message(&waiting)?.contains(&name), "{waiting}");
    ensure!(owner.run(&["workers"])?.stdout.contains("1/1"));

    end.write("first")?;
    begun.written()?;
    end.write("second")?;
    for id in [first, second] {
        let ended = owner.ask(&["wait", &id, "--timeout", "60"])?;
        assert_eq!(at(&ended, "/task/waiting_for"), &Value::Null, "{ended}");
        assert_eq!(at(&ended, "/task/attempts/0/machine_name"), &name, "{ended}");
        let shown = owner.run(&["get", &id])?.stdout;
        ensure!(shown.contains(&format!("on {name} ")), "{shown}");
    }
    Ok(())
}

#[test]
fn a_call_that_has_not_ended_says_what_it_waits_for() -> Result<()> {
    let (begun, end) = (Gate::new()?, Gate::new()?);
    let node = Node::start(&["--worker", &held(&begun, &end)])?;
    knows(&node, &node)?;
    submit(&node, &["held"])?;
    begun.written()?;
    worker(&node, &node.peer_id()?, |worker| at(worker, "/busy") == 1)?;
    let called = node.run(&["call", "held", "--timeout", "0.1"])?;
    assert_eq!(called.code, Some(1), "{called:?}");
    ensure!(called.stdout.contains(" queued: ") && called.stdout.contains(&name_of(&node)?), "{called:?}");
    ensure!(called.stdout.contains("`taskmesh wait "), "{called:?}");
    end.write("over")?;
    begun.written()?;
    end.write("over")?;
    Ok(())
}

/// The mesh hears of 64 workers of a machine. Those beyond are not shown with their slots, but work all the same.
#[test]
fn a_machine_with_more_workers_than_the_mesh_hears_of_starts_and_all_of_them_work() -> Result<()> {
    let specs: Vec<String> = (0..=WORKERS_TOLD).map(|number| format!("t{number}=cat")).collect();
    let arguments: Vec<&str> = specs.iter().flat_map(|spec| ["--worker", spec]).collect();
    let node = Node::start(&arguments)?;
    for number in 0..=WORKERS_TOLD {
        let done = node.run(&["submit", &format!("t{number}"), "--text", "x", "--wait"])?;
        ensure!(done.code == Some(0) && done.stdout.contains('x'), "t{number}: {done:?}");
    }
    let listed = node.ask(&["workers"])?;
    let workers = at(&listed, "/workers").as_array().context("no list")?;
    let told = workers.iter().filter(|worker| worker.get("slots").is_some()).count();
    ensure!((workers.len(), told) == (WORKERS_TOLD + 1, WORKERS_TOLD), "{told} of {}", workers.len());
    Ok(())
}

const WORKERS_TOLD: usize = 64;
