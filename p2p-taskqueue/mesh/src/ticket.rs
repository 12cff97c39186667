//! The ticket: one line of text with everything that a second machine needs to join a mesh.
//!
//! ```text
//! taskmesh1 BASE32( version 1 | peer id | secret | addresses | checksum )
//! ```
//!
//! The peer id and each address are preceded by their length. The checksum is the first four bytes of a SHA-256 over
//! all bytes before it. It tells a line that was cut or mistyped from a text that never was a ticket.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use libp2p::{Multiaddr, PeerId};
use sha2::{Digest, Sha256};

use crate::MeshSecret;

const PREFIX: &str = "taskmesh";
const VERSION_DIGIT: &str = "1";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// The most addresses in one ticket. They are enough for a machine with several networks, and few enough for one line
/// of text.
pub const TICKET_ADDRESSES_MAX: usize = 8;

/// The longest address in a ticket, in bytes.
const ADDRESS_BYTES_MAX: usize = 256;

/// An invitation to a mesh. It holds the mesh secret, so anyone who has it may join.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    peer_id: PeerId,
    addresses: Vec<Multiaddr>,
    secret: MeshSecret,
}

impl Ticket {
    /// Makes a ticket to the mesh with this secret, by way of this peer.
    ///
    /// Addresses of more than 256 bytes are left out. Of the others the first [`TICKET_ADDRESSES_MAX`] are kept.
    #[must_use]
    pub fn new(peer_id: PeerId, addresses: Vec<Multiaddr>, secret: MeshSecret) -> Self {
        let mut addresses = addresses;
        addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX);
        addresses.truncate(TICKET_ADDRESSES_MAX);
        Self { peer_id, addresses, secret }
    }

    /// Returns the id of the peer that invites.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Returns the addresses of the peer that invites.
    #[must_use]
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// Returns the secret of the mesh.
    #[must_use]
    pub const fn secret(&self) -> &MeshSecret {
        &self.secret
    }

    /// Returns the text that [`FromStr`] reads. Anyone who has it may join.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut body = vec![VERSION];
        put(&mut body, &self.peer_id.to_bytes());
        body.extend_from_slice(self.secret.as_bytes());
        for address in &self.addresses {
            put(&mut body, address.as_ref());
        }
        let checksum = Sha256::digest(&body);
        body.extend(checksum.iter().take(CHECKSUM_BYTES));
        format!("{PREFIX}{VERSION_DIGIT}{}", BASE32_NOPAD.encode(&body).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        // A terminal or a mail program may have wrapped the line.
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        let versioned = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let body = match versioned.strip_prefix(VERSION_DIGIT) {
            Some(body) => body,
            None if versioned.starts_with(|c: char| c.is_ascii_digit()) => return Err(TicketError::Newer),
            None => return Err(TicketError::NotATicket),
        };
        let bytes = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).map_err(|_| TicketError::Damaged)?;
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Damaged)?;
        if !Sha256::digest(body).starts_with(checksum) {
            return Err(TicketError::Damaged);
        }
        match body.split_first() {
            Some((&VERSION, fields)) => read(fields).ok_or(TicketError::Damaged),
            _ => Err(TicketError::Newer),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("peer_id", &self.peer_id)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// The reason why a text is not a valid [`Ticket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The text never was a ticket.
    #[error("not a ticket: a ticket starts with taskmesh1 and is printed by `taskmesh invite`")]
    NotATicket,
    /// A part of the ticket is missing or has changed.
    #[error("the ticket is damaged (its checksum does not match): copy the whole line that `taskmesh invite` printed")]
    Damaged,
    /// A newer version of taskmesh made the ticket.
    #[error("the ticket was made by a newer version: update taskmesh on this machine")]
    Newer,
}

/// Appends a field after its length in two bytes. Every field is far shorter than 64 KiB.
fn put(body: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).unwrap_or(0);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend(field.iter().take(usize::from(length)));
}

fn take<'a>(fields: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = fields.split_first_chunk::<2>()?;
    let (field, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *fields = rest;
    Some(field)
}

fn read(mut fields: &[u8]) -> Option<Ticket> {
    let peer_id = PeerId::from_bytes(take(&mut fields)?).ok()?;
    let (secret, rest) = fields.split_first_chunk::<{ MeshSecret::BYTES }>()?;
    fields = rest;
    let mut addresses = Vec::new();
    while !fields.is_empty() && addresses.len() < TICKET_ADDRESSES_MAX {
        addresses.push(Multiaddr::try_from(take(&mut fields)?.to_vec()).ok()?);
    }
    Some(Ticket { peer_id, addresses, secret: MeshSecret::from_bytes(*secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let addresses = vec!["/ip4/192.0.2.7/tcp/9710".parse().unwrap(), "/ip6/::1/tcp/1".parse().unwrap()];
        Ticket::new(PeerId::random(), addresses, MeshSecret::from_bytes([9; 32]))
    }

    #[test]
    fn text_round_trips_even_wrapped_and_shouted() {
        let ticket = ticket();
        let text = ticket.to_text();
        assert!(text.starts_with("taskmesh1"));
        assert_eq!(text.parse(), Ok(ticket.clone()));
        let (head, tail) = text.split_at(40);
        assert_eq!(format!(" {}\r\n{tail}\n", head.to_ascii_uppercase()).parse(), Ok(ticket));
    }

    #[test]
    fn damage_is_told_from_what_never_was_a_ticket() {
        let text = ticket().to_text();
        for cut in 10..text.len() {
            assert_eq!(text[..cut].parse::<Ticket>(), Err(TicketError::Damaged), "cut at {cut}");
        }
        for at in 9..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(String::from_utf8(bytes).unwrap().parse::<Ticket>(), Err(TicketError::Damaged), "changed {at}");
        }
        for never in ["", "hello", "12D3KooW", "/ip4/127.0.0.1/tcp/1", "taskmesh"] {
            assert_eq!(never.parse::<Ticket>(), Err(TicketError::NotATicket), "{never}");
        }
    }

    #[test]
    fn a_newer_version_says_so() {
        assert_eq!(ticket().to_text().replacen('1', "2", 1).parse::<Ticket>(), Err(TicketError::Newer));
    }

    #[test]
    fn the_secret_does_not_show() {
        assert!(!format!("{:?}", ticket()).contains("secret"));
    }
}
