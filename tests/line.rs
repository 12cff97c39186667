//! Five nodes in a line, each of which knows the one before it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gate, Node, at};

const NODES: usize = 5;

/// A line of nodes. The worker of node N takes the type `to-N`, and its runs leave marks. The node in the middle also
/// takes the type `held`.
struct Line {
    nodes: Vec<Node>,
    marks: TempDir,
    /// Opened when the first run of a held task has begun.
    begun: Gate,
}

impl Line {
    fn start() -> Result<Self> {
        let (marks, begun) = (tempfile::tempdir()?, Gate::new()?);
        let mark = format!("echo run >> {}/$TASKMESH_TASK_ID", marks.path().display());
        // The first run ends with its node, which is killed. The second run ends at once.
        let held = format!(
            "held=sh -c '{mark}; if [ -e {first} ]; then echo second run; \
             else touch {first}; echo > {begun}; exec sleep 60; fi'",
            first = marks.path().join("first").display(),
            begun = begun.path().display()
        );
        let mut nodes: Vec<Node> = Vec::new();
        for number in 0..NODES {
            let worker = format!("to-{number}=sh -c '{mark}; cat'");
            let held = if number == NODES / 2 { vec!["--worker", &held] } else { Vec::new() };
            let workers = [&["--worker", &worker], &held[..]].concat();
            let node = match (nodes.first(), nodes.last()) {
                (Some(first), Some(before)) => {
                    // It has a ticket of the first node, and knows the address of the one before it alone.
                    let way = ["--p2p-listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", &before.address()?];
                    let node = Node::start_on(first.guest_folder()?, None, &[&way[..], &workers].concat())?;
                    before.sees(&node)?;
                    node
                }
                _ => Node::start(&workers)?,
            };
            nodes.push(node);
        }
        Ok(Self { nodes, marks, begun })
    }

    fn node(&self, number: usize) -> Result<&Node> {
        self.nodes.get(number).context("no such node")
    }

    /// Returns all pairs of neighbours, in both directions.
    fn neighbours() -> impl Iterator<Item = (usize, usize)> {
        (1..NODES).flat_map(|number| [(number - 1, number), (number, number - 1)])
    }

    /// Submits a task at one node, for the worker of another one.
    fn submit(&self, owner: usize, task_type: &str, payload: usize) -> Result<Job> {
        let submitted = self.node(owner)?.ask(&["submit", task_type, "--payload", &payload.to_string()])?;
        Ok(Job { owner, id: at(&submitted, "/task_id").as_str().context("no id")?.to_owned(), payload })
    }

    fn completed(&self, job: &Job) -> Result<Value> {
        let task = at(&self.node(job.owner)?.ask(&["wait", &job.id, "--timeout", "90"])?, "/task").clone();
        ensure!(at(&task, "/status") == "completed", "{task}");
        Ok(task)
    }

    fn runs(&self, job: &Job) -> Result<usize> {
        Ok(fs::read_to_string(self.marks.path().join(&job.id))?.lines().count())
    }
}

struct Job {
    owner: usize,
    id: String,
    payload: usize,
}

#[test]
fn neighbours_in_a_line_of_five_ask_each_other_and_do_each_others_tasks() -> Result<()> {
    let line = Line::start()?;
    for (here, there) in Line::neighbours() {
        let (here, there) = (line.node(here)?, line.node(there)?);
        let found = here.ask(&["discover", &there.peer_id()?])?;
        assert_eq!(found["peers"][0]["peer_id"], there.peer_id()?, "{found}");
        assert_eq!(here.ask(&["status", "--peer", &there.address()?])?["peer_id"], there.peer_id()?);
    }
    for (number, (here, there)) in Line::neighbours().enumerate() {
        let job = line.submit(here, &format!("to-{there}"), number)?;
        let task = line.completed(&job)?;
        assert_eq!((&task["result"], line.runs(&job)?), (&json!(number), 1), "{task}");
    }
    Ok(())
}

/// The node owns tasks, runs one of a neighbour, and more tasks are submitted for it while it is away.
#[test]
fn a_node_in_the_middle_that_is_killed_and_comes_back_loses_nothing() -> Result<()> {
    const MIDDLE: usize = NODES / 2;
    let mut line = Line::start()?;
    let before = line.submit(MIDDLE, "to-1", 100)?;
    line.completed(&before)?;
    let held = line.submit(MIDDLE - 1, "held", 0)?;
    line.begun.written()?;
    let own = |number| line.submit(MIDDLE, if number % 2 == 0 { "to-1" } else { "to-3" }, number);
    let mut jobs: Vec<_> = (0..10).map(own).collect::<Result<_>>()?;

    line.nodes.get_mut(MIDDLE).context("no middle")?.kill()?;
    for number in 10..15 {
        jobs.push(line.submit(MIDDLE - 1, "to-2", number)?);
        jobs.push(line.submit(MIDDLE + 1, "to-2", number)?);
    }
    line.nodes.get_mut(MIDDLE).context("no middle")?.start_again()?;

    for job in &jobs {
        let task = line.completed(job)?;
        assert_eq!(task["result"], job.payload, "{task}");
        // A worker whose owner was killed reports its result later, so there is no second run.
        assert_eq!((line.runs(job)?, &task["attempt"]), (1, &json!(1)), "{task}");
    }
    // The worker that held this task was killed, so it runs once more after the lease.
    let task = line.completed(&held)?;
    assert_eq!((&task["result"], line.runs(&held)?), (&json!("second run"), 2), "{task}");
    assert_eq!(line.runs(&before)?, 1, "what had completed is not done again");
    Ok(())
}
