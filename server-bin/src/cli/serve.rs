//! `serve`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use p2p_taskqueue::{
    api::{Check as _, Claim, Durability},
    node::parse_address,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    data_dir::DataDir,
    failure::Failure,
    mode::{Ready, Server, ServerConfig},
    output::Output,
};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where the MCP server listens; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8765")]
    http: String,
    /// Where peers can reach this node (repeatable) [default: /ip4/127.0.0.1/tcp/9710, this machine only].
    #[arg(long, value_name = "MULTIADDR")]
    p2p_listen: Vec<String>,
    /// Take tasks of TYPE and run COMMAND for each: payload on standard input, result on standard output (repeatable).
    #[arg(long = "worker", value_name = "TYPE=COMMAND")]
    workers: Vec<String>,
    /// What this machine has: its workers also take tasks that require it (repeatable).
    #[arg(long = "label", value_name = "LABEL", requires = "workers")]
    labels: Vec<String>,
    /// Its workers take the tasks of this session beside those of none.
    #[arg(long, requires = "workers")]
    session: Option<String>,
    /// What an acknowledged change has outlived: synced, a power cut; relaxed, the end of this process, and after 50
    /// milliseconds a power cut, too.
    #[arg(long, value_enum, default_value_t = DurabilityArg::Synced)]
    durability: DurabilityArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityArg {
    Synced,
    Relaxed,
}

impl From<DurabilityArg> for Durability {
    fn from(argument: DurabilityArg) -> Self {
        match argument {
            DurabilityArg::Synced => Self::Synced,
            DurabilityArg::Relaxed => Self::Relaxed,
        }
    }
}

pub(super) fn run(args: &ServeArgs, data_dir: DataDir, output: Output) -> Result<ExitCode, Failure> {
    let p2p_listen = args
        .p2p_listen
        .iter()
        .map(|text| parse_address(text).map_err(|error| Failure::argument("--p2p-listen", error)));
    // Now, and not at each claim of a worker that then takes nothing.
    let claim = Claim { labels: args.labels.clone(), session: args.session.clone(), ..Claim::new("worker") };
    claim.check().map_err(|error| Failure::argument("--label, --session", error))?;
    let config = ServerConfig {
        data_dir,
        http: args.http.clone(),
        p2p_listen: p2p_listen.collect::<Result<_, _>>()?,
        workers: args.workers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        labels: claim.labels,
        session: claim.session,
        durability: args.durability.into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(serve(config, output))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: ServerConfig, output: Output) -> Result<(), Failure> {
    // Before the ready line: whoever reads it may send the signal at once.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for ctrl-c")?;
    let folder = config.data_dir.path().display().to_string();
    let server = Server::start(config).await?;
    let ready = server.ready();
    output.document(&json!(ready), || welcome(ready, &folder));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        () = server.shutdown() => {}
        () = again => tracing::warn!("stopping at once: tasks that were running are done again after their leases"),
    }
    Ok(())
}

/// What a person needs next.
fn welcome(ready: &Ready, folder: &str) -> String {
    let Ready { http, peer_id, .. } = ready;
    let addresses: Vec<_> = ready.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join("\n               ");
    let config = json!({ "mcpServers": { "taskmesh": { "type": "http", "url": http } } });
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "taskmesh {version} is ready (ctrl-c stops it)

  MCP          {http}
  peer id      {peer_id}
  reachable at {addresses}
  data folder  {folder}

Give it to your agent (MCP client configuration):
  {config}

Try it:
  curl -s {http} -H 'Content-Type: application/json' -d '{CALL}'

Add a second machine:
  taskmesh invite                     on this one: prints a ticket
  taskmesh join TICKET                on the other one, then
  taskmesh serve --worker 'TYPE=COMMAND'
"
    )
}

/// A call that any HTTP client can make.
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"p2p_taskqueue_status","arguments":{}}}"#;
