//! What an admin's machine does with the members: it invites, lets in, renames, gives roles, and removes.

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use taskqueue_api::{Grants, QueueError, Role};

use super::{
    entry::{Change, MemberEntry},
    error::MembersError,
    mesh::{Mesh, Welcome, signing_key},
    name::{MachineName, name_of_host},
    roster::Entry,
    signed::Signed,
    tickets::{Invited, TicketId, TicketSecret},
};
use crate::Identity;

/// The name that a newcomer asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) name: MachineName,
    /// Whether a person chose the name. If not, it is the host's, and a number behind it does no harm.
    pub(crate) is_chosen: bool,
}

impl Wish {
    /// Returns the wish for this name, or for the name of the host.
    pub(crate) fn of(chosen: Option<&str>, own: PeerId) -> Result<Self, QueueError> {
        match chosen {
            Some(name) => Ok(Self { name: MachineName::chosen(name)?, is_chosen: true }),
            None => Ok(Self { name: name_of_host(own), is_chosen: false }),
        }
    }
}

/// Which of the members that a removed admin has let in stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The person has not said it.
    Unsaid,
    All,
    These(Vec<PeerId>),
}

impl Mesh {
    /// Makes a ticket. `until` is in Unix seconds of this machine's clock.
    pub(crate) fn invite(&mut self, ticket: Invited, now: f64, identity: &Identity) -> Result<(), MembersError> {
        if signing_key(self.root.as_ref(), &self.roster, identity).is_none() {
            return Err(MembersError::NotAdmin);
        }
        if ticket.grants.role() == Role::Admin && self.root.is_none() {
            return Err(MembersError::NeedsRoot);
        }
        if let Some(name) = ticket.name.as_ref().filter(|name| self.is_taken(name, None)) {
            return Err(MembersError::NameTaken(name.clone()));
        }
        Ok(self.tickets.invite(ticket, now)?)
    }

    /// Returns the secret of a ticket that this machine has given out.
    pub(crate) fn ticket_secret(&self, id: TicketId) -> Option<&TicketSecret> {
        self.tickets.secret(id)
    }

    /// Makes a machine a member that has proved that it has the ticket.
    pub(crate) fn admit(
        &mut self,
        id: TicketId,
        newcomer: PeerId,
        wish: Wish,
        now: f64,
        identity: &Identity,
    ) -> Result<Welcome, MembersError> {
        let (grants, given) = {
            let ticket = self.tickets.admit(id, newcomer, now)?;
            (ticket.grants.clone(), ticket.name.clone())
        };
        let is_same = |member: &MemberEntry| member.grants == grants;
        if !self.roster.member(&newcomer).is_some_and(is_same) {
            let name = self.free_name(given, wish, newcomer)?;
            self.sign(Change { peer: newcomer, name, grants, removed: false }, identity)?;
        }
        let secret = self.secrets.newest();
        let inviter = self.roster.credentials(&identity.peer_id());
        let entries = inviter.into_iter().chain(self.roster.credentials(&newcomer));
        Ok(Welcome {
            mesh: self.roster.mesh(),
            generation: secret.generation,
            secret: secret.secret.clone(),
            entries: entries.map(|entry| entry.source().clone()).collect(),
            secret_notes: self.roster.secret_notes().map(Signed::source).cloned().collect(),
        })
    }

    fn free_name(&self, given: Option<MachineName>, wish: Wish, newcomer: PeerId) -> Result<MachineName, MembersError> {
        let is_chosen = given.is_some() || wish.is_chosen;
        let name = given.unwrap_or(wish.name);
        let is_free = |name: &MachineName| !self.is_taken(name, Some(newcomer));
        match is_free(&name) {
            true => Ok(name),
            false if is_chosen => Err(MembersError::NameTaken(name)),
            false => (2..).map(|number| name.numbered(number)).find(is_free).ok_or(MembersError::NameTaken(name)),
        }
    }

    /// Tells whether another machine than this one has the name.
    fn is_taken(&self, name: &MachineName, but: Option<PeerId>) -> bool {
        self.roster.names().iter().any(|(peer, taken)| taken == name && Some(*peer) != but)
    }

    /// Takes a machine out of the mesh, and draws the secret anew. The tickets by which it came in are withdrawn.
    pub(crate) fn remove(&mut self, peer: PeerId, keep: &Keep, identity: &Identity) -> Result<(), MembersError> {
        let member = self.member_or_why(peer)?.clone();
        self.adopt_members_of(&member, keep, identity)?;
        let MemberEntry { name, grants, .. } = member;
        self.sign(Change { peer, name, grants, removed: true }, identity)?;
        self.tickets.withdraw(&peer);
        self.rotate_secret(identity)
    }

    /// Signs again which of the members that an admin has let in stay, before it is no admin any more.
    fn adopt_members_of(&mut self, admin: &MemberEntry, keep: &Keep, identity: &Identity) -> Result<(), MembersError> {
        let Some(signer) = admin.as_admin() else { return Ok(()) };
        if self.root.is_none() {
            return Err(MembersError::NeedsRoot);
        }
        let names = self.roster.names();
        let signed: Vec<_> = self.roster.members().filter(|member| member.by == signer).collect();
        let stands: Box<dyn Fn(&MemberEntry) -> bool> = match keep {
            Keep::Unsaid if signed.is_empty() => Box::new(|_| false),
            Keep::Unsaid => {
                let name = |peer: &PeerId| names.get(peer).map_or_else(|| peer.to_string(), ToString::to_string);
                let signed = signed.iter().map(|member| name(&member.peer)).collect();
                return Err(MembersError::KeepWhich { admin: name(&admin.peer), signed });
            }
            Keep::All => Box::new(|_| true),
            Keep::These(peers) => Box::new(move |member| peers.contains(&member.peer)),
        };
        let key = signing_key(self.root.as_ref(), &self.roster, identity).ok_or(MembersError::NotAdmin)?;
        self.roster.adopt(signer, stands, key);
        Ok(())
    }

    /// Gives a member another name.
    pub(crate) fn rename(
        &mut self,
        peer: PeerId,
        name: MachineName,
        identity: &Identity,
    ) -> Result<Entry, MembersError> {
        let grants = self.member_or_why(peer)?.grants.clone();
        if self.is_taken(&name, Some(peer)) {
            return Err(MembersError::NameTaken(name));
        }
        self.sign(Change { peer, name, grants, removed: false }, identity)
    }

    /// Gives a member another role. What it signed as an admin stays.
    pub(crate) fn set_grants(&mut self, peer: PeerId, grants: Grants, identity: &Identity) -> Result<(), MembersError> {
        let member = self.member_or_why(peer)?.clone();
        if grants.role() != Role::Admin {
            if member.as_admin().is_some() && self.is_last_admin(peer) {
                return Err(MembersError::LastAdmin);
            }
            self.adopt_members_of(&member, &Keep::All, identity)?;
        }
        let was_admin = member.as_admin().is_some() && grants.role() != Role::Admin;
        self.sign(Change { peer, name: member.name, grants, removed: false }, identity)?;
        // What the machine has said about the secret counts no more.
        if was_admin { self.rotate_secret(identity) } else { Ok(()) }
    }

    /// Checks that this machine may leave: that the mesh has other members and, unless `force` is set, another admin, so
    /// that somebody can change the mesh that is left behind.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, with a sentence that says what to do.
    pub fn check_leaving(&self, own: PeerId, force: bool) -> Result<(), QueueError> {
        if self.roster.members().all(|member| member.peer == own) {
            return Err(MembersError::Alone.into());
        }
        if self.is_last_admin(own) && !force { Err(MembersError::LastAdmin.into()) } else { Ok(()) }
    }

    fn is_last_admin(&self, peer: PeerId) -> bool {
        let mut admins = self.roster.members().filter(|member| member.as_admin().is_some()).map(|admin| admin.peer);
        admins.next() == Some(peer) && admins.next().is_none()
    }

    fn member_or_why(&self, peer: PeerId) -> Result<&MemberEntry, MembersError> {
        self.roster.member(&peer).ok_or_else(|| match self.roster.is_removed(&peer) {
            true => MembersError::RemovedAlready(peer.to_string()),
            false => MembersError::Unknown(peer.to_string()),
        })
    }
}
