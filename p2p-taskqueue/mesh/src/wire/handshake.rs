//! The handshake: both ends prove that they know a secret of the mesh, and then show that they are members of it, before
//! anything else is parsed.
//!
//! ```text
//! both:  hello         versions, features, limits, nonce, serves, software, instance
//! both:  proofs        HMAC-SHA256(secret, label, role, both nonces, both peer ids), for each secret that the end holds
//! both:  member        the entry of the end and that of its signer, and what the end knows of the members
//! both:  have, entries what the other end does not know of the members; a newer secret
//! both:  introduction  where this node can be dialled
//! ```
//!
//! The role in the proof prevents that an end's own proof is sent back to it. The nonces prevent that a recorded proof
//! is used again. The peer ids, which the transport has verified, prevent that a proof is passed on to a third node.
//!
//! A newcomer has no secret of the mesh and no entry. It names a ticket in its hello, both ends prove that they know the
//! secret of the ticket, and the newcomer is made a member. Then it comes in like any other.

use std::{future::poll_fn, str::FromStr, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use futures::{
    AsyncRead, AsyncWrite, AsyncWriteExt,
    future::{Either, select},
};
use libp2p::{Multiaddr, PeerId};
use runtime_bridge::Runtime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use taskqueue_api::Grants;

use super::{
    door::{self, Reason},
    frame::{FrameError, FrameReader, put_frame},
    limits::{
        ADDRESS_BYTES_MAX, ADDRESSES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_UNPROVEN, HANDSHAKE_DEADLINE,
        HELLO_TEXT_BYTES_MAX, REFUSAL_LINGER, ROSTER_DEADLINE,
    },
    proof::{Binding, NONCE_BYTES, Proof, Role},
    refused::HandshakeError,
    session::Agreed,
    terms::{Limits, Terms, features},
};
use crate::members::{Membership, TicketId, TicketSecret, Welcome, Wish};

/// The versions of the protocol inside the stream that this build speaks.
pub(super) const VERSIONS: (u16, u16) = (2, 2);

/// What this node says about itself in the handshake.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    pub(crate) membership: Arc<Membership>,
    /// Whether this node answers requests. A command-line client does not.
    pub(crate) serves: bool,
    /// Drawn at each start, so that a peer notices a restart.
    pub(crate) instance: String,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// A peer that has shown that it is a member of the mesh.
#[derive(Debug)]
pub(crate) struct Proven {
    /// What it may do.
    pub(crate) grants: Arc<Grants>,
    /// The number of the last change of the members that it has heard of here.
    pub(crate) heard: u64,
    pub(crate) serves: bool,
    pub(crate) instance: String,
    pub(crate) software: String,
    pub(crate) addresses: Vec<Multiaddr>,
    /// The reader and the terms for the session that follows.
    pub(crate) agreed: Agreed,
}

/// Who was met at the other end.
#[derive(Debug)]
pub(crate) enum Met {
    Member(Box<Proven>),
    /// A machine that was made a member by its ticket. It comes in by another connection.
    Newcomer,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) versions: (u16, u16),
    #[serde(default)]
    pub(super) features: Vec<String>,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) nonce: String,
    pub(super) serves: bool,
    pub(super) instance: String,
    pub(super) software: String,
    /// The ticket by which a dialler wants to become a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ticket: Option<TicketId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Proofs {
    pub(super) proofs: Vec<String>,
}

/// What both ends have said in their hellos.
struct Greeted {
    theirs: Hello,
    binding: Binding,
    reader: FrameReader,
}

/// Meets the peer: the door within [`HANDSHAKE_DEADLINE`], and the exchange of what is new about the members within
/// [`ROSTER_DEADLINE`] after it.
pub(crate) async fn prove<S>(
    io: &mut S,
    ours: &Ours,
    peer: PeerId,
    role: Role,
    runtime: &dyn Runtime,
) -> Result<Met, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = draw_nonce()?;
    let met = async {
        // Boxed, because the futures of the handshake are large, and a link keeps its size for as long as it lives.
        let passing = Box::pin(pass_door(io, ours, peer, role, nonce));
        let proving = within(HANDSHAKE_DEADLINE, passing, runtime).await;
        match proving.unwrap_or(Err(HandshakeError::Deadline))? {
            AtDoor::Newcomer => Ok(Met::Newcomer),
            AtDoor::Member(member) => {
                let exchanged = within(ROSTER_DEADLINE, Box::pin(come_in(io, ours, peer, *member)), runtime).await;
                exchanged.unwrap_or(Err(HandshakeError::Deadline)).map(|proven| Met::Member(Box::new(proven)))
            }
        }
    };
    let met = parted(met.await, io, runtime).await;
    if matches!(met, Ok(Met::Newcomer)) {
        // Over QUIC a connection that is closed at once may lose the welcome.
        within(REFUSAL_LINGER, part(io), runtime).await;
    }
    met
}

/// Comes in by a ticket of the peer. Returns what the peer gives a newcomer.
pub(crate) async fn enter<S>(
    io: &mut S,
    own: PeerId,
    ticket: &TicketSecret,
    wish: &Wish,
    peer: PeerId,
    runtime: &dyn Runtime,
) -> Result<Welcome, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = draw_nonce()?;
    let entering = async {
        let hello = Hello { ticket: Some(ticket.id()), ..hello(false, String::new(), &nonce) };
        let Greeted { binding, mut reader, .. } = greet(io, &hello, (own, peer), Role::Dialer, nonce).await?;
        let proof = |role| Proof::of_ticket(ticket, role, &binding);
        send(io, &Proofs { proofs: vec![proof(Role::Dialer).to_hex()] }).await?;
        let theirs: Proofs = receive(io, &mut reader).await?;
        if theirs.proofs.is_empty() {
            return Err(HandshakeError::Refused(Reason::TicketUnknown));
        }
        first_match(&[proof(Role::Listener)], &theirs)?.ok_or(HandshakeError::OtherMesh)?;
        door::ask_to_enter(io, &mut reader, wish).await
    };
    let entered = within(HANDSHAKE_DEADLINE, Box::pin(entering), runtime).await;
    parted(entered.unwrap_or(Err(HandshakeError::Deadline)), io, runtime).await
}

fn draw_nonce() -> Result<[u8; NONCE_BYTES], HandshakeError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(HandshakeError::Random)?;
    Ok(nonce)
}

/// Lets the peer read why it is refused.
async fn parted<S, T>(result: Result<T, HandshakeError>, io: &mut S, runtime: &dyn Runtime) -> Result<T, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if result.as_ref().is_err_and(HandshakeError::is_told) {
        within(REFUSAL_LINGER, part(io), runtime).await;
    }
    result
}

/// Returns the value of the future, or `None` if the time is over first.
pub(crate) async fn within<T>(span: Duration, future: impl Future<Output = T>, runtime: &dyn Runtime) -> Option<T> {
    match select(std::pin::pin!(future), runtime.sleep_until(runtime.now() + span)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

/// Who stands at the door, and what it has said.
pub(super) enum AtDoor {
    Member(Box<Inside>),
    Newcomer,
}

/// A member that is inside the door. It is not yet known whether it has heard of its own removal.
pub(super) struct Inside {
    theirs: Hello,
    shown: door::Shown,
    reader: FrameReader,
}

/// Exchanges hellos and proofs, and finds out whether the peer is a member. The `nonce` must never have been used
/// before.
pub(super) async fn pass_door<S>(
    io: &mut S,
    ours: &Ours,
    peer: PeerId,
    role: Role,
    nonce: [u8; NONCE_BYTES],
) -> Result<AtDoor, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let membership = &ours.membership;
    let hello = hello(ours.serves, ours.instance.clone(), &nonce);
    let Greeted { theirs, binding, mut reader } = greet(io, &hello, (membership.own(), peer), role, nonce).await?;
    if let (Role::Listener, Some(ticket)) = (role, theirs.ticket) {
        door::admit_newcomer(io, &mut reader, membership, (ticket, peer), &binding).await?;
        return Ok(AtDoor::Newcomer);
    }
    let secrets = membership.secrets();
    let proofs = |role| secrets.iter().map(|secret| Proof::of_mesh(secret, role, &binding)).collect::<Vec<_>>();
    // They are sent before the peer's proofs are checked, so that both ends learn that the secrets differ.
    send(io, &Proofs { proofs: proofs(role).into_iter().map(Proof::to_hex).collect() }).await?;
    let claimed: Proofs = receive(io, &mut reader).await?;
    first_match(&proofs(role.other()), &claimed)?.ok_or(HandshakeError::OtherMesh)?;
    let shown = door::show_membership(io, &mut reader, membership, peer).await?;
    Ok(AtDoor::Member(Box::new(Inside { theirs, shown, reader })))
}

/// Exchanges what is new about the members, and the introductions.
pub(super) async fn come_in<S>(io: &mut S, ours: &Ours, peer: PeerId, inside: Inside) -> Result<Proven, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Inside { theirs, shown, mut reader } = inside;
    let (grants, heard) = door::exchange_news(io, &mut reader, &ours.membership, peer, &shown).await?;
    let addresses = door::introduce(io, &mut reader, introduction(&ours.addresses)).await?;
    reader.set_bytes_max(FRAME_BYTES_MAX);
    Ok(Proven {
        grants,
        heard,
        serves: theirs.serves,
        instance: short(theirs.instance),
        software: short(theirs.software),
        addresses: readable(&addresses),
        agreed: Agreed { reader, terms: Terms::new(&theirs.features, theirs.limits) },
    })
}

/// Exchanges hellos. In `peers` this end comes first.
async fn greet<S>(
    io: &mut S,
    hello: &Hello,
    peers: (PeerId, PeerId),
    role: Role,
    nonce: [u8; NONCE_BYTES],
) -> Result<Greeted, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = FrameReader::new(FRAME_BYTES_UNPROVEN);
    send(io, hello).await?;
    let theirs: Hello = receive(io, &mut reader).await?;
    check_versions(theirs.versions, || short(theirs.software.clone()))?;
    let nonces = role.in_order(nonce, decode::<NONCE_BYTES>(&theirs.nonce)?);
    let binding = Binding { nonces, peers: role.in_order(peers.0, peers.1) };
    Ok(Greeted { theirs, binding, reader })
}

/// Returns the first of our proofs that the peer claims, by its place. All of them are compared in any case.
pub(super) fn first_match(ours: &[Proof], claimed: &Proofs) -> Result<Option<usize>, FrameError> {
    let claimed = claimed.proofs.iter().map(|text| decode(text).map(Proof::from_bytes));
    let claimed = claimed.collect::<Result<Vec<_>, _>>()?;
    let is_claimed = |ours: &Proof| claimed.iter().fold(false, |found, theirs| found | ours.is(theirs));
    Ok(ours.iter().map(is_claimed).enumerate().filter(|(_, found)| *found).map(|(place, _)| place).min())
}

pub(super) const fn versions() -> (u16, u16) {
    VERSIONS
}

pub(super) fn check_versions(theirs: (u16, u16), software: impl FnOnce() -> String) -> Result<(), HandshakeError> {
    let (low, high) = theirs;
    if low > VERSIONS.1 || high < VERSIONS.0 {
        return Err(HandshakeError::Version { low, high, software: software() });
    }
    Ok(())
}

/// Ends the connection so that the peer still reads what was said last, such as why it is refused.
///
/// Dropping the connection with unread bytes would reset it and discard them. So this end reads until the peer
/// closes too.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) {
    let _gone = io.close().await;
    let mut scratch = [0; 256];
    while let Ok(1..) = futures::AsyncReadExt::read(io, &mut scratch).await {}
}

fn hello(serves: bool, instance: String, nonce: &[u8; NONCE_BYTES]) -> Hello {
    Hello {
        versions: VERSIONS,
        features: features(),
        limits: Limits::ours(),
        nonce: HEXLOWER.encode(nonce),
        serves,
        instance,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        ticket: None,
    }
}

fn introduction(addresses: &[Multiaddr]) -> Vec<String> {
    // The addresses take at most three quarters of the frame. The others are left out, so that these can be sent.
    let mut room = FRAME_BYTES_UNPROVEN * 3 / 4;
    let texts = addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string);
    let fitting = texts.filter(|text| {
        let fits = text.len() <= room.min(ADDRESS_BYTES_MAX);
        room -= if fits { text.len() } else { 0 };
        fits
    });
    fitting.collect()
}

/// Returns the addresses that this build understands.
fn readable(addresses: &[String]) -> Vec<Multiaddr> {
    let short = addresses.iter().filter(|text| text.len() <= ADDRESS_BYTES_MAX);
    short.take(ADDRESSES_MAX).filter_map(|text| Multiaddr::from_str(text).ok()).collect()
}

pub(super) fn decode<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], FrameError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| FrameError::Malformed(format!("not {BYTES} bytes in hexadecimal")))
}

/// Returns a peer's text about itself if it can be shown, and `unknown` if it is too long or has control characters.
pub(super) fn short(text: String) -> String {
    if text.len() <= HELLO_TEXT_BYTES_MAX && !text.chars().any(char::is_control) { text } else { "unknown".to_owned() }
}

pub(super) async fn send<S, T>(io: &mut S, message: &T) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    send_up_to(FRAME_BYTES_UNPROVEN, io, message).await
}

/// Sends a message as a frame with at most `bytes_max` bytes of content.
pub(super) async fn send_up_to<S, T>(bytes_max: usize, io: &mut S, message: &T) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    let mut out = Vec::new();
    put_frame(&mut out, bytes_max, |out| serde_json::to_writer(out, message))?;
    io.write_all(&out).await.map_err(FrameError::Io)?;
    io.flush().await.map_err(FrameError::Io)?;
    Ok(())
}

pub(super) async fn receive<S, T>(io: &mut S, reader: &mut FrameReader) -> Result<T, HandshakeError>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    poll_fn(|cx| {
        reader.poll_frame(io, cx).map(|frame| {
            let frame = frame?.ok_or(HandshakeError::Closed)?;
            let malformed = |error: serde_json::Error| FrameError::Malformed(error.to_string());
            Ok(serde_json::from_slice(frame).map_err(malformed)?)
        })
    })
    .await
}

#[cfg(test)]
#[path = "handshake_hostile_tests.rs"]
mod hostile_tests;
#[cfg(test)]
#[path = "handshake_tests.rs"]
pub(super) mod tests;
