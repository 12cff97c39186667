//! The performance of libp2p alone: 256 bytes there and back, on a stream that stays open or on a new one for each
//! request.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    noise,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, SubstreamProtocol, SwarmEvent, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
    tcp, yamux,
};
use runtime_bridge::{Runtime, RuntimeExt as _};
use tokio::sync::{mpsc, oneshot};

use super::Error;

/// The bytes that go there and back: about a small record.
pub(crate) const ECHO_BYTES: usize = 256;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/echo/1");

/// The most requests for a stream that may wait: more than clients ask at once.
const OPENS_MAX: usize = 1_024;

/// A request for a stream. The client that asks holds the other end.
type Opening = oneshot::Sender<Stream>;

/// A handle that opens streams to the only peer of a swarm.
#[derive(Debug, Clone)]
pub(crate) struct Opener(mpsc::Sender<Opening>);

impl Opener {
    pub(crate) async fn open(&self) -> Result<Stream, Error> {
        let (reply, stream) = oneshot::channel();
        self.0.send(reply).await?;
        Ok(stream.await?)
    }
}

/// Sends the bytes there and back once.
pub(crate) async fn echo(stream: &mut Stream) -> Result<(), Error> {
    let mut bytes = [7; ECHO_BYTES];
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(stream.read_exact(&mut bytes).await?)
}

async fn answer(mut stream: Stream) {
    let mut bytes = [0; ECHO_BYTES];
    while stream.read_exact(&mut bytes).await.is_ok() {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Starts an end that echoes, and returns its address. It has to be called on the runtime's thread.
pub(crate) async fn listen(at: Multiaddr, runtime: Arc<dyn Runtime>) -> Result<Multiaddr, Error> {
    let (mut swarm, _opener) = swarm(&runtime)?;
    swarm.listen_on(at)?;
    let peer = *swarm.local_peer_id();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with_p2p(peer).map_err(|address| format!("{address} names a peer"))?;
        }
    };
    drive(swarm, &runtime);
    Ok(address)
}

/// Starts an end that is connected to the one at this address. It has to be called on the runtime's thread.
pub(crate) async fn dial(address: Multiaddr, runtime: Arc<dyn Runtime>) -> Result<Opener, Error> {
    let (mut swarm, opener) = swarm(&runtime)?;
    swarm.dial(address)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => break,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    drive(swarm, &runtime);
    Ok(opener)
}

fn drive(mut swarm: Swarm<Streams>, runtime: &Arc<dyn Runtime>) {
    let driving = async move {
        loop {
            swarm.select_next_some().await;
        }
    };
    runtime.spawn(driving).detach();
}

fn swarm(runtime: &Arc<dyn Runtime>) -> Result<(Swarm<Streams>, Opener), Error> {
    let (opener, openings) = mpsc::channel(OPENS_MAX);
    let behaviour = Streams { openings, peer: None, runtime: Arc::clone(runtime) };
    let nodelay = tcp::Config::new().nodelay(true);
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(nodelay, noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(move |_| behaviour)?
        .build();
    Ok((swarm, Opener(opener)))
}

/// A behaviour that opens streams when it is asked, and echoes everything on the streams of the peer.
struct Streams {
    openings: mpsc::Receiver<Opening>,
    peer: Option<PeerId>,
    runtime: Arc<dyn Runtime>,
}

impl Streams {
    fn handler(&mut self, peer: PeerId) -> Handler {
        self.peer = Some(peer);
        Handler { openings: VecDeque::new(), runtime: Arc::clone(&self.runtime) }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<(), THandlerInEvent<Self>>> {
        let Some(peer_id) = self.peer else { return Poll::Pending };
        match self.openings.poll_recv(cx) {
            Poll::Ready(Some(event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            _ => Poll::Pending,
        }
    }
}

struct Handler {
    openings: VecDeque<Opening>,
    runtime: Arc<dyn Runtime>,
}

type Protocol = ReadyUpgrade<StreamProtocol>;

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = std::convert::Infallible;
    type InboundProtocol = Protocol;
    type OutboundProtocol = Protocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocol, Opening, std::convert::Infallible>> {
        let opening = self.openings.pop_front();
        opening.map_or(Poll::Pending, |opening| {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), opening);
            Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
        })
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        self.openings.push_back(opening);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocol, Protocol, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.runtime.spawn(answer(protocol)).detach();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                // The receiver is gone when the measurement has ended.
                let _gone = info.send(protocol);
            }
            _ => {}
        }
    }
}
