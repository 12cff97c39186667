//! The options of a node on the command line, shared by the commands that run one.

use std::collections::BTreeSet;

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use p2p_taskqueue::{
    DiscoveryConfig, Multiaddr, PeerId, ReachConfig,
    api::{Check as _, Claim, Durability, Method},
};
use runtime_bridge::Backend;
use serde::Deserialize;

use crate::{
    address::parse_address,
    announce::AnnounceFiles,
    config::{AnnounceSetting, ConfigFile, DiscoverySection, Parsed, ReachSection},
    data_dir::DataDir,
    failure::Failure,
    mode::{Listen, NodeSettings, WorkerSpec},
};

#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// Where peers can reach this node, over TCP or QUIC (repeatable) [default: /ip4/127.0.0.1/tcp/9710, this machine
    /// only].
    #[arg(long, value_name = "MULTIADDR")]
    p2p_listen: Vec<String>,
    /// Be there for the local network: listen on every interface, TCP and QUIC on port 9710 (or free ones when it is
    /// taken, or where --p2p-listen says), and find peers by mDNS. Strangers on the network then see that a node is there
    /// and can connect; they cannot come in without the mesh secret.
    #[arg(long)]
    lan: bool,
    /// Dial this peer at the start and whenever the connection to it is lost: an address ending in /p2p/PEER_ID
    /// (repeatable).
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// What the node runs on [default: tokio]. async-std is slower.
    #[arg(long, value_name = "RUNTIME", value_parser = runtime_parser())]
    p2p_runtime: Option<Backend>,
    /// Take tasks of TYPE and run COMMAND for each: payload on standard input, result on standard output (repeatable).
    #[arg(long = "worker", value_name = "TYPE=COMMAND")]
    workers: Vec<String>,
    /// What this machine has: its workers also take tasks that require it (repeatable).
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Its workers take the tasks of this session beside those of none.
    #[arg(long)]
    session: Option<String>,
    /// What an acknowledged change has outlived: synced, a power cut; relaxed, the end of this process, and after 50
    /// milliseconds a power cut, too [default: synced].
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DurabilityArg {
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

fn runtime_parser() -> impl TypedValueParser<Value = Backend> {
    PossibleValuesParser::new(Backend::ALL.iter().map(|backend| backend.name())).try_map(|name| name.parse::<Backend>())
}

/// Combines the command line, the file and the defaults, in this order of precedence.
pub(super) fn settings(args: NodeArgs, file: ConfigFile, data_dir: DataDir) -> Result<NodeSettings, Failure> {
    let is_lan = args.lan || file.p2p.lan.unwrap_or(false);
    let claim = Claim {
        labels: Some(args.labels).filter(|labels| !labels.is_empty()).or(file.worker.labels).unwrap_or_default(),
        session: args.session.or(file.worker.session),
        ..Claim::new("worker")
    };
    // A mistake is reported now. Otherwise every claim would be refused, and the workers would take nothing.
    claim.check().map_err(|error| Failure::argument("--label, --session", error))?;
    let listen = file.p2p.listen.unwrap_or_default().into_iter().map(|address| address.0);
    let run = file.worker.run.unwrap_or_default().into_iter().map(|worker| worker.0);
    let tools = file.worker.tool.unwrap_or_default().into_iter().map(WorkerSpec::try_from);
    let tools = tools.collect::<anyhow::Result<Vec<_>>>().map_err(|error| Failure::argument("worker.tool", error))?;
    let workers = if args.workers.is_empty() { run.chain(tools).collect() } else { workers(&args.workers)? };
    if workers.is_empty() && (!claim.labels.is_empty() || claim.session.is_some()) {
        return Err(Failure::argument("--label, --session", "they are for workers, and there is none: add --worker"));
    }
    let announce = file.discovery.announce_file.clone().unwrap_or(AnnounceSetting::Off);
    Ok(NodeSettings {
        rpc: vec![data_dir.rpc()],
        listen: match addresses("--p2p-listen", &args.p2p_listen, listen)? {
            listen if !listen.is_empty() => Listen::At(listen),
            _ if is_lan => Listen::Lan,
            _ => Listen::Loopback,
        },
        runtime: args.p2p_runtime.or_else(|| Some(file.p2p.runtime?.0)).unwrap_or(Backend::Tokio),
        discovery: discovery(&args.bootstrap, file.discovery, is_lan)?,
        reach: reach(file.reach)?,
        admitted: file.p2p.allow.map(peers),
        denied: file.p2p.deny.map(peers).unwrap_or_default(),
        announce: AnnounceFiles::of(&announce, &data_dir)?,
        workers,
        labels: claim.labels,
        session: claim.session,
        durability: args.durability.or(file.store.durability).unwrap_or(DurabilityArg::Synced).into(),
        data_dir,
    })
}

/// Returns how peers are found. A key for a further method is one more line here.
fn discovery(bootstrap: &[String], file: DiscoverySection, is_lan: bool) -> Result<DiscoveryConfig, Failure> {
    let announces = file.announce_file.is_some_and(|setting| setting != AnnounceSetting::Off);
    let known = file.bootstrap.unwrap_or_default().into_iter().map(|address| address.0);
    let bootstrap = addresses("--bootstrap", bootstrap, known)?;
    let points: Vec<Multiaddr> = file.rendezvous.unwrap_or_default().into_iter().map(|address| address.0).collect();
    let config = DiscoveryConfig::default()
        .with_method(Method::Mdns, file.mdns.unwrap_or(is_lan))
        .with_method(Method::AnnounceFile, announces)
        .with_method(Method::Rendezvous, !points.is_empty())
        .with_method(Method::Kademlia, file.kademlia.unwrap_or(false))
        .with_rendezvous_server(file.rendezvous_server.unwrap_or(false))
        .with_bootstrap(bootstrap)
        .map_err(|error| Failure::argument("--bootstrap", error))?
        .with_rendezvous_points(points)
        .map_err(|error| Failure::argument("discovery.rendezvous", error))?;
    match file.namespace {
        Some(name) => config.with_namespace(name).map_err(|error| Failure::argument("discovery.namespace", error)),
        None => Ok(config),
    }
}

/// Returns how the node is reached from networks that cannot dial it.
fn reach(file: ReachSection) -> Result<ReachConfig, Failure> {
    ReachConfig::default()
        .with_relay_server(file.relay_server.unwrap_or(false))
        .with_autonat(file.autonat.unwrap_or(false))
        .with_hole_punching(file.hole_punching.unwrap_or(false))
        .with_upnp(file.upnp.unwrap_or(false))
        .with_relays(file.relays.unwrap_or_default().into_iter().map(|address| address.0))
        .map_err(|error| Failure::argument("reach.relays", error))
}

fn peers(named: Vec<Parsed<PeerId>>) -> BTreeSet<PeerId> {
    named.into_iter().map(|peer| peer.0).collect()
}

/// Returns the addresses of an option, or those of the file when the option is not given.
fn addresses(option: &str, given: &[String], file: impl Iterator<Item = Multiaddr>) -> Result<Vec<Multiaddr>, Failure> {
    if given.is_empty() {
        return Ok(file.collect());
    }
    let parse = |text: &String| parse_address(text).map_err(|error| Failure::argument(option, error));
    given.iter().map(parse).collect()
}

fn workers(given: &[String]) -> Result<Vec<WorkerSpec>, Failure> {
    let parse = |text: &String| text.parse().map_err(|error| Failure::argument("--worker", error));
    given.iter().map(parse).collect()
}
