#[path = "dialling.rs"]
mod dialling;
#[path = "driver_finding.rs"]
mod finding;
#[path = "driver_kademlia.rs"]
mod kademlia;
#[path = "driver_links.rs"]
mod links;
#[path = "membership.rs"]
mod membership;
#[path = "driver_reach.rs"]
mod reach;
#[path = "driver_rendezvous.rs"]
mod rendezvous;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{Stream, Swarm, core::transport::ListenerId, swarm::SwarmEvent};
use taskqueue_api::{Method, TaskQueue};
use tokio::sync::{mpsc, oneshot, watch};

use self::membership::Followed;
use super::{
    config::Entering,
    connections::Connections,
    directory::{Command, Directory, LoopEnds},
    ending::Ending,
    finding::Deferred,
    finding_kademlia::Lookups,
    finding_mdns::Neighbours,
    finding_rendezvous::Points,
    limits::REPORTS_MAX,
    link::Report,
    net::{Net, NetEvent},
    own_addresses::OwnAddresses,
    peer_entry::Waiter,
    peers::Peers,
    reach_relays::{Relays, trace},
    refusals::Refusals,
};
use crate::{Identity, discovery::Namespace, members::Welcome};

/// The one loop that owns the swarm. Everything that changes the node's connections happens here, one event at a time.
///
/// ```text
///   commands (handle, carriers) ─┐
///   events (swarm) ──────────────┼─▶ loop ─▶ directory: whom can be asked, over which session
///   reports (links) ─────────────┤
///   alarm (redials, saving) ─────┘
/// ```
///
/// Each machine keeps one part of the node's state: it takes what has happened and returns what is to be done. A
/// machine does not see the swarm, a clock or another machine. The loop passes events to the machines and carries out
/// what they return.
pub(super) struct NodeLoop {
    /// Boxed, because it is large and would be a part of the future that starts a node.
    swarm: Box<Swarm<Net>>,
    listeners: Vec<ListenerId>,
    ends: LoopEnds,
    directory: Arc<Directory>,
    /// Answers the peers. `None` for a client.
    service: Option<Arc<dyn TaskQueue>>,
    /// The name of this start of the node, drawn at random.
    instance: String,
    /// Signs the record that says where this node is.
    identity: Identity,
    /// The name under which this node looks for its mesh.
    namespace: Namespace,
    followed: Followed,
    members_changes: watch::Receiver<u64>,
    /// The ticket by which a client becomes a member, and who waits for that.
    entering: Option<(Entering, oneshot::Sender<Welcome>)>,
    /// The streams to the relays on the way of a client that becomes a member.
    held: Vec<Stream>,
    peers: Peers,
    connections: Connections,
    refusals: Refusals,
    deferred: Deferred,
    neighbours: Neighbours,
    points: Points,
    lookups: Lookups,
    relays: Relays,
    own_addresses: OwnAddresses,
    ending: Ending,
    reports: mpsc::Receiver<Report>,
    /// Every link holds a clone.
    reports_tx: mpsc::Sender<Report>,
}

/// The parts of a loop that its creator provides.
pub(super) struct Parts {
    pub(super) swarm: Box<Swarm<Net>>,
    pub(super) ends: LoopEnds,
    pub(super) directory: Arc<Directory>,
    pub(super) service: Option<Arc<dyn TaskQueue>>,
    pub(super) instance: String,
    pub(super) identity: Identity,
    pub(super) entering: Option<(Entering, oneshot::Sender<Welcome>)>,
}

impl NodeLoop {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { swarm, ends, directory, service, instance, identity, entering } = parts;
        let (reports_tx, reports) = mpsc::channel(REPORTS_MAX);
        let (now, is_client) = (directory.runtime.now(), service.is_none());
        let mut peers = Peers::new(directory.peer_id, !is_client);
        // A client dials only the peers that it is told to dial.
        if !is_client {
            peers.load(directory.files.load_peers(), now);
            for (peer, address) in directory.discovery.configured() {
                peers.configure(peer, address, now);
            }
        }
        let discovery = &directory.discovery;
        let (has_points, has_table) = (discovery.is_on(Method::Rendezvous), discovery.is_on(Method::Kademlia));
        Self {
            points: Points::new(discovery.points().to_vec()),
            lookups: Lookups::new(has_table),
            own_addresses: OwnAddresses::new(has_points || has_table),
            swarm,
            listeners: Vec::new(),
            ends,
            service,
            instance,
            identity,
            namespace: directory.discovery.namespace(&directory.membership.newest_secret()),
            followed: Self::nothing_followed(&directory.membership),
            members_changes: directory.membership.changes(),
            entering,
            held: Vec::new(),
            directory,
            peers,
            connections: Connections::default(),
            refusals: Refusals::default(),
            deferred: Deferred::default(),
            neighbours: Neighbours::default(),
            relays: Relays::default(),
            ending: Ending::default(),
            reports,
            reports_tx,
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self: Box<Self>) {
        // The last run may have ended before the leases of a removed machine did.
        self.follow_members(None);
        while !self.is_over() {
            self.dial_due();
            self.reserve_due();
            self.save_due();
            self.find_due();
            self.close_silent_due();
            let alarm = self.next_alarm();
            let alarm = self.directory.runtime.sleep_until(alarm);
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(report) = self.reports.recv() => self.on_report(report),
                Some(command) = self.ends.commands.recv() => self.on_command(command),
                Ok(()) = self.members_changes.changed() => self.follow_members(None),
                () = alarm => {}
            }
        }
        self.save_unsaved();
        let Self { swarm, connections, ending, .. } = *self;
        drop(connections);
        drop(swarm);
        ending.tell();
    }

    fn now(&self) -> Instant {
        self.directory.runtime.now()
    }

    fn is_over(&self) -> bool {
        self.ending.is_over(!self.connections.is_empty(), self.now())
    }

    fn next_alarm(&mut self) -> Instant {
        if let Some(deadline) = self.ending.deadline() {
            return deadline;
        }
        // If nothing is due, any late time will do.
        let far = self.now() + Duration::from_secs(3_600);
        let relays = self.relays.next_due(|relay| self.peers.has_direct_session(relay));
        let finding = [self.points.next_due(), self.lookups.next_due()];
        let due = [self.peers.next_due(), self.connections.next_due(), relays].into_iter().chain(finding);
        due.flatten().fold(far, Instant::min)
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<NetEvent>) {
        match event {
            SwarmEvent::Behaviour(NetEvent::Links(opened)) => self.on_opened(opened),
            SwarmEvent::Behaviour(NetEvent::Mdns(event)) => self.on_mdns(event),
            SwarmEvent::Behaviour(NetEvent::Reach(event)) => trace(&event),
            SwarmEvent::Behaviour(NetEvent::Rendezvous(event)) => self.on_rendezvous(event),
            SwarmEvent::Behaviour(NetEvent::Kademlia(event)) => self.on_kademlia(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let cause = cause.map_or_else(|| "the connection was closed".to_owned(), |cause| cause.to_string());
                self.on_closed(peer_id, connection_id, &cause);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), connection_id, error } => {
                self.on_dial_error(peer, connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "an incoming connection failed");
                self.refusals.count_incoming(&error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.on_listen_address(listener_id, &address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listen_address_gone(&address),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => self.on_listener_closed(listener_id, &reason),
            // Another behaviour has learned at which address this node is reached from elsewhere, or is no longer.
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.on_listeners_changed();
                self.own_addresses_changed();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener failed to accept"),
            _ => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Connect { peer, addresses, patience, reply } => {
                self.on_connect(peer, addresses, Waiter { patience, reply });
            }
            Command::Peers { connected_only, reply } => drop(reply.send(self.peers.list(connected_only))),
            Command::Transport { reply } => drop(reply.send(self.transport_status())),
            Command::Search { method, search } => self.on_search(method, search),
            Command::Befriend { peer, addresses } => self.befriend(peer, &addresses),
            Command::ChangeMembers { change, reply } => self.on_change_members(change, reply),
            Command::Shutdown { reply } => self.on_shutdown(reply),
        }
    }
}
