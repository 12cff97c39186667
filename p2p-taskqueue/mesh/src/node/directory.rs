use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use runtime_bridge::Runtime;
use taskqueue_api::{ErrorCode, Method, Peer, QueueError, ToolOffer, TransportStatus};
use tokio::sync::{mpsc, oneshot, watch};

use super::{NodeConfig, NodeFiles, peer_entry::Patience, reach_config::Means};
use crate::{
    MeshSecret, Ticket,
    discovery::{self, DiscoveryConfig, Search},
    wire::{Session, within},
};

/// What the handle and the carriers share with the node's loop: where a session stands, it is used without asking the loop.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) peer_id: PeerId,
    pub(crate) mode: String,
    pub(crate) p2p_runtime: String,
    pub(crate) started: Instant,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) discovery: DiscoveryConfig,
    /// Whether others are reached through this node.
    pub(super) is_relay: bool,
    pub(crate) files: Arc<dyn NodeFiles>,
    /// The loop sends where it listens.
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    /// The loop sends whom it can ask.
    pub(crate) serving: watch::Receiver<Vec<PeerId>>,
    /// The loop takes these.
    pub(super) commands: mpsc::Sender<Command>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sessions: HashMap<PeerId, Vec<Session>>,
    tools: Vec<ToolOffer>,
    secret: MeshSecret,
}

/// What the loop is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Give a session with the peer, dialling it if need be.
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        patience: Patience,
        /// The caller holds the other end, as in all of these.
        reply: oneshot::Sender<Result<Session, QueueError>>,
    },
    Peers {
        connected_only: bool,
        reply: oneshot::Sender<Vec<Peer>>,
    },
    /// Say how the connections stand.
    Transport {
        reply: oneshot::Sender<TransportStatus>,
    },
    /// Look for peers by a way that needs the swarm.
    Search {
        method: Method,
        search: Search,
    },
    /// Take the ticket's secret and peer.
    Join {
        ticket: Box<Ticket>,
        reply: oneshot::Sender<Result<(), QueueError>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// The receiving ends of a new directory, for the loop.
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
        let state = State { sessions: HashMap::new(), tools: Vec::new(), secret: config.secret.clone() };
        let directory = Self {
            peer_id: config.identity.peer_id(),
            mode: config.mode.clone(),
            p2p_runtime: config.p2p_runtime.clone(),
            started: runtime.now(),
            runtime,
            discovery: config.discovery.clone(),
            is_relay: config.reach.is_on(Means::RelayServer),
            files,
            addresses: addresses_rx,
            serving: serving_rx,
            commands: commands_tx,
            state: Mutex::new(state),
        };
        (Arc::new(directory), LoopEnds { commands, addresses, serving })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that stands.
    pub(crate) fn standing(&self, peer: PeerId) -> Option<Session> {
        self.lock().sessions.get(&peer).and_then(|all| all.iter().find(|one| one.is_open()).cloned())
    }

    /// A session with the peer: one that stands, or else one that the loop makes within the timeout.
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

    /// A session with the peer, as [`session_with`](Self::session_with); when it is not known here, or not where it was,
    /// it is looked for.
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

    /// Looks for peers by a way that needs the swarm; what it finds comes out of the search's other end.
    pub(crate) async fn search(&self, method: Method, search: Search) -> Result<(), QueueError> {
        let stopped = |_| QueueError::new(ErrorCode::ShuttingDown, "the node has stopped");
        self.commands.send(Command::Search { method, search }).await.map_err(stopped)
    }

    /// The peers that the node knows.
    pub(crate) async fn peers(&self, connected_only: bool) -> Result<Vec<Peer>, QueueError> {
        self.ask(|reply| Command::Peers { connected_only, reply }).await
    }

    /// How the connections stand.
    pub(crate) async fn transport_status(&self) -> Result<TransportStatus, QueueError> {
        self.ask(|reply| Command::Transport { reply }).await
    }

    /// Takes the ticket's secret and peer; the connection follows.
    pub(crate) async fn join(&self, ticket: Ticket) -> Result<(), QueueError> {
        self.ask(|reply| Command::Join { ticket: Box::new(ticket), reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, QueueError> {
        let stopped = || QueueError::new(ErrorCode::ShuttingDown, "the node has stopped");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    pub(super) fn set_sessions(&self, peer: PeerId, sessions: Vec<Session>) {
        let mut state = self.lock();
        if sessions.is_empty() {
            state.sessions.remove(&peer);
        } else {
            state.sessions.insert(peer, sessions);
        }
    }

    /// What this node's own workers can be given to do.
    pub(crate) fn tools(&self) -> Vec<ToolOffer> {
        self.lock().tools.clone()
    }

    pub(super) fn set_tools(&self, tools: Vec<ToolOffer>) {
        self.lock().tools = tools;
    }

    pub(crate) fn secret(&self) -> MeshSecret {
        self.lock().secret.clone()
    }

    pub(super) fn set_secret(&self, secret: MeshSecret) {
        self.lock().secret = secret;
    }
}
