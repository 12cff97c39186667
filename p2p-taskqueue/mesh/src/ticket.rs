//! The ticket: one line of text by which a machine becomes a member of a mesh.
//!
//! ```text
//! taskmesh2 BASE32( version 2 | mesh | inviter | secret | addresses | checksum )
//! ```
//!
//! The mesh and the inviter are public Ed25519 keys. Each address is preceded by its length.

use std::{fmt, str::FromStr};

use libp2p::{
    Multiaddr, PeerId,
    identity::{PublicKey, ed25519},
};

use crate::{
    Mesh,
    checked_text::{self, TextError},
    members::{MeshId, TicketSecret, key_in},
};

const PREFIX: &str = "taskmesh";
const VERSION: u8 = 2;
const KEY_BYTES: usize = 32;

/// The most addresses in one ticket. They are enough for a machine with several networks, and few enough for one line
/// of text.
pub const TICKET_ADDRESSES_MAX: usize = 8;

/// The longest address in a ticket, in bytes.
pub(crate) const ADDRESS_BYTES_MAX: usize = 255;

/// An invitation to a mesh. It holds a one-time secret of the machine that invites: whoever shows the ticket there first
/// is let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    mesh: MeshId,
    inviter: PeerId,
    secret: TicketSecret,
    addresses: Vec<Multiaddr>,
}

impl Ticket {
    /// Makes a ticket to the mesh, by way of this peer.
    ///
    /// Addresses of more than 255 bytes are left out. Of the others the first [`TICKET_ADDRESSES_MAX`] are kept, without
    /// the peer id at their end.
    pub(crate) fn new(mesh: MeshId, inviter: PeerId, secret: TicketSecret, addresses: Vec<Multiaddr>) -> Self {
        let mut addresses: Vec<_> = addresses.into_iter().map(without_peer).collect();
        addresses.retain(|address| (1..=ADDRESS_BYTES_MAX).contains(&address.len()));
        addresses.truncate(TICKET_ADDRESSES_MAX);
        Self { mesh, inviter, secret, addresses }
    }

    /// Returns the mesh to which the ticket leads.
    pub(crate) const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Returns the id of the peer that invites.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.inviter
    }

    /// Returns the addresses of the peer that invites.
    #[must_use]
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// Tells whether this is the mesh to which the ticket leads.
    #[must_use]
    pub fn leads_to(&self, mesh: &Mesh) -> bool {
        mesh.id() == self.mesh
    }

    pub(crate) const fn secret(&self) -> &TicketSecret {
        &self.secret
    }

    /// Returns the text that [`FromStr`] reads. Whoever has it may join.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut body = self.mesh.as_bytes().to_vec();
        body.extend(ed25519_key(&self.inviter).unwrap_or_default());
        body.extend_from_slice(self.secret.as_bytes());
        for address in &self.addresses {
            body.push(u8::try_from(address.len()).unwrap_or(0));
            body.extend(address.as_ref().iter().take(ADDRESS_BYTES_MAX));
        }
        checked_text::write(PREFIX, VERSION, &body)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let bytes = checked_text::read(PREFIX, VERSION, text)?;
        read(&bytes).ok_or(TicketError(TextError::Damaged))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("mesh", &self.mesh)
            .field("inviter", &self.inviter)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// The reason why a text is not a valid [`Ticket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketError(TextError);

impl TicketError {
    /// Returns what is wrong with the text.
    #[must_use]
    pub const fn kind(&self) -> TextError {
        self.0
    }
}

impl From<TextError> for TicketError {
    fn from(error: TextError) -> Self {
        Self(error)
    }
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TextError::NotOne => {
                f.write_str("not a ticket: a ticket starts with taskmesh2 and is printed by `taskmesh invite`")
            }
            TextError::Damaged => f.write_str(
                "the ticket is damaged (its checksum does not match): copy the whole line that `taskmesh invite` printed",
            ),
            TextError::Newer => {
                f.write_str("the ticket was made by a newer version: update taskmesh on this machine")
            }
            TextError::Older => f.write_str(
                "the ticket was made by an older version: update taskmesh on the machine that made it, and invite again",
            ),
        }
    }
}

impl std::error::Error for TicketError {}

fn without_peer(address: Multiaddr) -> Multiaddr {
    let mut address = address;
    if let Some(libp2p::multiaddr::Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

fn ed25519_key(peer: &PeerId) -> Option<[u8; KEY_BYTES]> {
    key_in(peer)?.try_into_ed25519().ok().map(|key| key.to_bytes())
}

fn read(bytes: &[u8]) -> Option<Ticket> {
    let (mesh, rest) = bytes.split_first_chunk::<{ MeshId::BYTES }>()?;
    let (key, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
    let (secret, mut rest) = rest.split_first_chunk::<{ TicketSecret::BYTES }>()?;
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    let mut addresses = Vec::new();
    while let Some((length, fields)) = rest.split_first() {
        let (address, after) = fields.split_at_checked(usize::from(*length))?;
        addresses.push(Multiaddr::try_from(address.to_vec()).ok().filter(|address| !address.is_empty())?);
        rest = after;
    }
    if addresses.len() > TICKET_ADDRESSES_MAX {
        return None;
    }
    Some(Ticket {
        mesh: MeshId::from_bytes(*mesh),
        inviter: PublicKey::from(key).to_peer_id(),
        secret: TicketSecret::from_bytes(*secret),
        addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, RootKey};

    fn ticket(addresses: &[&str]) -> Ticket {
        let mesh = RootKey::from_secret_bytes([1; 32]).mesh();
        let inviter = Identity::from_secret_bytes([2; 32]).peer_id();
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Ticket::new(mesh, inviter, TicketSecret::from_bytes([9; 16]), addresses)
    }

    fn usual() -> Ticket {
        ticket(&["/ip4/192.0.2.7/tcp/9710", "/ip6/::1/tcp/1"])
    }

    fn kind(text: &str) -> TextError {
        text.parse::<Ticket>().unwrap_err().kind()
    }

    #[test]
    fn text_round_trips_even_wrapped_and_shouted() {
        let ticket = usual();
        let text = ticket.to_text();
        assert!(text.starts_with("taskmesh2"));
        assert_eq!(text.parse(), Ok(ticket.clone()));
        let (head, tail) = text.split_at(40);
        assert_eq!(format!(" {}\r\n{tail}\n", head.to_ascii_uppercase()).parse(), Ok(ticket));
    }

    #[test]
    fn a_ticket_with_one_address_is_short() {
        let peer = Identity::from_secret_bytes([2; 32]).peer_id();
        for (address, most) in [
            ("/ip4/192.0.2.7/tcp/9710", 165),
            ("/ip6/2001:db8:1:2:3:4:5:6/udp/65535/quic-v1", 190),
            ("/dns4/gpu-box.example.org/tcp/9710", 200),
        ] {
            let with_peer = format!("{address}/p2p/{peer}");
            let ticket = ticket(&[&with_peer]);
            assert_eq!(ticket.addresses(), [address.parse::<Multiaddr>().unwrap()]);
            let text = ticket.to_text();
            assert!(text.len() <= most, "{address}: {}", text.len());
        }
    }

    #[test]
    fn damage_is_told_from_what_never_was_a_ticket() {
        let text = usual().to_text();
        for cut in 10..text.len() {
            assert_eq!(kind(&text[..cut]), TextError::Damaged, "cut at {cut}");
        }
        for at in 9..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(kind(&String::from_utf8(bytes).unwrap()), TextError::Damaged, "changed {at}");
        }
        for never in ["", "hello", "12D3KooW", "/ip4/127.0.0.1/tcp/1", "taskmesh", "taskmeshx"] {
            assert_eq!(kind(never), TextError::NotOne, "{never}");
        }
    }

    #[test]
    fn another_version_says_so() {
        assert_eq!(kind(&usual().to_text().replacen('2', "3", 1)), TextError::Newer);
        assert_eq!(kind(&usual().to_text().replacen('2', "1", 1)), TextError::Older);
    }

    #[test]
    fn the_secret_does_not_show() {
        assert!(!format!("{:?}", usual()).contains("secret"));
    }
}
