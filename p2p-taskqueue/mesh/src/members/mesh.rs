//! A node's part of a mesh, as it is kept between its runs.

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use taskqueue_api::{Grants, MachineNames, Role};

use super::{
    entry::Change,
    error::{MembersError, MeshError},
    key::{MeshId, RootKey},
    name::MachineName,
    roster::{Entry, Roster},
    secret::{SecretNote, Secrets},
    signed::{Signed, SignedError, Signer, SigningKey, Unverified},
    tickets::Tickets,
};
use crate::{Identity, identity::MeshSecret};

/// What a node knows of its mesh: which one it is, its members, the secrets of its door, and the tickets that the node
/// has given out.
///
/// [`to_text`](Self::to_text) and [`from_text`](Self::from_text) keep it between the runs of the node. The text holds
/// secrets: only the node's user may read it. The root key is kept in a place of its own.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(super) roster: Roster,
    pub(super) secrets: Secrets,
    pub(super) tickets: Tickets,
    pub(super) root: Option<RootKey>,
}

/// The text of a [`Mesh`].
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    mesh: MeshId,
    secrets: Secrets,
    entries: Vec<Unverified>,
    secret_notes: Vec<Unverified>,
    #[serde(default)]
    tickets: Tickets,
}

/// What a newcomer is given: enough to come in as a member. The rest of the roster follows when it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) mesh: MeshId,
    pub(super) generation: u64,
    pub(super) secret: MeshSecret,
    pub(super) entries: Vec<Unverified>,
    pub(super) secret_notes: Vec<Unverified>,
}

/// Statements with good signatures that were not known here.
#[derive(Debug)]
pub(super) struct News {
    entries: Vec<Entry>,
    notes: Vec<Signed<SecretNote>>,
}

impl News {
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.notes.is_empty()
    }
}

impl Mesh {
    /// Begins a mesh with this machine as its first member, an admin. Draws the root key.
    ///
    /// # Errors
    ///
    /// [`MeshError::Random`] when the operating system's random source fails, [`MeshError::Name`] for a text that
    /// cannot be the name of a machine.
    pub fn begin(identity: &Identity, name: &str) -> Result<Self, MeshError> {
        Self::with_root_key(RootKey::generate().map_err(MeshError::Random)?, identity, name)
    }

    /// Makes this machine an admin of the mesh of this root key, and lets it keep the key.
    ///
    /// The first secret of a mesh follows from its root key. So machines that are set up in this way find each other.
    /// After a member was removed, the secret is another one, and a new machine needs a ticket.
    ///
    /// # Errors
    ///
    /// [`MeshError::Name`] for a text that cannot be the name of a machine.
    pub fn with_root_key(root: RootKey, identity: &Identity, name: &str) -> Result<Self, MeshError> {
        let mut mesh = Self::enrolled(&root, identity, name, Grants::of(Role::Admin))?;
        mesh.root = Some(root);
        Ok(mesh)
    }

    /// Makes this machine a member of the mesh of this root key. The machine does not keep the key.
    ///
    /// It is for a program that sets up machines itself, as [`with_root_key`](Self::with_root_key) says. People use
    /// tickets.
    ///
    /// # Errors
    ///
    /// [`MeshError::Name`] for a text that cannot be the name of a machine.
    pub fn enrolled(root: &RootKey, identity: &Identity, name: &str, grants: Grants) -> Result<Self, MeshError> {
        let name = machine_name(name)?;
        let (mesh, secret, key) = (root.mesh(), root.first_secret(), SigningKey::Root(root));
        let mut roster = Roster::new(mesh);
        let change = Change { peer: identity.peer_id(), name, grants, removed: false };
        let note = SecretNote::sign(mesh, 1, &secret, key);
        if roster.change(change, key).is_none() || !note.is_some_and(|note| roster.merge_secret(note)) {
            return Err(MeshError::Unsigned);
        }
        Ok(Self { roster, secrets: Secrets::new(1, secret), tickets: Tickets::default(), root: None })
    }

    /// Returns the text that [`from_text`](Self::from_text) reads. It does not hold the root key.
    #[must_use]
    pub fn to_text(&self) -> String {
        let saved = Saved {
            mesh: self.roster.mesh(),
            secrets: self.secrets.clone(),
            entries: self.roster.entries().map(|entry| entry.source().clone()).collect(),
            secret_notes: self.roster.secret_notes().map(|note| note.source().clone()).collect(),
            tickets: self.tickets.clone(),
        };
        // Every part of it is made of texts and numbers, which JSON can write.
        serde_json::to_string_pretty(&saved).unwrap_or_default()
    }

    /// Reads the text of [`to_text`](Self::to_text). `root` is the root key that is kept on this machine, if there is
    /// one. The key of another mesh is ignored.
    ///
    /// # Errors
    ///
    /// [`MeshError::Damaged`] when the text is not one of a mesh, or a signature in it is wrong.
    pub fn from_text(text: &str, root: Option<RootKey>) -> Result<Self, MeshError> {
        let damaged = |error: &dyn std::fmt::Display| MeshError::Damaged(error.to_string());
        let saved: Saved = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        let root = root.filter(|root| root.mesh() == saved.mesh);
        let Saved { mesh, secrets, entries, secret_notes, tickets } = saved;
        let mut read = Self { roster: Roster::new(mesh), secrets, tickets, root };
        read.take(entries, secret_notes).map_err(|error| damaged(&error))?;
        Ok(read)
    }

    /// Makes the part of a newcomer of what it was given. `mesh` is the mesh of its ticket.
    pub(crate) fn of_newcomer(welcome: Welcome, mesh: MeshId, newcomer: PeerId) -> Result<Self, MeshError> {
        let Welcome { mesh: said, generation, secret, entries, secret_notes } = welcome;
        let damaged = |why: &str| MeshError::Damaged(why.to_owned());
        if said != mesh {
            return Err(damaged("the inviter belongs to another mesh than the ticket"));
        }
        let mut read = Self {
            roster: Roster::new(mesh),
            secrets: Secrets::new(generation, secret),
            tickets: Tickets::default(),
            root: None,
        };
        read.take(entries, secret_notes).map_err(|error| damaged(&error.to_string()))?;
        if read.roster.member(&newcomer).is_none() {
            return Err(damaged("the inviter did not make this machine a member"));
        }
        Ok(read)
    }

    /// Returns the name of the mesh.
    pub(crate) const fn id(&self) -> MeshId {
        self.roster.mesh()
    }

    /// Returns the root key, if it is kept on this machine. Whoever has it decides who belongs to the mesh.
    #[must_use]
    pub const fn root_key(&self) -> Option<&RootKey> {
        self.root.as_ref()
    }

    /// Makes this machine an admin again if it has the root key and is no member: its identity is a new one. Returns
    /// whether that was so.
    ///
    /// # Errors
    ///
    /// [`MeshError::Name`] for a text that cannot be the name of a machine, [`MeshError::Unsigned`] when the mesh is
    /// full.
    pub fn enroll_new_identity(&mut self, identity: &Identity, name: &str) -> Result<bool, MeshError> {
        let Some(root) = self.root.as_ref().filter(|_| self.roster.member(&identity.peer_id()).is_none()) else {
            return Ok(false);
        };
        let change = Change {
            peer: identity.peer_id(),
            name: machine_name(name)?,
            grants: Grants::of(Role::Admin),
            removed: false,
        };
        self.roster.change(change, SigningKey::Root(root)).ok_or(MeshError::Unsigned)?;
        Ok(true)
    }

    /// Keeps the root key on this machine, which can then decide about admins too.
    ///
    /// # Errors
    ///
    /// [`MeshError::OtherRoot`] when it is the key of another mesh.
    pub fn restore_root_key(&mut self, root: RootKey) -> Result<(), MeshError> {
        if root.mesh() != self.roster.mesh() {
            return Err(MeshError::OtherRoot);
        }
        self.root = Some(root);
        Ok(())
    }

    /// Returns the peer that a person means: by its name, its peer id, or the beginning of its peer id.
    ///
    /// # Errors
    ///
    /// A sentence that says that there is none, or which ones there are.
    pub fn find(&self, text: &str) -> Result<PeerId, String> {
        self.resolve(text).map_err(|error| error.to_string())
    }

    /// Returns what a member may do. `None` for a machine that is no member.
    #[must_use]
    pub fn grants_of(&self, peer: &PeerId) -> Option<Grants> {
        self.roster.member(peer).map(|member| member.grants.clone())
    }

    /// Returns the name of each member.
    #[must_use]
    pub fn names(&self) -> std::collections::BTreeMap<PeerId, String> {
        self.roster.names().into_iter().map(|(peer, name)| (peer, name.to_string())).collect()
    }

    pub(super) fn resolve(&self, text: &str) -> Result<PeerId, MembersError> {
        let names = self.roster.names();
        let names = MachineNames::new(names.iter().map(|(peer, name)| (*peer, name.as_str())));
        names.find(text).map_err(|error| MembersError::NotFound(Box::new(error)))
    }

    /// Takes entries and notes about secrets in. Returns whether anything has changed.
    ///
    /// # Errors
    ///
    /// The first statement that cannot be believed ends it, and nothing is taken in.
    pub(crate) fn take(&mut self, entries: Vec<Unverified>, notes: Vec<Unverified>) -> Result<bool, SignedError> {
        let news = self.read(entries, notes)?;
        Ok(self.merge(news))
    }

    /// Reads statements and checks their signatures. Those that are known already are left out.
    pub(super) fn read(&self, entries: Vec<Unverified>, notes: Vec<Unverified>) -> Result<News, SignedError> {
        let entries = entries.into_iter().filter_map(|source| self.roster.verify(source).transpose());
        let notes = notes.into_iter().filter_map(|source| self.roster.verify_note(source).transpose());
        Ok(News { entries: entries.collect::<Result<_, _>>()?, notes: notes.collect::<Result<_, _>>()? })
    }

    /// Takes in what was read. Returns whether anything has changed.
    pub(super) fn merge(&mut self, news: News) -> bool {
        let News { entries, notes } = news;
        let removed: Vec<PeerId> = entries.iter().filter(|one| one.get().removed).map(|one| one.get().peer).collect();
        let mut has_changed = self.roster.merge(entries);
        // A removed machine must not come back under another identity by a ticket that it has used here.
        removed.iter().filter(|peer| self.roster.is_removed(peer)).for_each(|peer| self.tickets.withdraw(peer));
        for note in notes {
            has_changed |= self.roster.merge_secret(note);
        }
        has_changed
    }

    /// Takes a secret, if a note says that it is one of the mesh. Returns whether it was taken.
    ///
    /// Of two admins that draw a secret at the same moment, one draws a secret that is never used. It is kept like an older
    /// one, because a newcomer may have been given it.
    pub(crate) fn take_secret(&mut self, secret: MeshSecret) -> bool {
        let is_known = self.secrets.all().any(|known| *known == secret);
        let is_in_use = |note: &SecretNote| self.roster.secret() == Some(note);
        let note = self.roster.secret_notes().map(Signed::get).find(|note| note.is_of(&secret));
        match note.map(|note| (note.generation, is_in_use(note))) {
            Some((generation, true)) if self.secrets.newest().secret != secret => self.secrets.add(generation, secret),
            Some((generation, false)) if !is_known => self.secrets.add_older(generation, secret),
            _ => return false,
        }
        true
    }

    /// Tells whether the newest secret of this node is the one that the mesh uses.
    pub(crate) fn has_newest_secret(&self) -> bool {
        self.roster.secret().is_none_or(|note| note.is_of(&self.secrets.newest().secret))
    }

    /// Signs a change, and takes it in.
    pub(super) fn sign(&mut self, change: Change, identity: &Identity) -> Result<Entry, MembersError> {
        let key = signing_key(self.root.as_ref(), &self.roster, identity).ok_or(MembersError::NotAdmin)?;
        let was = self.roster.entry(&change.peer).map(Entry::get);
        let needs_root = change.grants.role() == Role::Admin
            || was.is_some_and(|was| was.removed || was.grants.role() == Role::Admin);
        let refusal = if needs_root && self.root.is_none() { MembersError::NeedsRoot } else { MembersError::Full };
        self.roster.change(change, key).ok_or(refusal)
    }

    /// Draws the secret anew, and signs which one it is.
    pub(super) fn rotate_secret(&mut self, identity: &Identity) -> Result<(), MembersError> {
        let secret = MeshSecret::generate().map_err(|_| MembersError::Random)?;
        let known = self.secrets.newest().generation;
        let generation = self.roster.secret().map_or(0, |note| note.generation).max(known) + 1;
        let key = signing_key(self.root.as_ref(), &self.roster, identity).ok_or(MembersError::NotAdmin)?;
        let note = SecretNote::sign(self.roster.mesh(), generation, &secret, key).ok_or(MembersError::Full)?;
        self.roster.merge_secret(note);
        self.secrets.add(generation, secret);
        Ok(())
    }
}

fn machine_name(text: &str) -> Result<MachineName, MeshError> {
    text.parse().map_err(|error| MeshError::Name { name: text.to_owned(), error })
}

/// Returns the key with which a machine signs: the root key, or its own if it is an admin.
pub(super) fn signing_key<'a>(
    root: Option<&'a RootKey>,
    roster: &Roster,
    identity: &'a Identity,
) -> Option<SigningKey<'a>> {
    if let Some(root) = root {
        return Some(SigningKey::Root(root));
    }
    match roster.member(&identity.peer_id())?.as_admin()? {
        Signer::Admin { term, .. } => Some(SigningKey::Admin { keypair: identity.keypair(), term }),
        Signer::Root => None,
    }
}
