//! Tests with peers that send a wrong proof, or none.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use runtime_bridge::RuntimeExt;
use tokio::sync::watch;

use super::{
    tests::{member, ours, record},
    *,
};
use crate::{
    Identity,
    testing::{ManualRuntime, Pipe, first_secret, mesh, pipe, runtime, soon},
};

/// A peer that sends whatever frames a test wants, with or without knowing the secret.
struct Raw {
    io: Pipe,
    reader: FrameReader,
    identity: Identity,
}

/// Starts a listener and returns a raw dialler for it, the listener's result and its peer id.
fn listener(number: u8) -> (Raw, runtime_bridge::Spawned<Result<Met, HandshakeError>>, PeerId) {
    let (io, mut far) = pipe(64 * 1024);
    let identity = Identity::generate().unwrap();
    let (peer_id, (ours, listener)) = (identity.peer_id(), ours(number));
    let proving = runtime().spawn(async move { prove(&mut far, &ours, peer_id, Role::Listener, &*runtime()).await });
    (Raw { io, reader: FrameReader::new(FRAME_BYTES_UNPROVEN), identity }, proving, listener)
}

impl Raw {
    async fn say(&mut self, text: &str) {
        self.io.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).await.unwrap();
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// Exchanges hellos. Returns the peer's nonce.
    async fn greet(&mut self, hello: &str) -> [u8; NONCE_BYTES] {
        self.say(hello).await;
        let theirs: Hello = receive(&mut self.io, &mut self.reader).await.unwrap();
        decode(&theirs.nonce).unwrap()
    }

    /// Sends the proof of this peer in the given role. The peer's own nonce is all zeros.
    async fn prove(&mut self, number: u8, role: Role, theirs: [u8; NONCE_BYTES], listener: PeerId) {
        let binding = Binding { nonces: ([0; NONCE_BYTES], theirs), peers: (self.identity.peer_id(), listener) };
        let proof = Proof::of_mesh(&first_secret(number), role, &binding);
        self.say(&format!(r#"{{"proofs":["{}"]}}"#, proof.to_hex())).await;
    }

    /// Shows that this peer is a member, knows nothing of the others, and introduces itself.
    async fn come_in(&mut self, number: u8) {
        let mesh = mesh(number, &self.identity);
        let membership = Membership::new(self.identity.clone(), mesh, Arc::new(crate::NoFiles));
        let credentials = serde_json::to_string(&membership.credentials()).unwrap();
        let (name, none) = (membership.mesh_id(), "00".repeat(32));
        let secret = crate::members::digest_of(&membership.newest_secret());
        self.say(&format!(
            r#"{{"member":{{"mesh":"{name}","credentials":{credentials},"roster":"{none}","secret":"{secret}"}}}}"#
        ))
        .await;
        self.say(r#"{"have":{"texts":""}}"#).await;
        self.say(r#"{"entries":{"entries":[],"secret_notes":[],"more":false}}"#).await;
        self.say(NOWHERE).await;
    }
}

/// Returns a hello with the fields of the first version, followed by `besides`.
fn old_hello(besides: &str) -> String {
    let nonce = "00".repeat(NONCE_BYTES);
    format!(r#"{{"versions":[2,2],"nonce":"{nonce}","serves":true,"instance":"i","software":"0.1.0"{besides}}}"#)
}

const NOWHERE: &str = r#"{"introduction":{"addresses":[]}}"#;

async fn proven_with(hello: &str) -> Proven {
    let (mut raw, proving, listener) = listener(1);
    let nonce = raw.greet(hello).await;
    raw.prove(1, Role::Dialer, nonce, listener).await;
    raw.come_in(1).await;
    member(soon(proving).await.unwrap().unwrap())
}

#[tokio::test]
async fn the_terms_of_a_hello_are_agreed_and_one_without_them_is_accepted() {
    assert_eq!(proven_with(&old_hello("")).await.agreed.terms, Terms::default());
    let besides = r#","features":["teleport","repeat"],"limits":{"frame_bytes":100000,"in_flight":0,"x":1},"y":2"#;
    let terms = proven_with(&old_hello(besides)).await.agreed.terms;
    assert_eq!((terms.frame_bytes, terms.may_repeat), (100_000, true));
    assert_eq!(terms.in_flight, crate::wire::limits::IN_FLIGHT_MIN);
}

#[tokio::test]
async fn what_comes_right_behind_a_handshake_belongs_to_the_session() {
    let (mut raw, proving, listener) = listener(1);
    let nonce = raw.greet(&old_hello("")).await;
    raw.prove(1, Role::Dialer, nonce, listener).await;
    raw.come_in(1).await;
    raw.say(r#"{"kind":"ping"}"#).await;
    let mut agreed = member(soon(proving).await.unwrap().unwrap()).agreed;
    let ping = poll_fn(|cx| agreed.reader.poll_frame(&mut raw.io, cx).map(|frame| frame.unwrap().map(<[u8]>::to_vec)));
    assert_eq!(soon(ping).await.unwrap(), br#"{"kind":"ping"}"#);
}

#[tokio::test]
async fn the_proof_of_the_other_role_is_none() {
    let (mut raw, proving, listener) = listener(1);
    let nonce = raw.greet(&old_hello("")).await;
    raw.prove(1, Role::Listener, nonce, listener).await;
    assert!(matches!(soon(proving).await.unwrap(), Err(HandshakeError::OtherMesh)));
    // Here both ends act as the dialler.
    let (mut io_a, mut io_b) = pipe(64 * 1024);
    let ((ours_a, a), (ours_b, b), runtime) = (ours(1), ours(1), runtime());
    let met = soon(async {
        tokio::join!(
            prove(&mut io_a, &ours_a, b, Role::Dialer, &*runtime),
            prove(&mut io_b, &ours_b, a, Role::Dialer, &*runtime),
        )
    })
    .await;
    assert!(matches!(met, (Err(HandshakeError::OtherMesh), Err(HandshakeError::OtherMesh))), "{met:?}");
}

#[tokio::test]
async fn a_proof_that_is_passed_on_opens_no_door() {
    // The node in the middle does not know the secret; the two at its sides do.
    let middle = PeerId::random();
    let ((mut io_a, to_a), (to_b, mut io_b)) = (pipe(64 * 1024), pipe(64 * 1024));
    let passing = runtime().spawn(record(to_a, to_b, Arc::default()));
    let ((ours_a, _), (ours_b, _), runtime) = (ours(1), ours(1), runtime());
    let met = soon(async {
        tokio::join!(
            prove(&mut io_a, &ours_a, middle, Role::Dialer, &*runtime),
            prove(&mut io_b, &ours_b, middle, Role::Listener, &*runtime),
        )
    })
    .await;
    passing.cancel();
    assert!(matches!(met, (Err(HandshakeError::OtherMesh), Err(HandshakeError::OtherMesh))), "{met:?}");
}

#[tokio::test]
async fn nothing_is_parsed_behind_a_wrong_proof() {
    let (mut raw, proving, listener) = listener(1);
    let nonce = raw.greet(&old_hello("")).await;
    raw.prove(2, Role::Dialer, nonce, listener).await;
    // If these bytes were parsed, the error would be another one.
    raw.io.write_all(&[0xff; 3_000]).await.unwrap();
    let refused = soon(proving).await.unwrap();
    assert!(matches!(refused, Err(HandshakeError::OtherMesh)), "{refused:?}");
    // The listener has sent its own proof all the same, but no introduction with its addresses.
    let Proofs { proofs: shown } = receive(&mut raw.io, &mut raw.reader).await.unwrap();
    assert_eq!(shown.iter().map(String::len).collect::<Vec<_>>(), [64]);
    let more: Result<serde_json::Value, _> = receive(&mut raw.io, &mut raw.reader).await;
    assert!(matches!(more, Err(HandshakeError::Closed)), "{more:?}");
}

#[tokio::test]
async fn a_session_does_not_begin_without_a_proof() {
    let call = r#"{"kind":"call","id":1,"request":{"list":{}}}"#;
    for instead in [call, NOWHERE, r#"{"proofs":""}"#, r#"{"proofs":["zz"]}"#, "{}", "nonsense"] {
        let (mut raw, proving, _) = listener(1);
        raw.greet(&old_hello("")).await;
        raw.say(instead).await;
        raw.say(NOWHERE).await;
        let refused = soon(proving).await.unwrap();
        assert!(matches!(refused, Err(HandshakeError::Frame(FrameError::Malformed(_)))), "{instead}: {refused:?}");
    }
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_or_too_long_is_refused() {
    let hello = |change: &str, to: &str| old_hello("").replace(change, to);
    let odd_limits = old_hello(r#","limits":{"frame_bytes":-1}"#);
    for text in ["[]", "{}", &hello("00", "0g"), &hello("[2,2]", "[2]"), &hello("true", "1"), &odd_limits] {
        let (mut raw, proving, _) = listener(1);
        raw.say(text).await;
        let refused = soon(proving).await.unwrap();
        assert!(matches!(refused, Err(HandshakeError::Frame(FrameError::Malformed(_)))), "{text}: {refused:?}");
    }
    let (mut raw, proving, _) = listener(1);
    raw.say(&" ".repeat(FRAME_BYTES_UNPROVEN + 1)).await;
    let refused = soon(proving).await.unwrap();
    assert!(matches!(refused, Err(HandshakeError::Frame(FrameError::TooLong { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_ends_at_the_deadline() {
    for steps in 0..3 {
        let clock = ManualRuntime::new();
        let (io, far) = pipe(64 * 1024);
        let read = watch::Sender::new(0);
        let mut far = Noted { io: far, read: read.clone() };
        let identity = Identity::generate().unwrap();
        let (peer_id, (ours, listener), timer) = (identity.peer_id(), ours(1), clock.clone());
        let proving = runtime().spawn(async move { prove(&mut far, &ours, peer_id, Role::Listener, &*timer).await });
        let mut raw = Raw { io, reader: FrameReader::new(FRAME_BYTES_UNPROVEN), identity };
        if steps > 0 {
            let nonce = raw.greet(&old_hello("")).await;
            if steps > 1 {
                raw.prove(1, Role::Dialer, nonce, listener).await;
            }
        }
        // A byte now and then does not move the deadline.
        clock.until_sleeper(HANDSHAKE_DEADLINE).await;
        for byte in [0, 0, 1, 0, b'{'] {
            assert!(!proving.is_finished());
            let mut reads = read.subscribe();
            raw.io.write_all(&[byte]).await.unwrap();
            soon(reads.changed()).await.unwrap();
            clock.advance(HANDSHAKE_DEADLINE / 5);
        }
        let refused = soon(proving).await.unwrap();
        assert!(matches!(refused, Err(HandshakeError::Deadline)), "after {steps} steps: {refused:?}");
    }
}

/// An end of a pipe that counts the bytes that were read.
struct Noted {
    io: Pipe,
    read: watch::Sender<usize>,
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, room))?;
        self.read.send_modify(|bytes| *bytes += read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
