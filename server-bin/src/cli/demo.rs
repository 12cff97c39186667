//! `demo`: the whole story on loopback, with real nodes, a real worker and a real MCP client.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use p2p_taskqueue::{
    DiscoveryConfig, PeerId, ReachConfig, TaskId,
    api::{Durability, Invite, Join, Joined, Submitted, Waited},
};
use rmcp::{
    RoleClient, ServiceExt as _, model::CallToolRequestParams, service::RunningService,
    transport::StreamableHttpClientTransport,
};
use runtime_bridge::Backend;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    announce::AnnounceFiles,
    client::with_client,
    config::HttpConfig,
    data_dir::DataDir,
    failure::Failure,
    mode::{Listen, NodeSettings, Server, ServerConfig},
    output::Output,
};

/// The steps of the demo, printed and kept as they happen.
struct Story {
    output: Output,
    started: Instant,
    steps: Vec<Value>,
}

impl Story {
    fn tell(&mut self, step: &str, since: Instant) {
        let (took, at) = (since.elapsed(), self.started.elapsed());
        self.output.step(&format!("{:>6.0} ms  (+{:>5.1} ms)  {step}", millis(at), millis(took)));
        self.steps.push(json!({ "step": step, "at_s": at.as_secs_f64(), "took_s": took.as_secs_f64() }));
    }
}

/// One node of the demo, and the folder that holds all its state.
struct Machine {
    server: Server,
    folder: TempDir,
}

impl Machine {
    fn start(runtime: &Runtime, workers: &[&str]) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let data_dir = DataDir::locate(Some(folder.path()))?;
        let node = NodeSettings {
            rpc: vec![data_dir.rpc()],
            data_dir,
            listen: Listen::At(vec!["/ip4/127.0.0.1/tcp/0".parse().context("the demo's address")?]),
            runtime: Backend::Tokio,
            discovery: DiscoveryConfig::default(),
            reach: ReachConfig::default(),
            admitted: None,
            denied: BTreeSet::new(),
            announce: AnnounceFiles::default(),
            workers: workers.iter().map(|worker| worker.parse()).collect::<Result<_, _>>()?,
            labels: Vec::new(),
            session: None,
            durability: Durability::Synced,
        };
        let config = ServerConfig { http: HttpConfig::at("127.0.0.1:0"), node };
        Ok(Self { server: runtime.block_on(Server::bridge(config))?, folder })
    }

    fn http(&self) -> &str {
        self.server.ready().http.as_deref().unwrap_or_default()
    }

    fn peer_id(&self) -> PeerId {
        self.server.ready().peer_id
    }

    fn data_dir(&self) -> Result<DataDir, Failure> {
        DataDir::locate(Some(self.folder.path()))
    }
}

pub(super) fn run(output: Output) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let mut story = Story { output, started, steps: Vec::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start tokio")?;

    let since = Instant::now();
    let laptop = Machine::start(&runtime, &[])?;
    story.tell(&format!("first node: {}", describe(&laptop)), since);
    let since = Instant::now();
    let server = Machine::start(&runtime, &["wordcount=wc -w"])?;
    story.tell(&format!("second node, with the worker 'wordcount=wc -w': {}", describe(&server)), since);

    join(&laptop, &server, &mut story)?;
    let words = runtime.block_on(count_words(&laptop, server.peer_id(), &mut story))?;

    let since = Instant::now();
    runtime.block_on(async { futures::join!(laptop.server.shutdown(), server.server.shutdown()) });
    story.tell("both nodes have stopped", since);

    let document =
        json!({ "ok": true, "result": words, "total_s": started.elapsed().as_secs_f64(), "steps": story.steps });
    output.document(&document, || {
        format!("\nThe second node counted {words} words; the first node's MCP client has the result.")
    });
    Ok(ExitCode::SUCCESS)
}

fn describe(machine: &Machine) -> String {
    format!("{}, MCP on {}", machine.peer_id(), machine.http())
}

/// Brings the second node into the mesh of the first one, as two people would with a terminal each.
fn join(inviting: &Machine, joining: &Machine, story: &mut Story) -> Result<(), Failure> {
    let since = Instant::now();
    let ticket = with_client(inviting.data_dir()?, None, async |client| client.ask(Invite::default()).await)?.ticket;
    story.tell(&format!("first node: taskmesh invite -> {}…", ticket.get(..24).unwrap_or_default()), since);

    let since = Instant::now();
    let join = Join { ticket, ..Join::default() };
    let joined: Joined = with_client(joining.data_dir()?, None, async move |client| client.ask(join).await)?;
    if !joined.connected {
        let problem = joined.error.unwrap_or_else(|| "no connection".to_owned());
        return Err(anyhow!("the second node could not join: {problem}").into());
    }
    story.tell("second node: taskmesh join TICKET -> connected, the second node is a member", since);
    Ok(())
}

/// Uses an MCP client of the first node to have the words of a text counted by the second node.
async fn count_words(laptop: &Machine, server: PeerId, story: &mut Story) -> anyhow::Result<u64> {
    let since = Instant::now();
    let transport = StreamableHttpClientTransport::from_uri(laptop.http());
    let client = ().serve(transport).await.context("the MCP client cannot connect")?;
    let tools = client.list_all_tools().await.context("tools/list")?;
    story.tell(&format!("MCP client of the first node: {} tools", tools.len()), since);

    let since = Instant::now();
    let submit = json!({ "task_type": "wordcount", "payload": TEXT, "peer_id": server });
    let submitted: Submitted = call(&client, "p2p_taskqueue_submit", submit).await?;
    ensure!(submitted.peer_id == server, "the task is not with the second node");
    story.tell(&format!("p2p_taskqueue_submit -> {} is on the second node's disk", short(submitted.task_id)), since);

    let since = Instant::now();
    let wait = json!({ "task_id": submitted.task_id, "timeout_s": WAIT.as_secs() });
    let waited: Waited = call(&client, "p2p_taskqueue_wait_task", wait).await?;
    let task = waited.task.context("the wait was answered without a task")?;
    let words = task.result.as_ref().and_then(|result| result.to::<u64>().ok());
    let words = words.with_context(|| format!("no result: {} {}", task.status, task.error.unwrap_or_default()))?;
    story.tell(&format!("p2p_taskqueue_wait_task -> {}: {words} words", task.status), since);

    let expected = TEXT.split_ascii_whitespace().count() as u64;
    ensure!(words == expected, "the text has {expected} words, not {words}");
    client.cancel().await.context("the MCP client did not end in order")?;
    Ok(words)
}

async fn call<T: DeserializeOwned>(
    client: &RunningService<RoleClient, ()>,
    tool: &'static str,
    arguments: Value,
) -> anyhow::Result<T> {
    let Value::Object(arguments) = arguments else { return Err(anyhow!("arguments are an object")) };
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.context(tool)?;
    let content = result.structured_content.with_context(|| format!("{tool} answered nothing"))?;
    ensure!(content.get("ok") == Some(&Value::Bool(true)), "{tool}: {content}");
    let text = content.to_string();
    serde_json::from_value(content).with_context(|| format!("{tool} answered {text}"))
}

fn short(task_id: TaskId) -> String {
    task_id.to_string().chars().take(8).collect::<String>() + "…"
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The longest wait for the task, which takes milliseconds.
const WAIT: Duration = Duration::from_secs(8);

const TEXT: &str = "A task is on disk before it is acknowledged. A worker takes it under a lease, and as long as the worker \
    lives it renews the lease. When the worker dies the lease runs out, and another worker takes the task. Should the \
    first one come back after all, its result is refused, for its fence is no longer the current one. So every task is \
    done, none is lost, and no late answer overwrites a good one.";
