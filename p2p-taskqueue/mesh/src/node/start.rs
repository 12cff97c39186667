use std::{collections::HashSet, io, sync::Arc};

use data_encoding::HEXLOWER;
use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm, TransportError,
    core::transport::ListenerId,
    swarm::{Config, SwarmEvent},
};
use runtime_bridge::{Runtime, RuntimeExt};
use taskqueue_api::{RouteBook, TaskQueue};

use super::{
    NoFiles, NodeConfig, NodeError, NodeFiles, NodeHandle,
    arrivals::Arrivals,
    directory::Directory,
    driver::{NodeLoop, Parts},
    limits::{IDLE_TIMEOUT, LISTEN_TIMEOUT},
    net::Net,
    transport,
};
use crate::{
    Identity, MeshSecret,
    carrier::{MeshQueue, Nothing},
    wire::within,
};

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node on the runtime that drives the current thread; returns when it listens.
    ///
    /// `local` keeps the node's own tasks, `routes` remembers which peer keeps the tasks that were submitted through it,
    /// `files` keeps what it knows between its runs. The peers of the last run are dialled at once.
    ///
    /// # Errors
    ///
    /// [`NodeError`], naming the address that cannot be listened on.
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
        // Boxed: the swarm is large, and the future of every start would be.
        let mut node = Box::new(NodeLoop::new(parts));
        node.listen(&config.listen).await?;
        node.keep_relays(&config.reach.relays);
        runtime.spawn(node.run()).detach();
        Ok(NodeHandle::new(queue, directory))
    }

    /// Starts a node for a command-line client: it listens nowhere, is asked nothing, redials nobody, and may have the
    /// identity of a node that runs at the same time. Its queue answers only what names a peer.
    ///
    /// # Errors
    ///
    /// [`NodeError`] when the encryption cannot be set up.
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

impl NodeLoop {
    /// Listens on every address, and waits until each listener has said where.
    async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), NodeError> {
        // All before the first: what this node listens on itself must not count as taken.
        addresses.iter().try_for_each(transport::check_free)?;
        for address in addresses {
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| refused(address, error))?;
            self.listeners.push(listener);
        }
        let runtime = Arc::clone(&self.directory.runtime);
        let listening = within(LISTEN_TIMEOUT, self.until_listening(addresses), &*runtime).await;
        listening.unwrap_or_else(|| Err(silent(addresses)))
    }

    async fn until_listening(&mut self, addresses: &[Multiaddr]) -> Result<(), NodeError> {
        let mut waiting: HashSet<ListenerId> = self.listeners.iter().copied().collect();
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(waiting.remove(listener_id)),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    let at = self.listeners.iter().position(|listener| listener == listener_id);
                    let address = at.and_then(|at| addresses.get(at)).cloned().unwrap_or_else(Multiaddr::empty);
                    let error = reason.as_ref().err().map_or(io::ErrorKind::Other, io::Error::kind);
                    return Err(transport::listen_error(&address, error.into()));
                }
                _ => {}
            }
            self.on_swarm_event(event);
        }
        // A wildcard's other interfaces follow in the same breath: whoever asks for the addresses now is to have them all.
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.on_swarm_event(event);
        }
        Ok(())
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

/// The name of this start.
fn instance() -> Result<String, NodeError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(NodeError::Random)?;
    Ok(HEXLOWER.encode(&bytes))
}

fn refused(address: &Multiaddr, error: TransportError<io::Error>) -> NodeError {
    match error {
        TransportError::MultiaddrNotSupported(_) => NodeError::UnsupportedAddress { address: address.clone() },
        TransportError::Other(error) => transport::listen_error(address, error),
    }
}

fn silent(addresses: &[Multiaddr]) -> NodeError {
    let address = addresses.first().cloned().unwrap_or_else(Multiaddr::empty);
    NodeError::Listen { address, source: io::ErrorKind::TimedOut.into() }
}
