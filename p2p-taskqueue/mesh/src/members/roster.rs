//! The roster: all entries of a mesh that count, merged alike by every node.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;
use sha2::{Digest, Sha256};
use taskqueue_api::Role;

use super::{
    entry::{Change, MemberEntry},
    key::MeshId,
    limits::{ADMINS_MAX, MEMBERS_MAX, SIGNED_BY_ADMIN_MAX},
    name::MachineName,
    secret::SecretNote,
    signed::{Signed, SignedError, Signer, SigningKey, Unverified},
};

/// An entry with a good signature.
pub(crate) type Entry = Signed<MemberEntry>;

/// The members of a mesh, as far as a node has heard.
///
/// It keeps the newest entry of each signer about each machine, so that the entries of an admin that is removed can be
/// left out again and older ones of others show. [`member`](Self::member) says which of them counts:
///
/// 1. The root key's entry, if it removes the machine or makes it an admin. Admins decide about no admin.
/// 2. Else a removal by an admin, unless a newer entry of the root key takes the machine back. A removal is not undone by
///    an admin that changed the machine at the same time. The admin that removed it can take it back, because its newer
///    entry takes the place of the removal.
/// 3. Else the entry with the highest version.
///
/// An entry of an admin counts while the admin is one, and only in the term in which it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster {
    mesh: MeshId,
    by_root: BTreeMap<PeerId, Entry>,
    by_admins: BTreeMap<Signer, BTreeMap<PeerId, Entry>>,
    /// The newest note of each signer.
    secrets: BTreeMap<Signer, Signed<SecretNote>>,
}

impl Roster {
    pub(crate) const fn new(mesh: MeshId) -> Self {
        Self { mesh, by_root: BTreeMap::new(), by_admins: BTreeMap::new(), secrets: BTreeMap::new() }
    }

    pub(crate) const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Reads an entry and checks its signature. Returns `None` for an entry that is not newer than the one of the same
    /// signer: its signature does not matter.
    pub(crate) fn verify(&self, source: Unverified) -> Result<Option<Entry>, SignedError> {
        Entry::verify(source, self.mesh, |entry| match entry.by {
            Signer::Root => self.by_root.get(&entry.peer),
            signer @ Signer::Admin { .. } => self.by_admins.get(&signer).and_then(|by| by.get(&entry.peer)),
        })
    }

    /// Reads a note about a secret and checks its signature, as [`verify`](Self::verify) does.
    pub(crate) fn verify_note(&self, source: Unverified) -> Result<Option<Signed<SecretNote>>, SignedError> {
        Signed::verify(source, self.mesh, |note: &SecretNote| self.secrets.get(&note.by))
    }

    /// Tells whether an entry, or a newer one of the same signer, is here. An entry that cannot be read is not.
    pub(crate) fn knows(&self, source: &Unverified) -> bool {
        matches!(self.verify(source.clone()), Ok(None))
    }

    /// Tells the same of a note about a secret.
    pub(crate) fn knows_note(&self, source: &Unverified) -> bool {
        matches!(self.verify_note(source.clone()), Ok(None))
    }

    /// Takes entries in. Returns whether anything has changed.
    ///
    /// The result does not depend on the order, nor on how often an entry comes, as long as the entry of an admin comes
    /// before or together with the entries that it signed. An entry of a signer that is no admin is left out.
    pub(crate) fn merge(&mut self, entries: impl IntoIterator<Item = Entry>) -> bool {
        let entries = entries.into_iter().filter(|entry| entry.get().mesh == self.mesh);
        let (by_root, by_admins): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.get().by == Signer::Root);
        let mut has_changed = false;
        for entry in by_root {
            has_changed |= put(&mut self.by_root, entry, MEMBERS_MAX);
        }
        let admins = self.admins();
        let before = self.by_admins.len() + self.secrets.len();
        self.by_admins.retain(|signer, _| admins.contains(signer));
        self.secrets.retain(|signer, _| *signer == Signer::Root || admins.contains(signer));
        has_changed |= self.by_admins.len() + self.secrets.len() != before;
        for entry in by_admins {
            let signer = entry.get().by;
            if admins.contains(&signer) {
                has_changed |= put(self.by_admins.entry(signer).or_default(), entry, SIGNED_BY_ADMIN_MAX);
            }
        }
        has_changed
    }

    /// Takes a note about the secret in, under the same rules as an entry. Returns whether anything has changed.
    pub(crate) fn merge_secret(&mut self, note: Signed<SecretNote>) -> bool {
        let signer = note.get().by;
        let counts = note.get().mesh == self.mesh && (signer == Signer::Root || self.admins().contains(&signer));
        let is_news = self.secrets.get(&signer).is_none_or(|known| known.cmp_age(&note).is_lt());
        if counts && is_news {
            self.secrets.insert(signer, note);
        }
        counts && is_news
    }

    /// Returns what is known of the secret in use: the note with the highest generation.
    pub(crate) fn secret(&self) -> Option<&SecretNote> {
        self.secrets.values().max_by(|a, b| a.cmp_age(b)).map(Signed::get)
    }

    /// Returns all notes about secrets.
    pub(crate) fn secret_notes(&self) -> impl Iterator<Item = &Signed<SecretNote>> {
        self.secrets.values()
    }

    /// Returns the admins. Their signatures count.
    pub(crate) fn admins(&self) -> BTreeSet<Signer> {
        self.by_root.values().filter_map(|entry| entry.get().as_admin()).collect()
    }

    /// Returns the entry that counts about a machine: that of a member, or that of a machine which was removed.
    pub(crate) fn entry(&self, peer: &PeerId) -> Option<&Entry> {
        let by_root = self.by_root.get(peer);
        if by_root.is_some_and(|entry| entry.get().removed || entry.get().grants.role() == Role::Admin) {
            return by_root;
        }
        let by_admins = || self.by_admins.values().filter_map(|signed| signed.get(peer));
        let removal = by_admins().filter(|entry| entry.get().removed).max_by(|a, b| a.cmp_age(b));
        let is_back = |removal: &Entry| by_root.is_some_and(|back| back.get().version > removal.get().version);
        if let Some(removal) = removal.filter(|removal| !is_back(removal)) {
            return Some(removal);
        }
        by_admins().filter(|entry| entry.get().is_live()).chain(by_root).max_by(|a, b| a.cmp_age(b))
    }

    /// Returns what the mesh says of a member. `None` for a stranger, and for a machine that was removed.
    pub(crate) fn member(&self, peer: &PeerId) -> Option<&MemberEntry> {
        self.entry(peer).map(Entry::get).filter(|entry| entry.is_live())
    }

    /// Tells whether the machine was taken out of the mesh.
    pub(crate) fn is_removed(&self, peer: &PeerId) -> bool {
        self.entry(peer).is_some_and(|entry| entry.get().removed)
    }

    /// Returns the members, by their peer ids.
    pub(crate) fn members(&self) -> impl Iterator<Item = &MemberEntry> {
        self.peers().into_iter().filter_map(|peer| self.member(peer))
    }

    /// Returns the name of each member. Of several members with one name, the one with the lowest peer id has it as it is,
    /// and the others have a number behind it.
    pub(crate) fn names(&self) -> BTreeMap<PeerId, MachineName> {
        let taken: BTreeSet<&MachineName> = self.members().map(|member| &member.name).collect();
        let (mut given, mut names) = (BTreeSet::new(), BTreeMap::new());
        for member in self.members() {
            let numbered = (2..=MEMBERS_MAX + 1).map(|number| member.name.numbered(number));
            let free = |name: &MachineName| !given.contains(name) && !taken.contains(name);
            let name = if given.contains(&member.name) { numbered.into_iter().find(free) } else { None };
            let name = name.unwrap_or_else(|| member.name.clone());
            given.insert(name.clone());
            names.insert(member.peer, name);
        }
        names
    }

    /// Signs a change and takes it in. Returns the entry, or `None` when this signer may not make the change.
    pub(crate) fn change(&mut self, change: Change, key: SigningKey<'_>) -> Option<Entry> {
        if matches!(key, SigningKey::Root(root) if root.mesh() != self.mesh) {
            return None;
        }
        let peer = change.peer;
        let last = self.entry(&peer).map(Entry::get);
        let version = self.entries_of(&peer).map(|entry| entry.get().version).max().unwrap_or(0).checked_add(1)?;
        let entry = change.sign(self.mesh, last, version, key)?;
        let mut changed = self.clone();
        changed.merge([entry.clone()]);
        // A change that does not count, such as one of an admin about another, is refused here rather than lost later.
        let counts = changed.entry(&peer) == Some(&entry);
        let fits = changed.admins().len() <= ADMINS_MAX && changed.members().count() <= MEMBERS_MAX;
        (counts && fits).then(|| {
            *self = changed;
            entry
        })
    }

    /// Signs again, with the root key, what an admin signed and what is to stand when it is no admin any more: the members
    /// for which `stands` says so, and every removal.
    pub(crate) fn adopt(
        &mut self,
        admin: Signer,
        stands: impl Fn(&MemberEntry) -> bool,
        key: SigningKey<'_>,
    ) -> Vec<Entry> {
        let counting = self.peers().into_iter().filter_map(|peer| self.entry(peer)).map(Entry::get);
        let of_admin = counting.filter(|entry| entry.by == admin && (entry.removed || stands(entry)));
        let changes: Vec<Change> = of_admin
            .map(|entry| Change {
                peer: entry.peer,
                name: entry.name.clone(),
                grants: entry.grants.clone(),
                removed: entry.removed,
            })
            .collect();
        changes.into_iter().filter_map(|change| self.change(change, key)).collect()
    }

    /// Returns all entries, those of the root key first, so that they can be merged in this order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_root.values().chain(self.by_admins.values().flat_map(BTreeMap::values))
    }

    /// Returns what shows that a machine is a member: its entry, after the entry of the admin that signed it.
    pub(crate) fn credentials(&self, peer: &PeerId) -> Vec<&Entry> {
        let Some(entry) = self.entry(peer) else { return Vec::new() };
        let admin = match entry.get().by {
            Signer::Root => None,
            Signer::Admin { peer, .. } => self.by_root.get(&peer),
        };
        admin.into_iter().chain([entry]).collect()
    }

    /// Returns a digest of all entries and notes. Two nodes with the same digest have the same roster.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let entries = self.entries().map(Entry::source);
        for source in entries.chain(self.secret_notes().map(Signed::source)) {
            digest.update(Sha256::digest(source.text.as_bytes()));
        }
        digest.finalize().into()
    }

    fn peers(&self) -> BTreeSet<&PeerId> {
        self.by_root.keys().chain(self.by_admins.values().flat_map(BTreeMap::keys)).collect()
    }

    fn entries_of<'a>(&'a self, peer: &'a PeerId) -> impl Iterator<Item = &'a Entry> {
        self.by_root.get(peer).into_iter().chain(self.by_admins.values().filter_map(|signed| signed.get(peer)))
    }
}

/// Keeps the newer of two entries of one signer. Of too many machines, those that were removed are kept first, so that no
/// flood undoes a removal, and then those with the lowest peer ids: every node then keeps the same ones.
fn put(entries: &mut BTreeMap<PeerId, Entry>, entry: Entry, most: usize) -> bool {
    let peer = entry.get().peer;
    match entries.get(&peer) {
        Some(known) if known.cmp_age(&entry).is_ge() => return false,
        Some(_) => {}
        None if entries.len() < most => {}
        None => {
            let rank = |peer: &PeerId, entry: &Entry| (entry.get().is_live(), *peer);
            let last = entries.iter().map(|(peer, entry)| rank(peer, entry)).max();
            match last.filter(|last| *last > rank(&peer, &entry)) {
                Some((_, last)) => drop(entries.remove(&last)),
                None => return false,
            }
        }
    }
    entries.insert(peer, entry);
    true
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
