//! `serve`.

use std::{
    mem,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use p2p_taskqueue::api::Method;
use serde_json::json;

use super::{
    http::HttpArgs,
    node::{self, NodeArgs},
    running::{self, Threads},
};
use crate::{
    config::{ConfigFile, HttpConfig},
    data_dir::DataDir,
    descriptors,
    failure::Failure,
    mode::{FrontSettings, Mode, Ready, Server, ServerConfig},
    output::Output,
    rpc::RpcAddress,
};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    http: HttpArgs,
    /// Where the MCP server and the node run [default: bridge].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Be the MCP server of this daemon, unix:PATH or http://127.0.0.1:PORT, and no node: needs no data folder.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["mode", "NodeArgs"])]
    daemon: Option<RpcAddress>,
    /// What a daemon wants to be shown over HTTP: rpc.token in its data folder.
    #[arg(long, value_name = "FILE", requires = "daemon")]
    daemon_token_file: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(
    args: ServeArgs,
    data_dir: impl FnOnce() -> Result<DataDir, Failure>,
    config: Option<&Path>,
    output: Output,
) -> Result<ExitCode, Failure> {
    let Some(daemon) = args.daemon else { return run_with_node(args, data_dir()?, config, output) };
    // Without a data folder there is no usual place for a configuration file.
    let file = config.map_or_else(|| Ok(ConfigFile::default()), |named| ConfigFile::load(Some(named), named))?;
    let http = HttpConfig::new(args.http.into(), file.http)?;
    let shown = http.has_token().then_some(TOKEN);
    let welcome = |ready: &Ready| welcome(ready, &format!("of the daemon at {daemon}"), false, shown);
    descriptors::allow_more();
    let settings = FrontSettings { http, daemon: daemon.clone(), token_file: args.daemon_token_file };
    running::run(Threads::Many, Server::front(settings), welcome, output)
}

fn run_with_node(
    args: ServeArgs,
    data_dir: DataDir,
    config: Option<&Path>,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut file = ConfigFile::load(config, &data_dir.config())?;
    let http = HttpConfig::new(args.http.into(), mem::take(&mut file.http))?;
    let mode = args.mode.or(file.server.mode).unwrap_or(Mode::Bridge);
    let node = node::settings(args.node, file, data_dir)?;
    let folder = node.data_dir.path().display().to_string();
    let is_seen = node.discovery.is_on(Method::Mdns);
    let shown = http.has_token().then_some(TOKEN);
    let welcome = |ready: &Ready| welcome(ready, &folder, is_seen, shown);
    descriptors::allow_more();
    let config = ServerConfig { http, node };
    match mode {
        Mode::Bridge => running::run(Threads::Many, Server::bridge(config), welcome, output),
        Mode::Native => running::run(Threads::One, Server::native(config), welcome, output),
    }
}

/// Returns the text of the ready line for a person, with the commands that come next.
fn welcome(ready: &Ready, folder: &str, is_seen: bool, shown: Option<&str>) -> String {
    let Ready { http, peer_id, .. } = ready;
    let http = http.as_deref().unwrap_or_default();
    let addresses: Vec<_> = ready.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join("\n               ");
    let mut entry = json!({ "type": "http", "url": http });
    if let (Some(shown), Some(entry)) = (shown, entry.as_object_mut()) {
        entry.insert("headers".to_owned(), json!({ "Authorization": shown }));
    }
    let config = json!({ "mcpServers": { "taskmesh": entry } });
    let header = shown.map_or_else(String::new, |shown| format!(" -H 'Authorization: {shown}'"));
    let version = env!("CARGO_PKG_VERSION");
    let seen = if is_seen { SEEN } else { "" };
    format!(
        "taskmesh {version} is ready (ctrl-c stops it)

  MCP          {http}
  peer id      {peer_id}
  reachable at {addresses}
  data folder  {folder}
{seen}
Give it to your agent (MCP client configuration):
  {config}

Try it:
  curl -s {http}{header} -H 'Content-Type: application/json' -d '{CALL}'

Add a second machine:
  taskmesh invite                     on this one: prints a ticket
  taskmesh join TICKET                on the other one, then
  taskmesh serve --worker 'TYPE=COMMAND'
"
    )
}

/// The header that a client needs when a token is asked for. The token itself is not printed.
const TOKEN: &str = "Bearer TOKEN";

/// The notice for a node that shows itself on the local network.
const SEEN: &str = "
This node shows itself on the local network (mDNS). Strangers there can see it and connect to it;
they cannot come in, or ask anything, without the mesh secret.
";

/// The body of a call that any HTTP client can make.
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"p2p_taskqueue_status","arguments":{}}}"#;
