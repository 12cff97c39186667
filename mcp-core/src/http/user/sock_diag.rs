//! Linux: the socket diagnostics of the kernel, over netlink.

use std::{io, net::SocketAddr};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_SOCK_DIAG};
use rustix::{io::Errno, process::geteuid};

use super::{Unknown, canonical};

/// Asks the kernel for the owner of one socket: the other end of the connection between these two addresses.
///
/// The question names both addresses, so the kernel looks the socket up, and goes through no list.
pub(super) fn uid_of(here: SocketAddr, there: SocketAddr) -> Result<u32, Unknown> {
    let found = ask(&question(here, there)).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Unknown::Closed,
        _ => Unknown::Untold(format!("the kernel does not tell ({error})")),
    })?;
    owner(&found, here, there)
}

pub(super) fn own_uid() -> Option<u32> {
    Some(geteuid().as_raw())
}

fn question(here: SocketAddr, there: SocketAddr) -> Vec<u8> {
    let socket_id = SocketId {
        source_port: there.port(),
        destination_port: here.port(),
        source_address: there.ip(),
        destination_address: here.ip(),
        interface_id: 0,
        cookie: NO_COOKIE,
    };
    let request = InetRequest {
        family: if there.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Asks the kernel. The answer is there when the question has been sent, so a socket that never waits is enough.
fn ask(question: &[u8]) -> io::Result<InetResponseHeader> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    let kernel = NetlinkAddress::new(0, 0);
    socket.send_to(question, &kernel, 0)?;
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    let (_, from) = socket.recv_from(&mut bytes, 0)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an answer of another kind");
    if from.port_number() != kernel.port_number() {
        return Err(odd());
    }
    match NetlinkMessage::<SockDiagMessage>::deserialize(&bytes).map_err(|_| odd())?.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => Ok(response.header),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(odd()),
    }
}

/// Returns the owner of the socket if it is the one that was asked for, and a process has it open.
///
/// A socket that its process has closed has no inode, and the kernel says that its owner is root, whoever that was. And
/// where the other end is gone, the kernel may find a listener at its address.
fn owner(found: &InetResponseHeader, here: SocketAddr, there: SocketAddr) -> Result<u32, Unknown> {
    let id = &found.socket_id;
    let source = canonical(SocketAddr::new(id.source_address, id.source_port));
    let destination = canonical(SocketAddr::new(id.destination_address, id.destination_port));
    let state = StateFlags::from_bits_truncate(1_u32.checked_shl(found.state.into()).unwrap_or_default());
    // A client that has sent everything may have closed its side for writing.
    let open = StateFlags::ESTABLISHED | StateFlags::FIN_WAIT1 | StateFlags::FIN_WAIT2;
    let is_open = open.intersects(state) && found.inode != 0;
    if (source, destination) == (there, here) && is_open { Ok(found.uid) } else { Err(Unknown::Closed) }
}

/// Says that the addresses alone name the socket.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// More than one socket without further attributes takes.
const ANSWER_BYTES: usize = 4_096;

#[cfg(test)]
#[path = "sock_diag_tests.rs"]
mod tests;
