//! The mode `daemon`: the node and the MCP server are separate processes, and the MCP server asks the node over its
//! RPC.

use std::{path::PathBuf, sync::Arc, time::Duration};

use p2p_taskqueue::{
    Caller, TaskQueueExt as _,
    api::StatusQuery,
    mesh::{Connector, DaemonQueue},
};
use runtime_bridge::{Runtime, TokioRuntime};
use tokio::runtime::Handle;

use super::{NodeSettings, Ready, Server, front::Front, node::NodeSide};
use crate::{
    config::HttpConfig,
    failure::Failure,
    http::HttpListener,
    rpc::{HttpConnector, RpcAddress, UnixConnector},
};

const MODE: &str = "daemon";

/// The settings of an MCP server without a node.
#[derive(Debug)]
pub(crate) struct FrontSettings {
    pub(crate) http: HttpConfig,
    pub(crate) daemon: RpcAddress,
    /// The file with the token that the node asks for over HTTP.
    pub(crate) token_file: Option<PathBuf>,
}

impl Server {
    /// Starts a node and no MCP server.
    pub(crate) async fn daemon(settings: NodeSettings) -> Result<Self, Failure> {
        let locked = settings.data_dir.lock()?;
        let node = NodeSide::start(settings, locked, MODE).await?;
        Ok(Self::new(node.ready(None), None, Some(node)))
    }

    /// Starts an MCP server for the node of another process, which may be starting at the same time.
    pub(crate) async fn front(settings: FrontSettings) -> Result<Self, Failure> {
        let listener = HttpListener::bind(&settings.http).await?;
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::new(Handle::current()));
        let connector = connector(&settings)?;
        let queue = DaemonQueue::new(Arc::clone(&connector), Arc::clone(&runtime));
        queue.connect(START_PATIENCE).await?;
        // Probes have a connection of their own, which requests of clients cannot fill. It is opened now, before
        // clients can have taken all connections of the daemon.
        let probed = DaemonQueue::new(connector, runtime);
        probed.connect(Duration::ZERO).await?;
        let status = queue.status(&Caller::Local, StatusQuery::default()).await?;
        let front = Front::serve_probing(listener, Arc::new(queue), Arc::new(probed));
        let ready = Ready {
            event: Ready::EVENT,
            http: Some(front.url().to_owned()),
            peer_id: status.peer_id,
            addresses: status.addresses,
            rpc: vec![settings.daemon.to_string()],
            rpc_token_file: settings.token_file,
            mode: MODE,
            p2p_runtime: status.p2p_runtime,
        };
        Ok(Self::new(ready, Some(front), None))
    }
}

fn connector(settings: &FrontSettings) -> Result<Arc<dyn Connector>, Failure> {
    match (&settings.daemon, &settings.token_file) {
        (RpcAddress::Unix(path), None) => {
            let hint = format!("no daemon listens on {}: start one with `taskmesh daemon`", settings.daemon);
            Ok(Arc::new(UnixConnector { path: path.clone(), hint }))
        }
        (RpcAddress::Http(address), Some(token_file)) => {
            Ok(Arc::new(HttpConnector { address: *address, token_file: token_file.clone() }))
        }
        (RpcAddress::Unix(_), Some(_)) => {
            Err(Failure::argument("--daemon-token-file", "a Unix socket takes no token: leave it out"))
        }
        (RpcAddress::Http(_), None) => {
            let problem = "the daemon's RPC over HTTP wants its token: name rpc.token in the daemon's data folder";
            Err(Failure::argument("--daemon-token-file", problem))
        }
    }
}

/// The longest wait for the node. A service manager starts both processes at once, and a node with a large store takes
/// a while.
const START_PATIENCE: Duration = Duration::from_secs(5);
