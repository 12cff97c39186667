//! One connection's life after its stream is open: the handshake, then the session.

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, Stream, swarm::ConnectionId};
use runtime_bridge::{Runtime, RuntimeExt, Spawned};
use taskqueue_api::{Caller, Grants, Member, TaskQueue};
use tokio::sync::mpsc;

use super::config::Entering;
use crate::{
    members::Welcome,
    wire::{Driver, HandshakeError, Met, Ours, Proven, Role, Service, Session, SessionEnd, enter, prove},
};

/// A report of a link to the node's loop.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerId,
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// The peer has shown that it is a member, and its session is open.
    Proven(Box<Proof>),
    /// The peer has become a member by a ticket. It comes in by another connection.
    Newcomer,
    /// The peer has made this machine a member.
    Welcomed(Box<Welcome>),
    Refused(HandshakeError),
    Ended(SessionEnd),
}

#[derive(Debug)]
pub(super) struct Proof {
    pub(super) session: Session,
    pub(super) grants: Arc<Grants>,
    /// The number of the last change of the members that the peer has heard of in the handshake.
    pub(super) heard: u64,
    pub(super) serves: bool,
    pub(super) instance: String,
    pub(super) software: String,
    pub(super) addresses: Vec<Multiaddr>,
}

/// A connection whose stream is open and which is to be served.
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerId,
    pub(super) role: Role,
    pub(super) stream: Stream,
    pub(super) ours: Ours,
    /// Answers the peer. `None` for a client, which answers nothing.
    pub(super) queue: Option<Arc<dyn TaskQueue>>,
    /// The ticket by which this machine wants to become a member here.
    pub(super) entering: Option<Entering>,
    /// The loop holds the receiver.
    pub(super) reports: mpsc::Sender<Report>,
}

impl Link {
    /// Starts the job that serves the connection. Dropping the returned handle ends the session.
    pub(super) fn start(self, runtime: &Arc<dyn Runtime>) -> Spawned<()> {
        runtime.spawn(self.serve(Arc::clone(runtime)))
    }

    async fn serve(mut self, runtime: Arc<dyn Runtime>) {
        let (connection, peer, reports) = (self.connection, self.peer, self.reports.clone());
        let report = async |news| {
            // An error means that the loop has ended, and every connection with it.
            let _ended = reports.send(Report { connection, peer, news }).await;
        };
        if let Some(Entering { ticket, wish }) = &self.entering {
            let own = self.ours.membership.own();
            let entered = enter(&mut self.stream, own, ticket.secret(), wish, peer, &*runtime).await;
            report(entered.map_or_else(News::Refused, |welcome| News::Welcomed(Box::new(welcome)))).await;
            return;
        }
        match prove(&mut self.stream, &self.ours, peer, self.role, &*runtime).await {
            Err(error) => report(News::Refused(error)).await,
            Ok(Met::Newcomer) => report(News::Newcomer).await,
            Ok(Met::Member(proven)) => {
                let Proven { grants, heard, serves, instance, software, addresses, agreed } = *proven;
                let caller = Caller::Peer(Member { peer, grants: Arc::clone(&grants) });
                let service = self.queue.map(|queue| Service { queue, caller });
                let (session, driver) = Driver::new(self.stream, agreed, service, runtime);
                let proof = Proof { session, grants, heard, serves, instance, software, addresses };
                report(News::Proven(Box::new(proof))).await;
                let end = driver.await;
                report(News::Ended(end)).await;
            }
        }
    }
}
