//! The transports: QUIC, and TCP encrypted with Noise and multiplexed with Yamux; names are looked up by DNS. Another
//! transport would change only this file.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeoutError},
        upgrade::Version,
    },
    dns,
    multiaddr::Protocol,
    noise, quic, relay, tcp, yamux,
};

use super::{
    NodeError,
    arrivals::{Arrivals, Endable, Listened},
    limits::{DIAL_TIMEOUT, QUIC_CONNECTION_BYTES, QUIC_IDLE, QUIC_KEEP_ALIVE, QUIC_STREAM_BYTES, STREAMS_MAX},
};
use crate::Identity;

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// Builds the transports, and the behaviour that the relayed transport needs in the swarm. It has to be called in a
/// tokio context, which the sockets need.
pub(super) fn build(
    identity: &Identity,
    arrivals: &Arrivals,
) -> Result<(Connections, relay::client::Behaviour), NodeError> {
    // The name lookup does not cover relayed addresses: the relay itself is dialled like any peer, by the other
    // transports.
    let (circuits, client) = relay::client::new(identity.peer_id());
    let connections = secured(circuits, identity, arrivals)?.or_transport(named(identity, arrivals)?);
    let connections = connections.map(|either, _| either.into_inner()).boxed();
    Ok((Endable::new(connections, arrivals.clone()).boxed(), client))
}

fn named(identity: &Identity, arrivals: &Arrivals) -> Result<Connections, NodeError> {
    match dns::tokio::Transport::system(sockets(identity, arrivals)?) {
        Ok(named) => Ok(named.boxed()),
        Err(error) => {
            tracing::warn!(%error, "this machine is not set up for name lookups: only numeric addresses can be dialled");
            sockets(identity, arrivals)
        }
    }
}

fn sockets(identity: &Identity, arrivals: &Arrivals) -> Result<Connections, NodeError> {
    let tcp = secured(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)), identity, arrivals)?;
    Ok(quic_transport(identity).or_transport(tcp).map(|either, _| either.into_inner()).boxed())
}

/// The error of a connection whose encryption was not agreed on in time.
#[derive(Debug, thiserror::Error)]
#[error("no encrypted connection within {} s", DIAL_TIMEOUT.as_secs())]
pub(super) struct TooSlow;

/// Carries [`TooSlow`] through the outer transports. Each of them may leave out the error that it wraps, but not the
/// source of that error.
#[derive(Debug, thiserror::Error)]
#[error("failed to set a connection up")]
struct SetUp(#[source] TooSlow);

fn in_time<E: std::error::Error + Send + Sync + 'static>(error: TransportTimeoutError<E>) -> io::Error {
    match error {
        TransportTimeoutError::Timeout => io::Error::other(SetUp(TooSlow)),
        other => io::Error::other(other),
    }
}

/// Adds encryption and multiplexing to a transport that only carries bytes.
fn secured<T>(sockets: T, identity: &Identity, arrivals: &Arrivals) -> Result<Connections, NodeError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(STREAMS_MAX);
    let encryption = noise::Config::new(identity.keypair()).map_err(|error| NodeError::Noise(error.into()))?;
    Ok(Listened::new(sockets, arrivals.clone())
        .upgrade(Version::V1Lazy)
        .authenticate(encryption)
        .multiplex(streams)
        .timeout(DIAL_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .map_err(in_time)
        .boxed())
}

fn quic_transport(identity: &Identity) -> Connections {
    let mut config = quic::Config::new(identity.keypair());
    config.handshake_timeout = DIAL_TIMEOUT;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_idle_timeout = QUIC_IDLE.as_millis().try_into().unwrap_or(u32::MAX);
    config.max_concurrent_stream_limit = STREAMS_MAX.try_into().unwrap_or(u32::MAX);
    config.max_stream_data = QUIC_STREAM_BYTES;
    config.max_connection_data = QUIC_CONNECTION_BYTES;
    quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()
}

/// Fails if another socket listens on the address already, or if no transport can listen on it. The transports would
/// not notice the other socket, because they share their ports with other sockets of the same user.
pub(super) fn check_free(address: &Multiaddr) -> Result<(), NodeError> {
    let unsupported = || NodeError::UnsupportedAddress { address: address.clone() };
    let (socket, kind) = listen_address(address).ok_or_else(unsupported)?;
    if socket.port() == 0 {
        return Ok(());
    }
    let bound = match kind {
        Kind::Tcp => TcpListener::bind(socket).map(drop),
        Kind::Quic => UdpSocket::bind(socket).map(drop),
    };
    bound.map_err(|error| listen_error(address, error))
}

/// Turns an error of the operating system into one that names the address.
pub(super) fn listen_error(address: &Multiaddr, source: io::Error) -> NodeError {
    let address = address.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::AddressInUse { address },
        _ => NodeError::Listen { address, source },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Quic,
}

/// Reads the socket address and the transport of an address to listen on: `/ip4/…/tcp/…`, `/ip4/…/udp/…/quic-v1`, and
/// the same with `ip6`.
fn listen_address(address: &Multiaddr) -> Option<(SocketAddr, Kind)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let (port, kind) = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => (port, Kind::Tcp),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => (port, Kind::Quic),
        _ => return None,
    };
    parts.next().is_none().then_some((SocketAddr::new(ip, port), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_noticed() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let tcp_address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{tcp_port}").parse().unwrap();
        let udp_address: Multiaddr = format!("/ip4/127.0.0.1/udp/{udp_port}/quic-v1").parse().unwrap();
        for address in [&tcp_address, &udp_address] {
            assert!(matches!(check_free(address), Err(NodeError::AddressInUse { .. })), "{address}");
        }
        drop((tcp, udp));
        for address in [&tcp_address, &udp_address] {
            assert!(check_free(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn only_addresses_of_the_transports_can_be_listened_on() {
        for text in [
            "/ip4/127.0.0.1/udp/1",
            "/dns4/example.org/tcp/1",
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/127.0.0.1/udp/1/quic-v1/p2p-circuit",
            "/memory/1",
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert!(matches!(check_free(&address), Err(NodeError::UnsupportedAddress { .. })), "{text}");
        }
    }
}
