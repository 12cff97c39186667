//! The tickets that a node has given out: who may come in by which of them.

use std::{collections::BTreeMap, fmt};

use data_encoding::HEXLOWER;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taskqueue_api::{Grants, limits::TICKET_USES_MAX};

use super::{limits::TICKETS_MAX, name::MachineName};

/// The secret of one ticket. Whoever knows it may come in by this ticket. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TicketSecret([u8; Self::BYTES]);

impl TicketSecret {
    /// 128 random bits. Nobody guesses them in the life of a ticket, and they keep it short.
    pub(crate) const BYTES: usize = 16;

    /// Draws a secret from the operating system's random source.
    ///
    /// # Errors
    ///
    /// Fails when the operating system's random source fails.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; Self::BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(secret))
    }

    pub(crate) const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Returns the name of the ticket, which tells nothing about the secret.
    pub(crate) fn id(&self) -> TicketId {
        let digest = Sha256::new().chain_update(ID_LABEL).chain_update(self.0).finalize();
        let mut id = [0; TicketId::BYTES];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        TicketId(id)
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecret({})", self.id())
    }
}

impl Serialize for TicketSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for TicketSecret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex(deserializer).map(Self)
    }
}

const ID_LABEL: &[u8] = b"taskmesh ticket id, version 1";

/// The name of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TicketId([u8; Self::BYTES]);

impl TicketId {
    /// Enough to tell all tickets of a node apart.
    const BYTES: usize = 8;
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Serialize for TicketId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TicketId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex(deserializer).map(Self)
    }
}

pub(crate) fn hex<'de, D: serde::Deserializer<'de>, const BYTES: usize>(
    deserializer: D,
) -> Result<[u8; BYTES], D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| serde::de::Error::custom(format_args!("not {BYTES} bytes in hexadecimal")))
}

/// A ticket that was given out, as its node remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Invited {
    pub(crate) secret: TicketSecret,
    pub(crate) grants: Grants,
    /// The name of the newcomer, where whoever invited chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<MachineName>,
    /// How many machines may come in by it.
    pub(crate) uses: u32,
    /// The machines that have come in by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) used_by: Vec<PeerId>,
    /// When it ends, in seconds of the node's elapsed time. The newcomer's clock does not matter.
    pub(crate) until: f64,
}

/// Why nobody comes in by a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TicketRefusal {
    #[error("the machine that made this ticket does not know it: ask for a new one there with `taskmesh invite`")]
    Unknown,
    #[error("the ticket has expired: ask for a new one with `taskmesh invite`")]
    Expired,
    #[error(
        "the ticket has been used already: ask for a new one with `taskmesh invite`, or with `--uses N` for N machines"
    )]
    Used,
}

/// All tickets of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tickets {
    tickets: BTreeMap<TicketId, Invited>,
}

/// The error of a ticket that is not given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotInvited {
    #[error("{TICKETS_MAX} tickets are open already: wait until one is used or has expired")]
    TooMany,
    #[error("a ticket is for 1 to {TICKET_USES_MAX} machines")]
    Uses,
    #[error("a ticket with a name is for one machine")]
    Name,
}

impl Tickets {
    /// Adds a ticket. Tickets that nobody can use any more make room for it.
    pub(crate) fn invite(&mut self, ticket: Invited, now: f64) -> Result<(), NotInvited> {
        if !(1..=TICKET_USES_MAX).contains(&ticket.uses) {
            return Err(NotInvited::Uses);
        }
        if ticket.name.is_some() && ticket.uses > 1 {
            return Err(NotInvited::Name);
        }
        if self.tickets.len() >= TICKETS_MAX {
            self.tickets.retain(|_, ticket| ticket.until > now && !ticket.is_used_up());
        }
        if self.tickets.len() >= TICKETS_MAX {
            return Err(NotInvited::TooMany);
        }
        self.tickets.insert(ticket.secret.id(), ticket);
        Ok(())
    }

    /// Returns the secret of a ticket, by which its holder proves that it has the ticket.
    pub(crate) fn secret(&self, id: TicketId) -> Option<&TicketSecret> {
        self.tickets.get(&id).map(|ticket| &ticket.secret)
    }

    /// Lets a machine in that has proved that it has the ticket. A machine that asks again, because the answer was lost,
    /// is let in again and uses up nothing.
    pub(crate) fn admit(&mut self, id: TicketId, peer: PeerId, now: f64) -> Result<&Invited, TicketRefusal> {
        let ticket = self.tickets.get_mut(&id).ok_or(TicketRefusal::Unknown)?;
        if !ticket.used_by.contains(&peer) {
            if ticket.is_used_up() {
                return Err(TicketRefusal::Used);
            }
            if ticket.until <= now {
                return Err(TicketRefusal::Expired);
            }
            ticket.used_by.push(peer);
        }
        Ok(ticket)
    }

    /// Makes every ticket useless by which the machine came in, so that it does not come back by it after its removal.
    pub(crate) fn withdraw(&mut self, peer: &PeerId) {
        self.tickets.retain(|_, ticket| !ticket.used_by.contains(peer));
    }
}

impl Invited {
    fn is_used_up(&self) -> bool {
        self.used_by.len() as u64 >= u64::from(self.uses)
    }
}

#[cfg(test)]
mod tests {
    use taskqueue_api::Role;

    use super::*;

    fn invited(byte: u8, uses: u32, until: f64) -> Invited {
        let secret = TicketSecret::from_bytes([byte; 16]);
        Invited { secret, grants: Grants::of(Role::Agent), name: None, uses, used_by: Vec::new(), until }
    }

    fn id(byte: u8) -> TicketId {
        TicketSecret::from_bytes([byte; 16]).id()
    }

    #[test]
    fn a_ticket_lets_in_as_many_machines_as_it_says_and_each_as_often_as_it_asks() {
        let mut tickets = Tickets::default();
        tickets.invite(invited(1, 2, 100.0), 0.0).unwrap();
        let [a, b, c] = [(); 3].map(|()| PeerId::random());
        for peer in [a, a, b, a, b] {
            assert_eq!(tickets.admit(id(1), peer, 1.0).map(|ticket| ticket.grants.role()), Ok(Role::Agent));
        }
        assert_eq!(tickets.admit(id(1), c, 1.0), Err(TicketRefusal::Used));
        assert_eq!(tickets.admit(id(2), a, 1.0), Err(TicketRefusal::Unknown));
        assert!(tickets.admit(id(1), a, 1_000.0).is_ok(), "its answer may have been lost just before the end");
        tickets.withdraw(&a);
        assert_eq!(tickets.admit(id(1), a, 1.0), Err(TicketRefusal::Unknown));
    }

    #[test]
    fn a_ticket_ends() {
        let mut tickets = Tickets::default();
        tickets.invite(invited(1, 1, 100.0), 0.0).unwrap();
        assert_eq!(tickets.admit(id(1), PeerId::random(), 100.0), Err(TicketRefusal::Expired));
    }

    #[test]
    fn there_is_room_for_new_tickets_as_old_ones_end() {
        let mut tickets = Tickets::default();
        let count = u8::try_from(TICKETS_MAX).unwrap();
        for byte in 0..count {
            tickets.invite(invited(byte, 1, 10.0), 0.0).unwrap();
        }
        assert_eq!(tickets.invite(invited(255, 1, 20.0), 9.0), Err(NotInvited::TooMany));
        tickets.admit(id(0), PeerId::random(), 9.0).unwrap();
        tickets.invite(invited(254, 1, 20.0), 9.0).unwrap();
        tickets.invite(invited(255, 1, 20.0), 11.0).unwrap();
        assert!(tickets.secret(id(255)).is_some() && tickets.secret(id(1)).is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut tickets = Tickets::default();
        for uses in [0, TICKET_USES_MAX + 1] {
            assert_eq!(tickets.invite(invited(1, uses, 10.0), 0.0), Err(NotInvited::Uses));
        }
        let named = Invited { name: Some("box".parse().unwrap()), ..invited(1, 2, 10.0) };
        assert_eq!(tickets.invite(named, 0.0), Err(NotInvited::Name));
    }

    #[test]
    fn tickets_are_kept_and_do_not_show() {
        let mut tickets = Tickets::default();
        tickets.invite(invited(7, 1, 10.0), 0.0).unwrap();
        tickets.admit(id(7), PeerId::random(), 1.0).unwrap();
        let text = serde_json::to_string(&tickets).unwrap();
        assert_eq!(serde_json::from_str::<Tickets>(&text).unwrap(), tickets);
        assert!(!format!("{tickets:?}").contains("7, 7") && !format!("{tickets:?}").contains("0707"));
    }
}
