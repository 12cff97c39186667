use std::sync::Arc;

use data_encoding::HEXLOWER;
use libp2p::{Swarm, swarm::Config};
use runtime_bridge::{Runtime, RuntimeExt};
use taskqueue_api::{ErrorCode, QueueError, RouteBook, TaskQueue};
use tokio::sync::oneshot;

use super::{
    NoFiles, NodeConfig, NodeError, NodeFiles, NodeHandle,
    arrivals::Arrivals,
    config::Entering,
    directory::Directory,
    driver::{NodeLoop, Parts},
    limits::IDLE_TIMEOUT,
    net::Net,
    transport,
};
use crate::{
    Identity, Mesh, Ticket,
    carrier::{Joiner, MeshQueue, Nothing},
    members::{Welcome, Wish},
    workers::keep_telling,
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
        Self::start_with(config, Queues { local, routes }, files, runtime, None).await
    }

    async fn start_with(
        config: NodeConfig,
        Queues { local, routes }: Queues,
        files: Arc<dyn NodeFiles>,
        runtime: Arc<dyn Runtime>,
        entering: Option<(Entering, oneshot::Sender<Welcome>)>,
    ) -> Result<NodeHandle, NodeError> {
        let (directory, ends) = Directory::new(&config, files, Arc::clone(&runtime));
        let queue: Arc<dyn TaskQueue> = Arc::new(MeshQueue::new(Arc::clone(&directory), local, routes));
        let service = config.serves.then(|| Arc::clone(&queue));
        let swarm = swarm(&config, &runtime)?;
        let instance = instance()?;
        let identity = config.identity;
        let parts = Parts { swarm, ends, directory: Arc::clone(&directory), service, instance, identity, entering };
        // Boxed, because the swarm is large and would be a part of the future of every start.
        let mut node = Box::new(NodeLoop::new(parts));
        node.listen(&config.listen).await?;
        node.keep_relays(&config.reach.relays);
        runtime.spawn(node.run()).detach();
        Joiner { directory: Arc::clone(&directory) }.keep_joining();
        if config.serves {
            directory.remember_workers();
            runtime.spawn(keep_telling(Arc::downgrade(&directory))).detach();
        }
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
        mesh: Mesh,
        runtime: Arc<dyn Runtime>,
    ) -> Result<NodeHandle, NodeError> {
        let config = NodeConfig::client(identity, mesh);
        Self::start(config, Arc::new(Nothing), Arc::new(Nothing), Arc::new(NoFiles), runtime).await
    }

    /// Becomes a member of the mesh of a ticket. Returns the part in that mesh, which a node is then started with.
    ///
    /// A machine that asks again with the same ticket, because the answer was lost, is let in again.
    ///
    /// `name` is the name that a person chose for this machine. Without one it is called as its host, with a number
    /// behind it if another machine has that name.
    ///
    /// # Errors
    ///
    /// `unreachable` when the machine that invites cannot be reached; `unauthorized` when it refuses, with the reason;
    /// `invalid_argument` when the name cannot be that of a machine.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, this machine may have become a member. Ask again with the same ticket.
    pub async fn enter(
        identity: Identity,
        ticket: &Ticket,
        name: Option<&str>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Mesh, QueueError> {
        let (own, peer, mesh) = (identity.peer_id(), ticket.peer_id(), ticket.mesh());
        let wish = Wish::of(name, own)?;
        let internal = |error: &dyn std::error::Error| QueueError::new(ErrorCode::Internal, error.to_string());
        // The client needs a mesh of its own, which it never uses.
        let unused = Mesh::begin(&identity, "newcomer").map_err(|error| internal(&error))?;
        let (reply, welcome) = oneshot::channel();
        let entering = Some((Entering { ticket: ticket.clone(), wish }, reply));
        let queues = Queues { local: Arc::new(Nothing), routes: Arc::new(Nothing) };
        let config = NodeConfig::client(identity, unused);
        let client = Self::start_with(config, queues, Arc::new(NoFiles), runtime, entering).await;
        let client = client.map_err(|error| internal(&error))?;
        let addresses = ticket.addresses().iter().filter_map(|address| address.clone().with_p2p(peer).ok());
        let welcome = client.welcome(peer, addresses.collect(), welcome).await;
        client.shutdown().await;
        Mesh::of_newcomer(welcome?, mesh, own)
            .map_err(|error| QueueError::new(ErrorCode::Unauthorized, format!("{peer}: {error}")))
    }
}

/// Where a node's own tasks are kept, and which peer keeps which other task.
struct Queues {
    local: Arc<dyn TaskQueue>,
    routes: Arc<dyn RouteBook>,
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
