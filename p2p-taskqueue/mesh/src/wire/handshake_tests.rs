use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use proptest::prelude::*;
use runtime_bridge::RuntimeExt;

use super::*;
use crate::{
    Identity, NoFiles,
    testing::{ManualRuntime, Pipe, mesh, pipe, runtime, soon},
};

/// Returns what a machine of the mesh of this number says about itself, and its id.
pub(super) fn ours(number: u8) -> (Ours, PeerId) {
    let identity = Identity::generate().unwrap();
    let (peer, mesh) = (identity.peer_id(), mesh(number, &identity));
    (of_membership(Membership::new(identity, mesh, Arc::new(NoFiles))), peer)
}

pub(super) fn of_membership(membership: Arc<Membership>) -> Ours {
    let addresses = vec!["/ip4/127.0.0.1/tcp/9710".parse().unwrap()];
    Ours { membership, serves: true, instance: "i".to_owned(), addresses }
}

/// Returns a hello that names a ticket.
pub(in crate::wire) fn hello_with_ticket(ticket: TicketId) -> Hello {
    Hello { ticket: Some(ticket), ..hello(false, String::new(), &[7; NONCE_BYTES]) }
}

pub(super) fn member(met: Met) -> Proven {
    match met {
        Met::Member(proven) => *proven,
        Met::Newcomer => panic!("a newcomer"),
    }
}

/// Runs both ends against each other.
async fn meet(numbers: (u8, u8)) -> (Result<Met, HandshakeError>, Result<Met, HandshakeError>) {
    let (mut a, mut b) = pipe(64 * 1024);
    let ((ours_a, dialer), (ours_b, listener)) = (ours(numbers.0), ours(numbers.1));
    let runtime = runtime();
    soon(async {
        tokio::join!(
            prove(&mut a, &ours_a, listener, Role::Dialer, &*runtime),
            prove(&mut b, &ours_b, dialer, Role::Listener, &*runtime),
        )
    })
    .await
}

#[tokio::test]
async fn the_same_secret_lets_both_in() {
    let (dialer, listener) = meet((1, 1)).await;
    let (dialer, listener) = (member(dialer.unwrap()), member(listener.unwrap()));
    assert!(dialer.serves && listener.serves);
    assert_eq!(dialer.addresses, listener.addresses);
    assert_eq!(dialer.software, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn another_secret_is_told_to_both() {
    let (dialer, listener) = meet((1, 2)).await;
    assert!(matches!(dialer, Err(HandshakeError::OtherMesh)), "{dialer:?}");
    assert!(matches!(listener, Err(HandshakeError::OtherMesh)), "{listener:?}");
}

/// Copies frames both ways and keeps what the first end sent.
pub(super) async fn record(mut from: Pipe, mut to: Pipe, log: Arc<std::sync::Mutex<Vec<u8>>>) {
    let (mut there, mut back) = (vec![0; 4096], vec![0; 4096]);
    loop {
        tokio::select! {
            Ok(n @ 1..) = from.read(&mut there) => {
                log.lock().unwrap().extend_from_slice(&there[..n]);
                let _gone = to.write_all(&there[..n]).await;
            }
            Ok(n @ 1..) = to.read(&mut back) => { let _gone = from.write_all(&back[..n]).await; }
            else => return,
        }
    }
}

#[tokio::test]
async fn a_recorded_handshake_opens_no_door() {
    let runtime = runtime();
    let log = Arc::default();
    let ((mut a, wire_a), (wire_b, mut b)) = (pipe(64 * 1024), pipe(64 * 1024));
    let recorder = crate::testing::runtime().spawn(record(wire_a, wire_b, Arc::clone(&log)));
    let ((ours_a, dialer), (ours_b, listener)) = (ours(1), ours(1));
    let (first, second) = tokio::join!(
        prove(&mut a, &ours_a, listener, Role::Dialer, &*runtime),
        prove(&mut b, &ours_b, dialer, Role::Listener, &*runtime),
    );
    assert!(first.is_ok() && second.is_ok());
    recorder.cancel();

    let (mut replayer, mut b) = pipe(64 * 1024);
    let recorded = log.lock().unwrap().clone();
    replayer.write_all(&recorded).await.unwrap();
    let refused = soon(prove(&mut b, &ours_b, dialer, Role::Listener, &*runtime)).await;
    assert!(matches!(refused, Err(HandshakeError::OtherMesh)), "{refused:?}");
}

#[tokio::test]
async fn a_mirror_does_not_prove_itself() {
    let mirror = PeerId::random();
    let (mut a, mut b) = pipe(64 * 1024);
    let echo = runtime().spawn(async move {
        let mut bytes = vec![0; 4096];
        while let Ok(n @ 1..) = b.read(&mut bytes).await {
            let _gone = b.write_all(&bytes[..n]).await;
        }
    });
    let refused = soon(prove(&mut a, &ours(1).0, mirror, Role::Dialer, &*runtime())).await;
    assert!(matches!(refused, Err(HandshakeError::OtherMesh)), "{refused:?}");
    echo.cancel();
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_five_seconds() {
    let clock = ManualRuntime::new();
    let (mut a, _silent) = pipe(64 * 1024);
    let ours = ours(1).0;
    let runtime = clock.clone();
    let proving = crate::testing::runtime()
        .spawn(async move { prove(&mut a, &ours, PeerId::random(), Role::Listener, &*runtime).await });
    clock.until_sleeper(HANDSHAKE_DEADLINE).await;
    assert_eq!(clock.asked(), [HANDSHAKE_DEADLINE], "nothing ends it earlier");
    assert!(!proving.is_finished());
    clock.advance(HANDSHAKE_DEADLINE);
    let refused = soon(proving).await.unwrap();
    assert!(matches!(refused, Err(HandshakeError::Deadline)), "{refused:?}");
}

#[tokio::test]
async fn a_newer_protocol_is_named() {
    let (mut a, mut b) = pipe(64 * 1024);
    let nonce = "00".repeat(32);
    let hello = Hello {
        versions: (7, 9),
        features: Vec::new(),
        limits: Limits::default(),
        nonce,
        serves: true,
        instance: String::new(),
        software: "9.0.0".to_owned(),
        ticket: None,
    };
    send(&mut b, &hello).await.unwrap();
    let newer = runtime().spawn(async move { b.read_to_end(&mut Vec::new()).await });
    let refused = soon(prove(&mut a, &ours(1).0, PeerId::random(), Role::Dialer, &*runtime())).await;
    // The newer end sees that the connection ends, and closes it too.
    soon(newer).await.unwrap().unwrap();
    assert!(matches!(refused, Err(HandshakeError::Version { low: 7, high: 9, .. })), "{refused:?}");
}

#[tokio::test]
async fn sixteen_long_addresses_fit() {
    let long = format!("/dns4/{}/tcp/1", "a".repeat(200)).parse().unwrap();
    let introduction = introduction(&vec![long; 16]);
    assert!(!introduction.is_empty());
    let (mut a, _b) = pipe(64 * 1024);
    send(&mut a, &introduction).await.unwrap();
}

/// A connection that takes and gives one byte at a time.
struct ByteByByte(Pipe);

impl AsyncRead for ByteByByte {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let one = room.len().min(1);
        Pin::new(&mut self.0).poll_read(cx, &mut room[..one])
    }
}

impl AsyncWrite for ByteByByte {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

#[tokio::test]
async fn a_handshake_comes_through_one_byte_at_a_time() {
    let (a, b) = pipe(64 * 1024);
    let (mut a, mut b) = (ByteByByte(a), ByteByByte(b));
    let ((ours_a, dialler), (ours_b, listener), runtime) = (ours(1), ours(1), runtime());
    let met = soon(async {
        tokio::join!(
            prove(&mut a, &ours_a, listener, Role::Dialer, &*runtime),
            prove(&mut b, &ours_b, dialler, Role::Listener, &*runtime),
        )
    })
    .await;
    assert!(met.0.is_ok() && met.1.is_ok(), "{met:?}");
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..6_000)) {
        let runtime_ = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime_.block_on(async {
            let (mut a, mut b) = pipe(64 * 1024);
            b.write_all(&bytes).await.unwrap();
            drop(b);
            let ours = ours(1).0;
            let refused = soon(prove(&mut a, &ours, PeerId::random(), Role::Listener, &*runtime())).await;
            assert!(refused.is_err());
        });
    }
}
