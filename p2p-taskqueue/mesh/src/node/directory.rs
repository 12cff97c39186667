use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use runtime_bridge::Runtime;
use taskqueue_api::{ErrorCode, Method, Peer, QueueError, TransportStatus};
use tokio::sync::{mpsc, oneshot, watch};

use super::{NodeConfig, NodeFiles, peer_entry::Patience, reach_config::Means};
use crate::{
    Identity, Mesh,
    discovery::{self, DiscoveryConfig, Search},
    members::{MembersError, Membership, Standing},
    wire::{Session, within},
    workers::WorkerBook,
};

/// The state that the handle and the carriers share with the node's loop. They use an open session without asking the
/// loop.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) peer_id: PeerId,
    pub(crate) mode: String,
    pub(crate) p2p_runtime: String,
    pub(crate) started: Instant,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) discovery: DiscoveryConfig,
    /// Whether this node is a relay through which others are reached.
    pub(super) is_relay: bool,
    pub(crate) files: Arc<dyn NodeFiles>,
    /// Who belongs to the mesh.
    pub(crate) membership: Arc<Membership>,
    /// What is known of the workers of the mesh.
    pub(crate) workers: WorkerBook,
    /// The node's own addresses. The loop holds the sender.
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    /// The peers that can be asked. The loop holds the sender.
    pub(crate) serving: watch::Receiver<Vec<PeerId>>,
    /// The loop holds the receiver.
    pub(super) commands: mpsc::Sender<Command>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<PeerId, Vec<Session>>,
}

/// A request to the loop.
#[derive(Debug)]
pub(super) enum Command {
    /// Give a session with the peer, and dial the peer if need be.
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        patience: Patience,
        /// The caller holds the receiver, as in every other command.
        reply: oneshot::Sender<Result<Session, QueueError>>,
    },
    Peers {
        connected_only: bool,
        reply: oneshot::Sender<Vec<Peer>>,
    },
    /// Report the state of the connections.
    Transport {
        reply: oneshot::Sender<TransportStatus>,
    },
    /// Look for peers by a method that needs the swarm.
    Search {
        method: Method,
        search: Search,
    },
    /// Dial the peer of a ticket, by which this node has become a member, and remember it.
    Befriend {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Make a change of the members, and tell the peers of it. The reply names those that know of it.
    ChangeMembers {
        change: MembersChange,
        reply: oneshot::Sender<Result<Vec<PeerId>, QueueError>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// A change of the members, to be made by the loop.
pub(super) struct MembersChange(
    #[expect(clippy::type_complexity, reason = "it is written once")]
    pub(super)  Box<dyn FnOnce(&mut Mesh, &Identity) -> Result<(), MembersError> + Send>,
);

impl fmt::Debug for MembersChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MembersChange")
    }
}

/// The loop's ends of the channels of a new directory.
pub(super) struct LoopEnds {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) addresses: watch::Sender<Vec<Multiaddr>>,
    pub(super) serving: watch::Sender<Vec<PeerId>>,
}

impl Directory {
    pub(super) fn new(
        config: &NodeConfig,
        files: Arc<dyn NodeFiles>,
        runtime: Arc<dyn Runtime>,
    ) -> (Arc<Self>, LoopEnds) {
        let (commands_tx, commands) = mpsc::channel(super::limits::COMMANDS_MAX);
        let (addresses, addresses_rx) = watch::channel(Vec::new());
        let (serving, serving_rx) = watch::channel(Vec::new());
        let membership = Membership::new(config.identity.clone(), config.mesh.clone(), Arc::clone(&files));
        let directory = Self {
            peer_id: config.identity.peer_id(),
            mode: config.mode.clone(),
            p2p_runtime: config.p2p_runtime.clone(),
            started: runtime.now(),
            runtime,
            discovery: config.discovery.clone(),
            is_relay: config.reach.is_on(Means::RelayServer),
            files,
            membership,
            workers: WorkerBook::new(config.identity.peer_id()),
            addresses: addresses_rx,
            serving: serving_rx,
            commands: commands_tx,
            state: Mutex::default(),
        };
        (Arc::new(directory), LoopEnds { commands, addresses, serving })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an open session with the peer, if there is one.
    pub(crate) fn standing(&self, peer: PeerId) -> Option<Session> {
        self.lock().sessions.get(&peer).and_then(|all| all.iter().find(|one| one.is_open()).cloned())
    }

    /// Returns a session with the peer: an open one, or else one that the loop opens within the timeout.
    pub(crate) async fn session_with(
        &self,
        peer: PeerId,
        addresses: &[Multiaddr],
        patience: Patience,
        timeout: Duration,
    ) -> Result<Session, QueueError> {
        if let Some(session) = self.standing(peer) {
            return Ok(session);
        }
        let asked = self.ask(|reply| Command::Connect { peer, addresses: addresses.to_vec(), patience, reply });
        match within(timeout, asked, &*self.runtime).await {
            Some(answered) => answered?,
            None => {
                let message = format!("{peer}: no connection within {} s", timeout.as_secs_f64());
                Err(QueueError::new(ErrorCode::Unreachable, message))
            }
        }
    }

    /// Returns a session with the peer, as [`session_with`](Self::session_with) does. If the peer is not known or
    /// cannot be reached, looks for it by the discovery methods in the time that is left.
    pub(crate) async fn reach(
        &self,
        peer: PeerId,
        addresses: &[Multiaddr],
        patience: Patience,
        timeout: Duration,
    ) -> Result<Session, QueueError> {
        let started = self.runtime.now();
        match self.session_with(peer, addresses, patience, timeout).await {
            Err(missing) if matches!(missing.code, ErrorCode::NotFound | ErrorCode::Unreachable) => {
                let left = timeout.saturating_sub(self.runtime.now().saturating_duration_since(started));
                // Boxed: it is large, and seldom needed.
                Box::pin(discovery::find(self, peer, missing, left)).await
            }
            reached => reached,
        }
    }

    /// Looks for peers by a method that needs the swarm. What it finds comes out of the receiver that belongs to the
    /// search.
    pub(crate) async fn search(&self, method: Method, search: Search) -> Result<(), QueueError> {
        let stopped = |_| QueueError::new(ErrorCode::ShuttingDown, "the node has stopped");
        self.commands.send(Command::Search { method, search }).await.map_err(stopped)
    }

    /// Returns the peers that the node knows.
    pub(crate) async fn peers(&self, connected_only: bool) -> Result<Vec<Peer>, QueueError> {
        let mut peers = self.ask(|reply| Command::Peers { connected_only, reply }).await?;
        let names = self.membership.names();
        peers.iter_mut().for_each(|peer| peer.name = names.get(&peer.peer_id).cloned());
        Ok(peers)
    }

    /// Returns the state of the node's connections.
    pub(crate) async fn transport_status(&self) -> Result<TransportStatus, QueueError> {
        self.ask(|reply| Command::Transport { reply }).await
    }

    /// Dials the peer of a ticket, by which this node has become a member, and remembers it.
    pub(crate) async fn befriend(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<(), QueueError> {
        let stopped = |_| QueueError::new(ErrorCode::ShuttingDown, "the node has stopped");
        self.commands.send(Command::Befriend { peer, addresses }).await.map_err(stopped)
    }

    /// Makes a change of the members on this node, and tells the connected peers of it. Returns the peers that know of it.
    pub(crate) async fn change_members(
        &self,
        change: impl FnOnce(&mut Mesh, &Identity) -> Result<(), MembersError> + Send + 'static,
    ) -> Result<Vec<PeerId>, QueueError> {
        let change = MembersChange(Box::new(change));
        self.ask(|reply| Command::ChangeMembers { change, reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, QueueError> {
        let stopped = || QueueError::new(ErrorCode::ShuttingDown, "the node has stopped");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    /// Takes in what was known of the workers of other machines before a restart.
    pub(super) fn remember_workers(&self) {
        let Some(text) = self.files.load_workers() else { return };
        self.workers.remember(&text, |peer| match self.membership.standing(peer) {
            Standing::Member(grants) => Some(grants),
            Standing::Removed | Standing::Stranger => None,
        });
    }

    pub(super) fn set_sessions(&self, peer: PeerId, sessions: Vec<Session>) {
        let mut state = self.lock();
        if sessions.is_empty() {
            state.sessions.remove(&peer);
        } else {
            state.sessions.insert(peer, sessions);
        }
        drop(state);
        self.workers.touch();
    }
}
