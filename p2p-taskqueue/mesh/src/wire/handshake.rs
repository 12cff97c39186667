//! The handshake: both ends prove that they know the mesh secret, before any other frame is parsed.
//!
//! ```text
//! both:  hello         versions, features, limits, nonce, serves, software, instance
//! both:  proof         HMAC-SHA256(secret, label, role, both nonces, both peer ids)
//! both:  introduction  where this node can be dialled; only to a peer whose proof held
//! ```
//!
//! The secret never travels. The role in the proof prevents that an end's own proof is sent back to it. The nonces
//! prevent that a recorded proof is used again. The peer ids, which the transport has verified, prevent that a proof is
//! passed on to a third node.

use std::{future::poll_fn, str::FromStr, time::Duration};

use data_encoding::HEXLOWER;
use futures::{
    AsyncRead, AsyncWrite, AsyncWriteExt,
    future::{Either, select},
};
use hmac::Mac;
use libp2p::{Multiaddr, PeerId};
use runtime_bridge::Runtime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use taskqueue_api::{ErrorCode, QueueError};

use super::{
    frame::{FrameError, FrameReader, put_frame},
    limits::{
        ADDRESS_BYTES_MAX, ADDRESSES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_UNPROVEN, HANDSHAKE_DEADLINE,
        HELLO_TEXT_BYTES_MAX, REFUSAL_LINGER,
    },
    proof::{NONCE_BYTES, Role, proof},
    session::Agreed,
    terms::{Limits, Terms, features},
};
use crate::MeshSecret;

/// The versions of the protocol inside the stream that this build speaks.
const VERSIONS: (u16, u16) = (1, 1);

/// What this node says about itself in the handshake.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    pub(crate) peer_id: PeerId,
    pub(crate) secret: MeshSecret,
    /// Whether this node answers requests. A command-line client does not.
    pub(crate) serves: bool,
    /// Drawn at each start, so that a peer notices a restart.
    pub(crate) instance: String,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// A peer that has proved that it belongs to the mesh.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) serves: bool,
    pub(crate) instance: String,
    pub(crate) software: String,
    pub(crate) addresses: Vec<Multiaddr>,
    /// The reader and the terms for the session that follows.
    pub(crate) agreed: Agreed,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(
        "the peer belongs to another mesh (its mesh secret differs): join it with a ticket made by `taskmesh invite`"
    )]
    OtherMesh,
    #[error(
        "the other end (taskmesh {software}) speaks versions {low} to {high} of the protocol, this one (taskmesh {}) {} to {}: update {}",
        env!("CARGO_PKG_VERSION"), VERSIONS.0, VERSIONS.1, if *high < VERSIONS.0 { "the other one" } else { "this one" }
    )]
    Version { low: u16, high: u16, software: String },
    #[error("the peer did not introduce itself within {} s", HANDSHAKE_DEADLINE.as_secs())]
    Deadline,
    #[error("the peer closed the connection before it had introduced itself")]
    Closed,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

impl HandshakeError {
    /// Returns the error for a caller whose request was for this peer.
    pub(crate) fn to_queue_error(&self, peer: &str) -> QueueError {
        let code = match self {
            Self::OtherMesh => ErrorCode::Unauthorized,
            Self::Version { .. } => ErrorCode::Unsupported,
            _ => ErrorCode::Unreachable,
        };
        QueueError::new(code, format!("{peer}: {self}"))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    versions: (u16, u16),
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    limits: Limits,
    nonce: String,
    serves: bool,
    instance: String,
    software: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Proof {
    proof: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Introduction {
    addresses: Vec<String>,
}

/// Exchanges hello, proof and introduction within [`HANDSHAKE_DEADLINE`].
pub(crate) async fn prove<S>(
    io: &mut S,
    ours: &Ours,
    peer: PeerId,
    role: Role,
    runtime: &dyn Runtime,
) -> Result<Proven, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(HandshakeError::Random)?;
    let exchanged = within(HANDSHAKE_DEADLINE, exchange(io, ours, peer, role, nonce), runtime).await;
    let result = exchanged.unwrap_or(Err(HandshakeError::Deadline));
    if matches!(result, Err(HandshakeError::OtherMesh | HandshakeError::Version { .. })) {
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

/// Exchanges hello, proof and introduction, without a deadline. The `nonce` must never have been used before.
pub(super) async fn exchange<S>(
    io: &mut S,
    ours: &Ours,
    peer: PeerId,
    role: Role,
    nonce: [u8; NONCE_BYTES],
) -> Result<Proven, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = FrameReader::new(FRAME_BYTES_UNPROVEN);
    send(io, &hello(ours, &nonce)).await?;
    let theirs: Hello = receive(io, &mut reader).await?;
    check_versions(theirs.versions, || short(theirs.software.clone()))?;
    let their_nonce = decode::<NONCE_BYTES>(&theirs.nonce)?;
    let nonces = match role {
        Role::Dialer => (nonce, their_nonce),
        Role::Listener => (their_nonce, nonce),
    };
    let peers = match role {
        Role::Dialer => (ours.peer_id, peer),
        Role::Listener => (peer, ours.peer_id),
    };
    let proof = |role| proof(&ours.secret, role, &nonces, &peers);
    // It is sent before the peer's proof is checked, so that both ends learn that the secrets differ.
    send(io, &Proof { proof: HEXLOWER.encode(&proof(role).finalize().into_bytes()) }).await?;
    let Proof { proof: theirs_proof } = receive(io, &mut reader).await?;
    let claimed = decode::<32>(&theirs_proof)?;
    proof(role.other()).verify_slice(&claimed).map_err(|_| HandshakeError::OtherMesh)?;
    send(io, &introduction(ours)).await?;
    // The limit for an unproven peer still holds. An introduction of this build keeps to it.
    let Introduction { addresses } = receive(io, &mut reader).await?;
    reader.set_bytes_max(FRAME_BYTES_MAX);
    Ok(Proven {
        serves: theirs.serves,
        instance: short(theirs.instance),
        software: short(theirs.software),
        addresses: readable(&addresses),
        agreed: Agreed { reader, terms: Terms::new(&theirs.features, theirs.limits) },
    })
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

/// Ends the connection so that the peer still reads why it is refused.
///
/// Dropping the connection with unread bytes would reset it and discard the reason. So this end reads until the peer
/// closes too.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) {
    let _gone = io.close().await;
    let mut scratch = [0; 256];
    while let Ok(1..) = futures::AsyncReadExt::read(io, &mut scratch).await {}
}

fn hello(ours: &Ours, nonce: &[u8; NONCE_BYTES]) -> Hello {
    Hello {
        versions: VERSIONS,
        features: features(),
        limits: Limits::ours(),
        nonce: HEXLOWER.encode(nonce),
        serves: ours.serves,
        instance: ours.instance.clone(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn introduction(ours: &Ours) -> Introduction {
    // The addresses take at most three quarters of the frame. The others are left out, so that these can be sent.
    let mut room = FRAME_BYTES_UNPROVEN * 3 / 4;
    let texts = ours.addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string);
    let fitting = texts.filter(|text| {
        let fits = text.len() <= room.min(ADDRESS_BYTES_MAX);
        room -= if fits { text.len() } else { 0 };
        fits
    });
    Introduction { addresses: fitting.collect() }
}

/// Returns the addresses that this build understands.
fn readable(addresses: &[String]) -> Vec<Multiaddr> {
    let short = addresses.iter().filter(|text| text.len() <= ADDRESS_BYTES_MAX);
    short.take(ADDRESSES_MAX).filter_map(|text| Multiaddr::from_str(text).ok()).collect()
}

fn decode<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], FrameError> {
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
    let mut out = Vec::new();
    put_frame(&mut out, FRAME_BYTES_UNPROVEN, |out| serde_json::to_writer(out, message))?;
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
mod tests;
