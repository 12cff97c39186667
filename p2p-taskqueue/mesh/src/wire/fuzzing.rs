//! The functions that a fuzzer calls. Each takes arbitrary bytes and checks what the wire promises about them.
//!
//! The same functions run as property tests. `fuzz/README.md` says how to run them for longer.
#![expect(clippy::missing_panics_doc, reason = "a panic is what a fuzzer looks for")]

use std::{
    io,
    mem::discriminant,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, FutureExt};
use serde::Serialize;
use taskqueue_api::{Check as _, Request, SignedText};

use super::{
    frame::FrameReader,
    handshake::{Ours, pass_door, receive},
    limits::FRAME_BYTES_UNPROVEN,
    local::LocalHello,
    message::{Incoming, read_answer},
    proof::{NONCE_BYTES, Role},
    refused::HandshakeError,
    request::read_request,
};
use crate::{
    Identity, Mesh, NoFiles, RootKey, Ticket,
    members::{Membership, Statements},
};

/// Cuts the bytes into frames. Checks that no frame is longer than the cap, and that the buffer grows only with the
/// bytes received.
pub fn frames(bytes: &[u8]) {
    let Some((&[cap, chunk], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let bytes_max = 1 + usize::from(cap) * 64;
    let mut io = Given::new(bytes, 1 + usize::from(chunk));
    let mut reader = FrameReader::new(bytes_max);
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    let mut content = 0;
    // The stream is never pending.
    while let Poll::Ready(Ok(Some(frame))) = reader.poll_frame(&mut io, &mut cx) {
        assert!(!frame.is_empty() && frame.len() <= bytes_max, "a frame of {} bytes", frame.len());
        content += frame.len();
    }
    assert!(content <= bytes.len(), "more than was given");
    assert!(reader.memory() <= bytes_max.max(2 * bytes.len()) + 8 * 1024, "{} bytes are held", reader.memory());
}

/// Answers a handshake with the bytes. Checks that it fails, since the bytes come from an end that does not know the
/// secret.
pub fn handshake(bytes: &[u8]) {
    let peer = Identity::from_secret_bytes([2; Identity::BYTES]).peer_id();
    let ours = Ours {
        // Its mesh is not that of the vectors in PROTOCOL.md, since these vectors are part of a good corpus.
        membership: membership(Identity::from_secret_bytes([1; Identity::BYTES])),
        serves: true,
        instance: String::new(),
        addresses: Vec::new(),
    };
    for role in [Role::Dialer, Role::Listener] {
        let mut io = Given::new(bytes, 512);
        let met = pass_door(&mut io, &ours, peer, role, [0xd1; NONCE_BYTES]).now_or_never();
        assert!(matches!(met, Some(Err(_))), "bytes without the secret opened the door");
    }
    let mut io = Given::new(bytes, 512);
    let hello = receive::<_, LocalHello>(&mut io, &mut FrameReader::new(FRAME_BYTES_UNPROVEN)).now_or_never();
    if let Some(Ok(hello)) = hello {
        let _terms: Result<_, HandshakeError> = hello.terms();
    }
}

/// Reads the bytes as the content of a frame. Checks that a message that is understood can be written and is read again
/// as the same operation.
///
/// The two values are not compared: the last digit of a number with more than 15 digits may differ, since the parser
/// reads numbers in its faster way.
pub fn message(bytes: &[u8]) {
    match Incoming::read(bytes) {
        Ok(Incoming::Call { request: raw, .. }) => {
            let Ok(request) = read_request(raw) else { return };
            let _checked = request.check();
            let again = again(&request, |raw| read_request(raw).ok());
            assert_eq!(again.as_ref().map(Request::name), Some(request.name()));
        }
        Ok(Incoming::Answer { ok, error, .. }) => {
            if let Ok(response) = read_answer(ok, error) {
                let again = again(&response, |raw| read_answer(Some(raw), None).ok());
                assert_eq!(again.as_ref().map(discriminant), Some(discriminant(&response)));
            }
        }
        _ => {}
    }
}

/// Returns the part of a machine in a mesh that nobody else knows.
fn membership(identity: Identity) -> Arc<Membership> {
    let root = RootKey::from_secret_bytes([0xa5; RootKey::BYTES]);
    #[expect(clippy::expect_used, reason = "the name is one of a machine, and the mesh is empty")]
    let mesh = Mesh::with_root_key(root, &identity, "machine").expect("it is signed");
    Membership::new(identity, mesh, Arc::new(NoFiles))
}

/// Takes the bytes as statements about members: a line for each, the text and its signature. Checks that none is
/// believed, since the bytes come from an end that does not know the root key.
pub fn statements(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |line: &str| {
        let (text, signature) = line.rsplit_once(' ').unwrap_or((line, ""));
        SignedText { text: text.to_owned(), signature: signature.to_owned() }
    };
    let all: Vec<_> = text.lines().map(read).collect();
    let membership = membership(Identity::from_secret_bytes([1; Identity::BYTES]));
    let before = membership.digest();
    let entries = Statements { entries: all.clone(), secret_notes: Vec::new() };
    let notes = Statements { entries: Vec::new(), secret_notes: all };
    for statements in [entries, notes] {
        let _refused = membership.take(statements);
        assert_eq!(membership.digest(), before, "a stranger changed the members");
    }
}

/// Reads the bytes as what is kept of a mesh. Checks that a valid text is written as one that gives the same mesh.
pub fn mesh(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(mesh) = Mesh::from_text(text, None) {
        let written = mesh.to_text();
        assert_eq!(Mesh::from_text(&written, None).map(|mesh| mesh.to_text()).ok().as_ref(), Some(&written));
    }
}

/// Reads the bytes as a ticket. Checks that a valid ticket is written as a text that gives the same ticket.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_text().parse(), Ok(ticket));
    }
}

fn again<T: Serialize>(value: &T, read: impl FnOnce(&serde_json::value::RawValue) -> Option<T>) -> Option<T> {
    let raw = serde_json::value::to_raw_value(value).ok()?;
    read(&raw)
}

/// A stream that gives bytes in chunks, takes everything, and is never pending.
struct Given<'a> {
    rest: &'a [u8],
    chunk_bytes: usize,
}

impl<'a> Given<'a> {
    const fn new(bytes: &'a [u8], chunk_bytes: usize) -> Self {
        Self { rest: bytes, chunk_bytes }
    }
}

impl AsyncRead for Given<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let bytes = room.len().min(self.chunk_bytes).min(self.rest.len());
        let (given, rest) = self.rest.split_at(bytes);
        room.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        self.rest = rest;
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for Given<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};
    use taskqueue_api::testing::payload;

    use super::*;
    use crate::wire::{examples::exchanges, message::Outgoing};

    /// A change to valid bytes. The result gets further into the parsers than random bytes do.
    #[derive(Debug, Clone)]
    enum Change {
        Set(Index, u8),
        Insert(Index, Vec<u8>),
        Remove(Index, Index),
        Repeat(Index, Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        let token = prop_oneof![
            prop::sample::select(vec![
                "null",
                "0",
                "-1",
                "1e999",
                "\"\"",
                "[]",
                "{}",
                "[[",
                "{\"",
                "\\ud800",
                ",",
                "18446744073709551616"
            ])
            .prop_map(|token| token.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 1..4),
        ];
        prop_oneof![
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (any::<Index>(), token).prop_map(|(at, token)| Change::Insert(at, token)),
            (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Remove(from, to)),
            (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        ]
    }

    fn range(bytes: &[u8], from: Index, to: Index) -> std::ops::Range<usize> {
        let (a, b) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
        // The range is short, so that the bytes around it stay valid.
        let (start, end) = (a.min(b), a.max(b));
        start..end.min(start + 20)
    }

    fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
        for change in changes {
            match change {
                Change::Set(at, byte) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                Change::Set(..) => {}
                Change::Insert(at, token) => {
                    let at = at.index(bytes.len() + 1);
                    bytes.splice(at..at, token.iter().copied());
                }
                Change::Remove(from, to) => drop(bytes.drain(range(&bytes, *from, *to))),
                Change::Repeat(from, to) => {
                    let part = bytes[range(&bytes, *from, *to)].to_vec();
                    bytes.extend(part);
                }
            }
        }
        bytes
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        prop::collection::vec(change(), 0..4)
    }

    /// Returns calls and answers of every operation.
    fn messages() -> Vec<Vec<u8>> {
        let put = |message: Outgoing<'_>| {
            let mut out = Vec::new();
            message.put(&mut out, 1 << 20).unwrap();
            out.split_off(4)
        };
        let both = exchanges().into_iter().flat_map(|(request, response)| {
            let call = put(Outgoing::Call { id: 1, request: &request });
            [call, put(Outgoing::Answer { id: 1, ok: Some(&response), error: None })]
        });
        both.collect()
    }

    const HELLO: &str = r#"{"versions":[2,2],"features":["repeat"],"limits":{"frame_bytes":1,"in_flight":2},"nonce":"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1","serves":false,"instance":"i","software":"0.1.0"}"#;

    fn framed(contents: &[&str]) -> Vec<u8> {
        let frame =
            |content: &&str| [&u32::try_from(content.len()).unwrap().to_be_bytes(), content.as_bytes()].concat();
        contents.iter().flat_map(frame).collect()
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (request, response) in exchanges() {
            assert_eq!(again(&request, |raw| read_request(raw).ok()), Some(request));
            assert_eq!(again(&response, |raw| read_answer(Some(raw), None).ok()), Some(response));
        }
    }

    #[test]
    fn what_is_not_changed_is_taken() {
        for bytes in messages() {
            message(&bytes);
            assert!(!matches!(Incoming::read(&bytes), Err(_) | Ok(Incoming::Other)));
        }
        let proofs = format!(r#"{{"proofs":["{}"]}}"#, "00".repeat(32));
        handshake(&framed(&[HELLO, &proofs, r#"{"introduction":{"addresses":[]}}"#]));
        let large = format!(
            r#"{{"kind":"call","id":1,"request":{{"submit":{{"task_type":"a","payload":{}}}}}}}"#,
            payload(60_000)
        );
        message(large.as_bytes());
        frames(&[&[255, 7], &*framed(&[&large[..16_000]])].concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            frames(&bytes);
            handshake(&bytes);
            message(&bytes);
            ticket(&bytes);
            statements(&bytes);
            mesh(&bytes);
        }

        #[test]
        fn changed_messages_are_borne(which in any::<Index>(), changes in changes()) {
            message(&changed(which.get(&messages()).clone(), &changes));
        }

        #[test]
        fn changed_handshakes_are_borne(changes in changes(), proof in "[0-9a-f]{64}") {
            let proof = format!(r#"{{"proofs":["{proof}"]}}"#);
            let whole = framed(&[HELLO, &proof, r#"{"introduction":{"addresses":["/ip4/192.0.2.7/tcp/9710"]}}"#]);
            handshake(&changed(whole, &changes));
            // Here the content of the frame is changed and the length is right.
            let hello = String::from_utf8_lossy(&changed(HELLO.as_bytes().to_vec(), &changes)).into_owned();
            handshake(&framed(&[&hello, &proof, "{}"]));
        }

        #[test]
        fn changed_frames_are_borne(cap in any::<u8>(), chunk in any::<u8>(), changes in changes()) {
            let whole = framed(&["{}", HELLO, "[]", &"x".repeat(9_000), "{}"]);
            frames(&[&[cap, chunk], &*changed(whole, &changes)].concat());
        }

        #[test]
        fn changed_tickets_are_borne(changes in changes()) {
            let exchanges = exchanges();
            let invitation = exchanges.iter().find_map(|(_, response)| match response {
                taskqueue_api::Response::Invitation(invitation) => Some(invitation.ticket.clone()),
                _ => None,
            });
            ticket(&changed(invitation.unwrap().into_bytes(), &changes));
        }

        #[test]
        fn changed_statements_and_meshes_are_borne(changes in changes()) {
            let identity = Identity::from_secret_bytes([4; 32]);
            let theirs = Mesh::with_root_key(RootKey::from_secret_bytes([5; 32]), &identity, "box").unwrap();
            mesh(&changed(theirs.to_text().into_bytes(), &changes));
            let membership = Membership::new(identity, theirs, Arc::new(NoFiles));
            let lines: Vec<_> = membership.credentials().iter().map(|one| format!("{} {}", one.text, one.signature)).collect();
            statements(&changed(lines.join("\n").into_bytes(), &changes));
        }
    }
}
