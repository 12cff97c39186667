use std::sync::Arc;

use data_encoding::HEXLOWER;
use libp2p::{Swarm, swarm::Config};
use runtime_bridge::{Runtime, RuntimeExt};
use taskqueue_api::{RouteBook, TaskQueue};

use super::{
    NoFiles, NodeConfig, NodeError, NodeFiles, NodeHandle,
    arrivals::Arrivals,
    directory::Directory,
    driver::{NodeLoop, Parts},
    limits::IDLE_TIMEOUT,
    net::Net,
    transport,
};
use crate::{
    Identity, MeshSecret,
    carrier::{MeshQueue, Nothing},
};

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node on the runtime that drives the current thread. Returns when the node listens.
    ///
    /// `local` keeps the node's own tasks, `routes` remembers which peer keeps the tasks that were submitted through
    /// it, and `files` keeps what it knows between its runs. The peers of the last run are dialled at once.
    ///
    /// # Errors
    ///
    /// [`NodeError`] says why the node cannot start, for example which address it cannot listen on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the node.
    pub async fn start(
        config: NodeConfig,
        local: Arc<dyn TaskQueue>,
        routes: Arc<dyn RouteBook>,
        files: Arc<dyn NodeFiles>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<NodeHandle, NodeError> {
        if config.serves && config.listen.is_empty() && config.reach.relays.is_empty() {
            return Err(NodeError::NoListenAddress);
        }
        let (directory, ends) = Directory::new(&config, files, Arc::clone(&runtime));
        let queue: Arc<dyn TaskQueue> = Arc::new(MeshQueue::new(Arc::clone(&directory), local, routes));
        let service = config.serves.then(|| Arc::clone(&queue));
        let swarm = swarm(&config, &runtime)?;
        let instance = instance()?;
        let parts =
            Parts { swarm, ends, directory: Arc::clone(&directory), service, instance, identity: config.identity };
        // Boxed, because the swarm is large and would be a part of the future of every start.
        let mut node = Box::new(NodeLoop::new(parts));
        node.listen(&config.listen).await?;
        node.keep_relays(&config.reach.relays);
        runtime.spawn(node.run()).detach();
        Ok(NodeHandle::new(queue, directory))
    }

    /// Starts a node for a command-line client. It does not listen, answers no requests, dials nobody again, and may
    /// have the identity of a node that runs at the same time. Its queue answers only requests that name a peer.
    ///
    /// # Errors
    ///
    /// [`NodeError`] when the encryption cannot be set up, or no random number can be drawn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the node.
    pub async fn start_client(
        identity: Identity,
        secret: MeshSecret,
        runtime: Arc<dyn Runtime>,
    ) -> Result<NodeHandle, NodeError> {
        let config = NodeConfig::client(identity, secret);
        Self::start(config, Arc::new(Nothing), Arc::new(Nothing), Arc::new(NoFiles), runtime).await
    }
}

fn swarm(config: &NodeConfig, runtime: &Arc<dyn Runtime>) -> Result<Box<Swarm<Net>>, NodeError> {
    let arrivals = Arrivals::default();
    let (transport, relay_client) = transport::build(&config.identity, &arrivals)?;
    let executor = Arc::clone(runtime);
    let swarm_config =
        Config::with_executor(move |job| executor.spawn(job).detach()).with_idle_connection_timeout(IDLE_TIMEOUT);
    Ok(Box::new(Swarm::new(
        transport,
        Net::new(config, relay_client, arrivals)?,
        config.identity.peer_id(),
        swarm_config,
    )))
}

/// Draws the name of this start of the node.
fn instance() -> Result<String, NodeError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(NodeError::Random)?;
    Ok(HEXLOWER.encode(&bytes))
}
