//! The part of the handshake behind the proofs: who is a member, what is new about the members, and how a newcomer is
//! let in.

use std::{collections::HashSet, fmt, sync::Arc};

use data_encoding::HEXLOWER;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, future::try_join};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use taskqueue_api::Grants;

use super::{
    frame::{FrameError, FrameReader},
    handshake::{Proofs, first_match, receive, send, send_up_to},
    limits::{CREDENTIALS_MAX, ENTRIES_FRAME_BYTES, FRAME_BYTES_DOOR, FRAME_BYTES_ROSTER, STATEMENTS_MAX},
    proof::{Binding, Proof, Role},
    refused::HandshakeError,
};
use crate::{
    identity::MeshSecret,
    members::{
        MembersError, Membership, MeshId, Standing, Statements, TextId, TicketId, TicketRefusal, Unverified, Welcome,
        Wish, digest_of,
    },
    node::unix_now,
};

/// A message behind the proofs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DoorMessage {
    Member(Shown),
    Refused {
        reason: Reason,
        /// What shows a removed machine that it was removed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<Unverified>,
    },
    Have {
        texts: String,
    },
    Entries(Portion),
    Secret {
        secret: MeshSecret,
    },
    Introduction {
        addresses: Vec<String>,
    },
    Enter(Wish),
    Welcome(Welcome),
}

/// What an end shows of its membership, and what it knows of the members.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shown {
    mesh: MeshId,
    /// The entry of the end, after the entry of the admin that signed it.
    credentials: Vec<Unverified>,
    /// The digest of everything that the end knows of the members.
    roster: String,
    /// The digest of the newest secret that the end holds, as a note about it has it.
    secret: String,
    /// What this end has shown: the digests of its roster and its secret, and the number of its last change.
    #[serde(skip)]
    ours: (String, String, u64),
}

/// Some of the statements that the other end does not have.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Portion {
    entries: Vec<Unverified>,
    secret_notes: Vec<Unverified>,
    /// Whether another portion follows.
    more: bool,
}

/// The reason why an end refuses the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    Removed,
    Stranger,
    OtherMesh,
    TicketUnknown,
    TicketExpired,
    TicketUsed,
    NameTaken,
    NeedsRoot,
    NotAdmin,
    Full,
    #[serde(other)]
    Other,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => {
                "the machine was taken out of the mesh: to come back it needs a ticket from the admin that took it out, \
                 or from the machine that has the root key"
            }
            Self::Stranger => "the machine is not a member of the mesh: it needs a ticket made by `taskmesh invite`",
            Self::OtherMesh => "the machine belongs to another mesh: join it with a ticket made by `taskmesh invite`",
            Self::TicketUnknown => {
                "the machine that made this ticket does not know it (any more): ask for a new one there with `taskmesh \
                 invite`"
            }
            Self::TicketExpired => "the ticket has expired: ask for a new one with `taskmesh invite`",
            Self::TicketUsed => {
                "the ticket has been used already: ask for a new one with `taskmesh invite`, or with `--uses N` for N \
                 machines"
            }
            Self::NameTaken => "another machine of the mesh has this name: choose another one with --name",
            Self::NeedsRoot => {
                "the machine was taken out of the mesh before: only a ticket from the admin that took it out, or from the \
                 machine that has the root key, lets it back in"
            }
            Self::NotAdmin => "the machine that made the ticket is no admin of its mesh any more",
            Self::Full => "the mesh has no room for another member",
            Self::Other => "the other machine refuses it and gives a reason that this version does not know",
        })
    }
}

impl From<&MembersError> for Reason {
    fn from(error: &MembersError) -> Self {
        match error {
            MembersError::Ticket(TicketRefusal::Expired) => Self::TicketExpired,
            MembersError::Ticket(TicketRefusal::Used) => Self::TicketUsed,
            MembersError::Ticket(TicketRefusal::Unknown) => Self::TicketUnknown,
            MembersError::NameTaken(_) => Self::NameTaken,
            MembersError::NeedsRoot => Self::NeedsRoot,
            MembersError::NotAdmin => Self::NotAdmin,
            MembersError::Full => Self::Full,
            _ => Self::Other,
        }
    }
}

/// Shows this end's membership to the peer, and checks the peer's.
pub(super) async fn show_membership<S>(
    io: &mut S,
    reader: &mut FrameReader,
    membership: &Membership,
    peer: PeerId,
) -> Result<Shown, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if membership.standing(&peer) == Standing::Removed {
        let entries = membership.credentials_of(&peer);
        send_up_to(FRAME_BYTES_DOOR, io, &DoorMessage::Refused { reason: Reason::Removed, entries }).await?;
        return Err(HandshakeError::Refusing(Reason::Removed));
    }
    // Read first, so that a change in between is told once more rather than not at all.
    let last_change = *membership.changes().borrow();
    let (roster, secret) = (HEXLOWER.encode(&membership.digest()), digest_of(&membership.newest_secret()));
    let ours = (roster.clone(), secret.clone(), last_change);
    let (mesh, credentials) = (membership.mesh_id(), membership.credentials());
    let shown = Shown { mesh, credentials, roster, secret, ours: ours.clone() };
    send_up_to(FRAME_BYTES_DOOR, io, &DoorMessage::Member(shown)).await?;
    reader.set_bytes_max(FRAME_BYTES_DOOR);
    let mut theirs = match receive(io, reader).await? {
        DoorMessage::Member(theirs) => theirs,
        DoorMessage::Refused { reason, mut entries } => {
            entries.truncate(CREDENTIALS_MAX);
            // It is refused either way. What cannot be believed or kept changes nothing.
            let _heard = membership.take(Statements { entries, ..Statements::default() });
            return Err(HandshakeError::Refused(reason));
        }
        _ => return Err(out_of_order()),
    };
    if theirs.mesh != mesh {
        return refuse(io, Reason::OtherMesh).await;
    }
    if theirs.credentials.len() > CREDENTIALS_MAX {
        return Err(FrameError::Malformed("too many credentials".to_owned()).into());
    }
    membership.take(Statements { entries: std::mem::take(&mut theirs.credentials), ..Statements::default() })?;
    grants_or_refuse(io, membership, peer).await?;
    Ok(Shown { ours, ..theirs })
}

/// Exchanges what only one of the ends knows of the members, and the newer secret. Returns what the peer may do, and the
/// number of the last change that it has heard of.
pub(super) async fn exchange_news<S>(
    io: &mut S,
    reader: &mut FrameReader,
    membership: &Membership,
    peer: PeerId,
    shown: &Shown,
) -> Result<(Arc<Grants>, u64), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    reader.set_bytes_max(FRAME_BYTES_ROSTER);
    let (digest, secret, mut last_change) = shown.ours.clone();
    if shown.roster != digest {
        last_change = exchange_statements(io, reader, membership).await?;
    }
    // What was heard may be that the peer was removed. A removed machine is not told the secret.
    let grants = grants_or_refuse(io, membership, peer).await?;
    if shown.secret != secret {
        send(io, &DoorMessage::Secret { secret: membership.newest_secret() }).await?;
        let DoorMessage::Secret { secret } = expect(io, reader).await? else { return Err(out_of_order()) };
        membership.take_secret(secret)?;
    }
    Ok((grants, last_change))
}

/// Sends the statements that the peer does not have, and takes those that this node does not have. Returns the number of
/// the last change before.
async fn exchange_statements<S>(
    io: &mut S,
    reader: &mut FrameReader,
    membership: &Membership,
) -> Result<u64, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let last_change = *membership.changes().borrow();
    // Both ends send and receive at the same time, so that neither waits for the other to read.
    let (mut read, mut write) = (&mut *io).split();
    let have = DoorMessage::Have { texts: to_texts(&membership.text_ids()) };
    let send_have = async { send_up_to(FRAME_BYTES_ROSTER, &mut write, &have).await };
    let ((), theirs) = try_join(send_have, expect(&mut read, reader)).await?;
    let DoorMessage::Have { texts } = theirs else { return Err(out_of_order()) };
    let missing = membership.besides(&read_texts(&texts)?);
    let ((), news) = try_join(send_portions(&mut write, missing), receive_portions(&mut read, reader)).await?;
    membership.take(news)?;
    Ok(last_change)
}

async fn send_portions<S: AsyncWrite + Unpin>(io: &mut S, statements: Statements) -> Result<(), HandshakeError> {
    let Statements { entries, mut secret_notes } = statements;
    let mut entries = entries.into_iter().peekable();
    loop {
        let (mut portion, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = entries.next_if(|entry| bytes == 0 || bytes + len_of(entry) <= ENTRIES_FRAME_BYTES) {
            bytes += len_of(&entry);
            portion.push(entry);
        }
        let more = entries.peek().is_some();
        let secret_notes = if more { Vec::new() } else { std::mem::take(&mut secret_notes) };
        let portion = DoorMessage::Entries(Portion { entries: portion, secret_notes, more });
        send_up_to(FRAME_BYTES_ROSTER, io, &portion).await?;
        if !more {
            return Ok(());
        }
    }
}

const fn len_of(source: &Unverified) -> usize {
    source.text.len() + source.signature.len()
}

async fn receive_portions<S: AsyncRead + Unpin>(
    io: &mut S,
    reader: &mut FrameReader,
) -> Result<Statements, HandshakeError> {
    let mut all = Statements::default();
    loop {
        let DoorMessage::Entries(portion) = expect(io, reader).await? else { return Err(out_of_order()) };
        all.entries.extend(portion.entries);
        all.secret_notes.extend(portion.secret_notes);
        if all.entries.len() + all.secret_notes.len() > STATEMENTS_MAX {
            return Err(FrameError::Malformed("more statements than a roster has".to_owned()).into());
        }
        if !portion.more {
            return Ok(all);
        }
    }
}

/// Exchanges where the two nodes can be dialled. Returns the peer's addresses as it wrote them.
pub(super) async fn introduce<S>(
    io: &mut S,
    reader: &mut FrameReader,
    addresses: Vec<String>,
) -> Result<Vec<String>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(io, &DoorMessage::Introduction { addresses }).await?;
    match expect(io, reader).await? {
        DoorMessage::Introduction { addresses } => Ok(addresses),
        _ => Err(out_of_order()),
    }
}

/// Lets a newcomer in that proves that it has the ticket: it is a member when it is told so.
pub(super) async fn admit_newcomer<S>(
    io: &mut S,
    reader: &mut FrameReader,
    membership: &Membership,
    (ticket, newcomer): (TicketId, PeerId),
    binding: &Binding,
) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(secret) = membership.ticket_secret(ticket) else {
        // Without a proof the newcomer learns that the ticket is not known here.
        send(io, &Proofs { proofs: Vec::new() }).await?;
        return Err(HandshakeError::Refusing(Reason::TicketUnknown));
    };
    let proof = |role| Proof::of_ticket(&secret, role, binding);
    send(io, &Proofs { proofs: vec![proof(Role::Listener).to_hex()] }).await?;
    let claimed: Proofs = receive(io, reader).await?;
    first_match(&[proof(Role::Dialer)], &claimed)?.ok_or(HandshakeError::OtherMesh)?;
    let DoorMessage::Enter(wish) = expect(io, reader).await? else { return Err(out_of_order()) };
    let admitted = membership.change(|mesh, identity| mesh.admit(ticket, newcomer, wish, unix_now(), identity));
    match admitted {
        // It has the notes of all admins about secrets.
        Ok(welcome) => send_up_to(FRAME_BYTES_ROSTER, io, &DoorMessage::Welcome(welcome)).await,
        Err(error) => {
            tracing::info!(%newcomer, %error, "a newcomer was not let in");
            refuse(io, Reason::from(&error)).await
        }
    }
}

/// Asks to be made a member, once the secret of the ticket is proved.
pub(super) async fn ask_to_enter<S>(
    io: &mut S,
    reader: &mut FrameReader,
    wish: &Wish,
) -> Result<Welcome, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(io, &DoorMessage::Enter(wish.clone())).await?;
    reader.set_bytes_max(FRAME_BYTES_ROSTER);
    match expect(io, reader).await? {
        DoorMessage::Welcome(welcome) => Ok(welcome),
        _ => Err(out_of_order()),
    }
}

/// Returns what the peer may do. A peer that is no member is refused.
async fn grants_or_refuse<S>(io: &mut S, membership: &Membership, peer: PeerId) -> Result<Arc<Grants>, HandshakeError>
where
    S: AsyncWrite + Unpin,
{
    match membership.standing(&peer) {
        Standing::Member(grants) => Ok(grants),
        Standing::Removed => refuse(io, Reason::Removed).await,
        Standing::Stranger => refuse(io, Reason::Stranger).await,
    }
}

async fn refuse<S, T>(io: &mut S, reason: Reason) -> Result<T, HandshakeError>
where
    S: AsyncWrite + Unpin,
{
    send(io, &DoorMessage::Refused { reason, entries: Vec::new() }).await?;
    Err(HandshakeError::Refusing(reason))
}

/// Receives the next message. A refusal is an error.
async fn expect<S>(io: &mut S, reader: &mut FrameReader) -> Result<DoorMessage, HandshakeError>
where
    S: AsyncRead + Unpin,
{
    match receive(io, reader).await? {
        DoorMessage::Refused { reason, .. } => Err(HandshakeError::Refused(reason)),
        message => Ok(message),
    }
}

fn out_of_order() -> HandshakeError {
    FrameError::Malformed("another message of the handshake is due".to_owned()).into()
}

/// Writes the ids of texts one after the other, in hexadecimal.
fn to_texts(ids: &HashSet<TextId>) -> String {
    let mut ids: Vec<_> = ids.iter().collect();
    ids.sort_unstable();
    ids.into_iter().map(|id| HEXLOWER.encode(id)).collect()
}

fn read_texts(texts: &str) -> Result<HashSet<TextId>, HandshakeError> {
    let malformed = || FrameError::Malformed("the ids of statements are 16 hexadecimal digits each".to_owned());
    let bytes = HEXLOWER.decode(texts.as_bytes()).map_err(|_| malformed())?;
    let (ids, rest) = bytes.as_chunks::<{ size_of::<TextId>() }>();
    if rest.is_empty() { Ok(ids.iter().copied().collect()) } else { Err(malformed().into()) }
}
