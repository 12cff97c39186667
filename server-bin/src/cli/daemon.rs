//! `daemon`.

use std::{path::Path, process::ExitCode};

use clap::Args;

use super::{
    node::{self, NodeArgs},
    running::{self, Threads},
};
use crate::{
    config::ConfigFile,
    data_dir::DataDir,
    failure::Failure,
    mode::{Ready, Server},
    output::Output,
    rpc::RpcAddress,
};

#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// Where MCP servers and other programs of this machine ask the node: unix:PATH or http://127.0.0.1:PORT; port 0 takes
    /// a free one (repeatable) [default: taskmesh.sock in the data folder, where the client commands look]. Over HTTP they
    /// show the token in rpc.token in the data folder, which is made at the first start.
    #[arg(long = "rpc", value_name = "ADDRESS")]
    rpc: Vec<RpcAddress>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(
    args: DaemonArgs,
    data_dir: DataDir,
    config: Option<&Path>,
    output: Output,
) -> Result<ExitCode, Failure> {
    let file = ConfigFile::load(config, &data_dir.config())?;
    let mut settings = node::settings(args.node, file, data_dir)?;
    if !args.rpc.is_empty() {
        settings.rpc = args.rpc;
    }
    let folder = settings.data_dir.path().display().to_string();
    running::run(Threads::One, Server::daemon(settings), |ready| welcome(ready, &folder), output)
}

/// Returns the text of the ready line for a person, with the commands that come next.
fn welcome(ready: &Ready, folder: &str) -> String {
    let Ready { peer_id, rpc, .. } = ready;
    let indent = "\n               ";
    let addresses = ready.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(indent);
    let token = ready.rpc_token_file.as_ref().map(|file| format!(" --daemon-token-file {}", file.display()));
    let front = |address: &String| {
        let token = token.as_deref().filter(|_| address.starts_with("http")).unwrap_or_default();
        format!("  taskmesh serve --daemon {address}{token}")
    };
    let fronts = rpc.iter().map(front).collect::<Vec<_>>().join("\n");
    format!(
        "taskmesh {} is ready, without an MCP server (ctrl-c stops it)

  peer id      {peer_id}
  reachable at {addresses}
  data folder  {folder}
  RPC          {}

Add an MCP server:
{fronts}
",
        env!("CARGO_PKG_VERSION"),
        rpc.join(indent),
    )
}
