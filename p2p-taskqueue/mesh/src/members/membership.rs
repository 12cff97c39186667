use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;
use sha2::{Digest as _, Sha256};
use taskqueue_api::Grants;
use tokio::sync::watch;

use super::{
    entry::MemberEntry,
    error::MembersError,
    key::MeshId,
    mesh::Mesh,
    roster::Entry,
    signed::{Signed, SignedError, Unverified},
    tickets::{TicketId, TicketSecret},
};
use crate::{Identity, NodeFiles, identity::MeshSecret};

/// A node's part of its mesh, shared by the loop of the node, the handshakes, and whoever answers requests.
///
/// A change is on disk before anybody sees it. Everything that has to follow a change watches
/// [`changes`](Self::changes).
#[derive(Debug)]
pub(crate) struct Membership {
    identity: Identity,
    files: Arc<dyn NodeFiles>,
    mesh: Mutex<Mesh>,
    /// The names of the members, and the count of changes that they are of.
    names: Mutex<Option<(u64, Names)>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

/// What the mesh says of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Member(Arc<Grants>),
    Removed,
    Stranger,
}

/// The name of each member.
pub(crate) type Names = Arc<BTreeMap<PeerId, String>>;

/// The first bytes of the digest of a signed text: enough to tell all texts of a roster apart.
pub(crate) type TextId = [u8; 8];

/// Signed texts, as they travel from node to node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Statements {
    pub(crate) entries: Vec<Unverified>,
    pub(crate) secret_notes: Vec<Unverified>,
}

/// The reason why statements of another node were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error("a statement about the members is not believed: {0}")]
    NotBelieved(#[from] SignedError),
    #[error("what was heard about the members could not be kept on disk: {0}")]
    Unsaved(#[from] std::io::Error),
}

impl Membership {
    pub(crate) fn new(identity: Identity, mesh: Mesh, files: Arc<dyn NodeFiles>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            files,
            mesh: Mutex::new(mesh),
            names: Mutex::default(),
            changes: watch::Sender::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Mesh> {
        // A change is made on a copy, so a panic leaves the mesh as it was.
        self.mesh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of the last change, and shows each further one.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn own(&self) -> PeerId {
        self.identity.peer_id()
    }

    pub(crate) fn mesh_id(&self) -> MeshId {
        self.lock().roster.mesh()
    }

    /// Returns the secrets of the door, the newest first.
    pub(crate) fn secrets(&self) -> Vec<MeshSecret> {
        self.lock().secrets.all().cloned().collect()
    }

    /// Returns the secret in use.
    pub(crate) fn newest_secret(&self) -> MeshSecret {
        self.lock().secrets.newest().secret.clone()
    }

    /// Tells whether the newest secret here is the one that the mesh uses, as far as this node has heard.
    pub(crate) fn has_newest_secret(&self) -> bool {
        self.lock().has_newest_secret()
    }

    /// Returns what shows that this machine is a member.
    pub(crate) fn credentials(&self) -> Vec<Unverified> {
        self.credentials_of(&self.own())
    }

    /// Returns what shows that a machine is a member, or that it was removed.
    pub(crate) fn credentials_of(&self, peer: &PeerId) -> Vec<Unverified> {
        let mesh = self.lock();
        mesh.roster.credentials(peer).into_iter().map(|entry| entry.source().clone()).collect()
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.lock().roster.digest()
    }

    pub(crate) fn standing(&self, peer: &PeerId) -> Standing {
        let mesh = self.lock();
        match mesh.roster.member(peer) {
            Some(member) => Standing::Member(Arc::new(member.grants.clone())),
            None if mesh.roster.is_removed(peer) => Standing::Removed,
            None => Standing::Stranger,
        }
    }

    /// Returns the machines that were removed.
    pub(crate) fn removed(&self) -> Vec<PeerId> {
        let mesh = self.lock();
        let entries = mesh.roster.entries().map(|entry| entry.get().peer).collect::<HashSet<_>>();
        entries.into_iter().filter(|peer| mesh.roster.is_removed(peer)).collect()
    }

    /// Returns the members.
    pub(crate) fn members(&self) -> Vec<MemberEntry> {
        self.lock().roster.members().cloned().collect()
    }

    /// Returns the name of each member.
    pub(crate) fn names(&self) -> Names {
        let mesh = self.lock();
        // The count changes under the lock of the mesh.
        let count = *self.changes.borrow();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match &*names {
            Some((of, names)) if *of == count => Arc::clone(names),
            _ => Arc::clone(&names.insert((count, Arc::new(mesh.names()))).1),
        }
    }

    /// Returns the name of a member.
    pub(crate) fn name_of(&self, peer: &PeerId) -> Option<String> {
        self.names().get(peer).cloned()
    }

    /// Returns the peer that a person means.
    pub(crate) fn resolve(&self, text: &str) -> Result<PeerId, MembersError> {
        self.lock().resolve(text)
    }

    /// Returns the part of this node, as it stands.
    pub(crate) fn mesh(&self) -> Mesh {
        self.lock().clone()
    }

    /// Returns the secret of a ticket that this node has given out.
    pub(crate) fn ticket_secret(&self, id: TicketId) -> Option<TicketSecret> {
        self.lock().ticket_secret(id).cloned()
    }

    /// Returns the ids of all statements that this node has.
    pub(crate) fn text_ids(&self) -> HashSet<TextId> {
        let mesh = self.lock();
        let entries = mesh.roster.entries().map(Entry::source);
        entries.chain(mesh.roster.secret_notes().map(Signed::source)).map(text_id).collect()
    }

    /// Returns the statements that are not among these, those of the root key first.
    pub(crate) fn besides(&self, known: &HashSet<TextId>) -> Statements {
        let mesh = self.lock();
        let is_new = |source: &&Unverified| !known.contains(&text_id(source));
        Statements {
            entries: mesh.roster.entries().map(Entry::source).filter(is_new).cloned().collect(),
            secret_notes: mesh.roster.secret_notes().map(Signed::source).filter(is_new).cloned().collect(),
        }
    }

    /// Takes statements of another node in, if all of them can be believed. Returns whether anything has changed.
    pub(crate) fn take(&self, statements: Statements) -> Result<bool, TakeError> {
        let Statements { entries, secret_notes } = statements;
        let mut mesh = self.lock();
        let news = mesh.read(entries, secret_notes)?;
        if news.is_empty() {
            return Ok(false);
        }
        let mut changed = mesh.clone();
        if !changed.merge(news) {
            return Ok(false);
        }
        self.keep(&mut mesh, changed)?;
        Ok(true)
    }

    /// Tells whether each of these statements is known here, or a newer one of the same kind.
    pub(crate) fn knows(&self, statements: &Statements) -> bool {
        let mesh = self.lock();
        let Statements { entries, secret_notes } = statements;
        entries.iter().all(|entry| mesh.roster.knows(entry))
            && secret_notes.iter().all(|note| mesh.roster.knows_note(note))
    }

    /// Takes a newer secret, if it is the one that the mesh uses.
    pub(crate) fn take_secret(&self, secret: MeshSecret) -> Result<(), TakeError> {
        let mut mesh = self.lock();
        let mut changed = mesh.clone();
        if changed.take_secret(secret) {
            self.keep(&mut mesh, changed)?;
        }
        Ok(())
    }

    /// Tells whether a change could be made on this machine, without making it.
    pub(crate) fn try_change<T>(
        &self,
        change: impl FnOnce(&mut Mesh, &Identity) -> Result<T, MembersError>,
    ) -> Result<T, MembersError> {
        change(&mut self.mesh(), &self.identity)
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Makes a change on this machine.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Mesh, &Identity) -> Result<T, MembersError>,
    ) -> Result<T, MembersError> {
        let mut mesh = self.lock();
        let mut changed = mesh.clone();
        let made = change(&mut changed, &self.identity)?;
        self.keep(&mut mesh, changed).map_err(|error| MembersError::Unsaved(error.to_string()))?;
        Ok(made)
    }

    /// Saves the changed mesh, and shows it then.
    fn keep(&self, mesh: &mut MutexGuard<'_, Mesh>, changed: Mesh) -> std::io::Result<()> {
        self.files.save_mesh(&changed)?;
        **mesh = changed;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Returns the id of a signed text.
fn text_id(source: &Unverified) -> TextId {
    let digest = Sha256::digest(source.text.as_bytes());
    digest.first_chunk().copied().unwrap_or_default()
}
