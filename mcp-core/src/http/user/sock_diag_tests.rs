use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use taskqueue_api::testing::{DEADLINE, skipped};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use super::{super::CallingUser, *};

/// Listens at a free port of this address. `None` where there is no such address.
async fn listener(ip: IpAddr) -> Option<TcpListener> {
    match TcpListener::bind((ip, 0)).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            skipped(&format!("cannot listen on {ip}: {error}"));
            None
        }
    }
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    timeout(DEADLINE, listener.accept()).await.expect("a connection in time").unwrap().0
}

const MAPPED: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();

#[tokio::test]
async fn an_own_connection_comes_from_the_own_user() {
    let (v4, v6, mapped) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(MAPPED));
    // The third and the fourth meet at an IPv6 socket under IPv4 addresses.
    for (server, client) in [(v4, v4), (v6, v6), (mapped, v4), (mapped, mapped), (v4, mapped)] {
        let Some(listener) = listener(server).await else { continue };
        let address = SocketAddr::new(client, listener.local_addr().unwrap().port());
        let stream = TcpStream::connect(address).await.unwrap();
        let end = accepted(&listener).await;
        assert_eq!(CallingUser::of(&end), CallingUser(Ok(geteuid().as_raw())), "{server} from {client}");
        drop(stream);
    }
}

#[tokio::test]
async fn a_connection_to_all_addresses_is_told_as_well() {
    let Some(listener) = listener(Ipv6Addr::UNSPECIFIED.into()).await else { return };
    let port = listener.local_addr().unwrap().port();
    let _stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let end = accepted(&listener).await;
    assert_eq!(CallingUser::of(&end), CallingUser(Ok(geteuid().as_raw())));
}

#[tokio::test]
async fn a_client_that_has_sent_everything_is_still_told() {
    let listener = listener(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let end = accepted(&listener).await;
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&end).await, 0);
    assert_eq!(CallingUser::of(&end), CallingUser(Ok(geteuid().as_raw())));
}

/// Reads until the other end has closed its side, and returns how many bytes came.
async fn read_to_end(end: &TcpStream) -> usize {
    let mut buffer = [0; 64];
    loop {
        timeout(DEADLINE, end.readable()).await.expect("news in time").unwrap();
        match end.try_read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return 0,
            Ok(bytes) => return bytes,
        }
    }
}

/// The kernel says of a closed socket that root owns it. Whoever closes in time must not be taken for root.
#[tokio::test]
async fn a_closed_connection_comes_from_nobody() {
    let listener = listener(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    for resets in [false, true] {
        let socket = TcpSocket::new_v4().unwrap();
        if resets {
            socket.set_zero_linger().unwrap();
        }
        let stream = timeout(DEADLINE, socket.connect(address)).await.unwrap().unwrap();
        let end = accepted(&listener).await;
        drop(stream);
        read_to_end(&end).await;
        assert_eq!(CallingUser::of(&end), CallingUser(Err(Unknown::Closed)), "resets: {resets}");
    }
}

/// The kernel finds the listener at an address that no connection has.
#[tokio::test]
async fn a_listener_at_the_same_address_is_not_the_other_end() {
    let [there, here] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [there_at, here_at] = [&there, &here].map(|listener| listener.local_addr().unwrap());
    let found = ask(&question(here_at, there_at));
    assert!(found.is_ok(), "the kernel finds something: {found:?}");
    assert_eq!(uid_of(here_at, there_at), Err(Unknown::Closed));
    drop(there);
    assert_eq!(uid_of(here_at, there_at), Err(Unknown::Closed));
}

#[test]
fn only_an_open_socket_of_these_addresses_counts() {
    let (here, there): (SocketAddr, SocketAddr) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
    let found = |state: u8, inode: u32, source: SocketAddr| InetResponseHeader {
        family: AF_INET,
        state,
        timer: None,
        socket_id: SocketId {
            source_port: source.port(),
            destination_port: here.port(),
            source_address: source.ip(),
            destination_address: here.ip(),
            interface_id: 0,
            cookie: [0; 8],
        },
        recv_queue: 0,
        send_queue: 0,
        uid: 7,
        inode,
    };
    // By the numbers of the kernel's tcp_states.h: established, both FIN_WAIT.
    for state in 0..=u8::MAX {
        let counts = [1, 4, 5].contains(&state);
        assert_eq!(owner(&found(state, 9, there), here, there).is_ok(), counts, "{state}");
        assert_eq!(owner(&found(state, 0, there), here, there), Err(Unknown::Closed), "{state}: closed");
        assert!(owner(&found(state, 9, here), here, there).is_err(), "{state}: of another address");
    }
}

/// A child that connects as another user, and keeps the connection until it is ended.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn a_connection_of_another_user_comes_from_that_user() {
    if !geteuid().is_root() {
        return skipped("only root can start a process of another user");
    }
    let listener = listener(Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && exec sleep 600");
    let child = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "bash", "-c", &connect])
        .stdin(Stdio::null())
        .spawn();
    let child = match child {
        Ok(child) => Other(child),
        Err(error) => return skipped(&format!("cannot run setpriv: {error}")),
    };
    let end = match timeout(Duration::from_secs(10), listener.accept()).await {
        Ok(accepted) => accepted.unwrap().0,
        Err(_) => return skipped("setpriv or bash cannot connect as another user"),
    };
    assert_eq!(CallingUser::of(&end), CallingUser(Ok(65_534)));
    drop(child);
    read_to_end(&end).await;
    assert_eq!(CallingUser::of(&end), CallingUser(Err(Unknown::Closed)), "it is not taken for root");
}
