//! The settings that a node and its MCP server are started with.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use anyhow::{Context as _, anyhow};
use p2p_taskqueue::{
    DiscoveryConfig, Json, Multiaddr, PeerId, ReachConfig,
    api::{Durability, ToolOffer},
    worker::{CommandHandler, WorkerConfig},
};
use runtime_bridge::{Backend, Runtime};

use crate::{
    announce::AnnounceFiles,
    config::{HttpConfig, WorkerTool},
    data_dir::DataDir,
    failure::Failure,
    rpc::RpcAddress,
    supervisor,
};

/// The usual address: a fixed port on loopback, because nothing is open to others unless asked for.
const USUAL: [&str; 1] = ["/ip4/127.0.0.1/tcp/9710"];
const USUAL_FREE: [&str; 1] = ["/ip4/127.0.0.1/tcp/0"];

/// The addresses with `--lan`: the same port on every interface.
const LAN: [&str; 2] = ["/ip4/0.0.0.0/tcp/9710", "/ip4/0.0.0.0/udp/9710/quic-v1"];
const LAN_FREE: [&str; 2] = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"];

/// The largest input schema of a worker: as large as the MCP servers of the mesh list to agents.
const SCHEMA_BYTES_MAX: usize = 32 * 1024;

/// The settings of a node and its MCP server.
#[derive(Debug)]
pub(crate) struct ServerConfig {
    pub(crate) http: HttpConfig,
    pub(crate) node: NodeSettings,
}

/// The settings of a node.
#[derive(Debug)]
pub(crate) struct NodeSettings {
    pub(crate) data_dir: DataDir,
    /// The addresses at which other processes of this machine ask the node.
    pub(crate) rpc: Vec<RpcAddress>,
    pub(crate) listen: Listen,
    /// The async runtime of the node.
    pub(crate) runtime: Backend,
    pub(crate) discovery: DiscoveryConfig,
    pub(crate) reach: ReachConfig,
    /// The only peers that are admitted; `None` admits all.
    pub(crate) admitted: Option<BTreeSet<PeerId>>,
    pub(crate) denied: BTreeSet<PeerId>,
    pub(crate) announce: AnnounceFiles,
    pub(crate) workers: Vec<WorkerSpec>,
    /// The labels that the workers of this machine have.
    pub(crate) labels: Vec<String>,
    /// The session whose tasks the workers also take, besides tasks without a session.
    pub(crate) session: Option<String>,
    /// Whether a change is on stable storage when it is answered.
    pub(crate) durability: Durability,
}

/// The addresses on which the node listens for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// The usual port on loopback, or a free one.
    Loopback,
    /// The usual port on every interface, or free ones.
    Lan,
    /// These addresses.
    At(Vec<Multiaddr>),
}

impl Listen {
    pub(super) fn addresses(&self) -> Result<Vec<Multiaddr>, Failure> {
        match self {
            Self::Loopback => parse_all(&USUAL),
            Self::Lan => parse_all(&LAN),
            Self::At(addresses) => Ok(addresses.clone()),
        }
    }

    /// Returns the addresses to use when an address is taken; `None` when the user named the addresses.
    pub(super) fn free_addresses(&self) -> Result<Option<Vec<Multiaddr>>, Failure> {
        Ok(match self {
            Self::Loopback => Some(parse_all(&USUAL_FREE)?),
            Self::Lan => Some(parse_all(&LAN_FREE)?),
            Self::At(_) => None,
        })
    }
}

fn parse_all(texts: &[&str]) -> Result<Vec<Multiaddr>, Failure> {
    let parse = |text: &&str| text.parse().with_context(|| format!("{text:?} is no address"));
    Ok(texts.iter().map(parse).collect::<anyhow::Result<_>>()?)
}

impl NodeSettings {
    pub(super) fn worker_configs(&self, runtime: &Arc<dyn Runtime>) -> Result<Vec<WorkerConfig>, Failure> {
        let process = std::process::id();
        // The path is made absolute, because a command may change its working folder.
        let data_dir = std::path::absolute(self.data_dir.path()).context("the data folder has no path")?;
        let supervisor = supervisor::program();
        let configure = |(index, worker): (usize, &WorkerSpec)| {
            let handler = CommandHandler::parse(&worker.command, Arc::clone(runtime))
                .map_err(|error| Failure::argument("--worker", format!("{:?}: {error}", worker.command)))?;
            let mut handler = handler.with_env("TASKMESH_DATA_DIR", &data_dir);
            if let Some(supervisor) = &supervisor {
                handler = handler.supervised_by(supervisor);
            }
            let id = format!("{}-{process}-{index}", worker.task_type);
            let config = WorkerConfig::new(id, [worker.task_type.clone()], Arc::new(handler));
            let (labels, session) = (self.labels.clone(), self.session.clone());
            Ok(WorkerConfig { takes: vec![worker.offer()], labels, session, ..config })
        };
        self.workers.iter().enumerate().map(configure).collect()
    }
}

/// A worker, written as `TYPE=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerSpec {
    task_type: String,
    command: String,
    /// The description for agents. `None` when the user gives none: agents then see a general sentence.
    description: Option<String>,
    input_schema: Json,
}

impl WorkerSpec {
    /// Returns the tool as peers and agents see it. The command is not part of it, because it may show more of this
    /// machine than the user wants.
    fn offer(&self) -> ToolOffer {
        let usual = || format!("Does tasks of type {} on this machine. Takes any JSON value.", self.task_type);
        let description = self.description.clone().unwrap_or_else(usual);
        ToolOffer { name: self.task_type.clone(), description, input_schema: self.input_schema.clone() }
    }
}

impl TryFrom<WorkerTool> for WorkerSpec {
    type Error = anyhow::Error;

    fn try_from(tool: WorkerTool) -> anyhow::Result<Self> {
        let WorkerTool { name, command, description, input_schema } = tool;
        if name.trim().is_empty() || command.trim().is_empty() {
            return Err(anyhow!("a tool needs a name and a command"));
        }
        let input_schema = input_schema.map(|schema| Json::from_value(&schema)).transpose()?.unwrap_or_default();
        if input_schema.len_bytes() > SCHEMA_BYTES_MAX {
            return Err(anyhow!("{name}: its input_schema is over the limit of {SCHEMA_BYTES_MAX} bytes"));
        }
        Ok(Self { task_type: name.trim().to_owned(), command, description, input_schema })
    }
}

impl FromStr for WorkerSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let malformed = || anyhow!("{text:?} is not TYPE=COMMAND, such as 'wordcount=wc -w'");
        let (task_type, command) = text.split_once('=').ok_or_else(malformed)?;
        if task_type.trim().is_empty() || command.trim().is_empty() {
            return Err(malformed());
        }
        let (task_type, command) = (task_type.trim().to_owned(), command.to_owned());
        Ok(Self { task_type, command, description: None, input_schema: Json::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_type_and_a_command() {
        let worker: WorkerSpec = "wordcount=wc -w --files0-from=-".parse().unwrap();
        assert_eq!(worker.task_type, "wordcount");
        assert_eq!(worker.command, "wc -w --files0-from=-");
    }

    #[test]
    fn a_malformed_worker_is_refused_with_an_example() {
        for text in ["wordcount", "=wc", "wordcount=", ""] {
            let error = text.parse::<WorkerSpec>().unwrap_err().to_string();
            assert!(error.contains("TYPE=COMMAND"), "{error}");
        }
    }
}
