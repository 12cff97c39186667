//! One connection's life after its stream is open: the handshake, then the session.

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, Stream, swarm::ConnectionId};
use runtime_bridge::{Runtime, RuntimeExt, Spawned};
use tokio::sync::mpsc;

use crate::wire::{Driver, HandshakeError, Ours, Role, Service, Session, SessionEnd, prove};

/// A report of a link to the node's loop.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerId,
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// The peer has proved itself, and its session is open.
    Proven(Box<Proof>),
    Refused(HandshakeError),
    Ended(SessionEnd),
}

#[derive(Debug)]
pub(super) struct Proof {
    pub(super) session: Session,
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
    /// `None` for a client, which answers nothing.
    pub(super) service: Option<Service>,
    /// The loop holds the receiver.
    pub(super) reports: mpsc::Sender<Report>,
}

impl Link {
    /// Starts the job that serves the connection. Dropping the returned handle ends the session.
    pub(super) fn start(self, runtime: &Arc<dyn Runtime>) -> Spawned<()> {
        runtime.spawn(self.serve(Arc::clone(runtime)))
    }

    async fn serve(mut self, runtime: Arc<dyn Runtime>) {
        let (connection, peer, reports) = (self.connection, self.peer, self.reports);
        let report = async |news| {
            // An error means that the loop has ended, and every connection with it.
            let _ended = reports.send(Report { connection, peer, news }).await;
        };
        match prove(&mut self.stream, &self.ours, peer, self.role, &*runtime).await {
            Err(error) => report(News::Refused(error)).await,
            Ok(proven) => {
                let (session, driver) = Driver::new(self.stream, proven.agreed, self.service, runtime);
                let proof = Proof {
                    session,
                    serves: proven.serves,
                    instance: proven.instance,
                    software: proven.software,
                    addresses: proven.addresses,
                };
                report(News::Proven(Box::new(proof))).await;
                let end = driver.await;
                report(News::Ended(end)).await;
            }
        }
    }
}
