//! The transports: TCP, encrypted with Noise, multiplexed with Yamux. The only file to change for another one.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    multiaddr::Protocol,
    noise, tcp, yamux,
};

use super::{
    NodeError,
    limits::{DIAL_TIMEOUT, STREAMS_MAX},
};
use crate::Identity;

/// Builds the transports. To be called in a tokio context, which the sockets need.
pub(super) fn build(identity: &Identity) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NodeError> {
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(STREAMS_MAX);
    let encryption = noise::Config::new(identity.keypair()).map_err(|error| NodeError::Noise(error.into()))?;
    Ok(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(encryption)
        .multiplex(streams)
        .timeout(DIAL_TIMEOUT)
        .boxed())
}

/// Refuses an address where somebody listens already. The transport shares its ports with other sockets of the same user,
/// so that it would not notice.
pub(super) fn check_free(address: &Multiaddr) -> Result<(), NodeError> {
    let unsupported = || NodeError::UnsupportedAddress { address: address.clone() };
    let socket = socket_address(address).ok_or_else(unsupported)?;
    if socket.port() == 0 {
        return Ok(());
    }
    match TcpListener::bind(socket) {
        Ok(_free) => Ok(()),
        Err(error) => Err(listen_error(address, error)),
    }
}

/// Names the address in what the operating system said.
pub(super) fn listen_error(address: &Multiaddr, source: io::Error) -> NodeError {
    let address = address.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::AddressInUse { address },
        _ => NodeError::Listen { address, source },
    }
}

/// Where to listen: `/ip4/…/tcp/…` or `/ip6/…/tcp/…`.
fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Whether the address is of this machine only.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// The address without the peer id at its end.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// The address with the peer id at its end, as others use it.
pub(super) fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    without_peer(address).with(Protocol::P2p(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_noticed() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        assert!(matches!(check_free(&address), Err(NodeError::AddressInUse { .. })));
        drop(taken);
        assert!(check_free(&address).is_ok());
    }

    #[test]
    fn only_tcp_addresses_can_be_listened_on() {
        for text in ["/ip4/127.0.0.1/udp/1/quic-v1", "/dns4/example.org/tcp/1", "/ip4/127.0.0.1/tcp/1/ws", "/memory/1"]
        {
            let address: Multiaddr = text.parse().unwrap();
            assert!(matches!(check_free(&address), Err(NodeError::UnsupportedAddress { .. })), "{text}");
        }
    }
}
