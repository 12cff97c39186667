use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use taskqueue_api::{Grants, Role};

use super::{
    key::MeshId,
    name::MachineName,
    signed::{Signed, Signer, SigningKey, Statement},
};

/// What a mesh says of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberEntry {
    pub(crate) mesh: MeshId,
    pub(crate) peer: PeerId,
    pub(crate) name: MachineName,
    pub(crate) grants: Grants,
    /// Rises with every entry about this machine.
    pub(crate) version: u64,
    /// Whether the machine was taken out of the mesh.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) removed: bool,
    /// The version of the entry that made the machine an admin. 0 for a machine that is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) admin_since: u64,
    pub(crate) by: Signer,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl MemberEntry {
    /// Tells whether the machine is a member.
    pub(crate) const fn is_live(&self) -> bool {
        !self.removed
    }

    /// Returns the signer that the machine is as an admin, or `None` when it is no admin.
    pub(crate) fn as_admin(&self) -> Option<Signer> {
        let is_admin = self.is_live() && self.grants.role() == Role::Admin;
        is_admin.then_some(Signer::Admin { peer: self.peer, term: self.admin_since })
    }
}

impl Statement for MemberEntry {
    const LABEL: &'static [u8] = b"taskmesh member, version 1";

    fn mesh(&self) -> MeshId {
        self.mesh
    }

    fn signer(&self) -> Signer {
        self.by
    }

    type Rank = (u64, bool);

    /// A removal is newer than another entry of the same version.
    fn rank(&self) -> (u64, bool) {
        (self.version, self.removed)
    }

    fn check(&self) -> Result<(), String> {
        let is_admin = self.grants.role() == Role::Admin;
        if self.version == 0 {
            return Err("version: begins at 1".to_owned());
        }
        if is_admin != (self.admin_since > 0) || self.admin_since > self.version {
            return Err(
                "admin_since: is the version that made the machine an admin, and 0 without that role".to_owned()
            );
        }
        if is_admin && self.by != Signer::Root {
            return Err("by: only the root key makes an admin".to_owned());
        }
        Ok(())
    }
}

/// A change to a member, or a new one.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) peer: PeerId,
    pub(crate) name: MachineName,
    pub(crate) grants: Grants,
    pub(crate) removed: bool,
}

impl Change {
    /// Signs the entry that follows `last`, the newest one of the machine. `None` when the signer may not sign it.
    pub(super) fn sign(
        self,
        mesh: MeshId,
        last: Option<&MemberEntry>,
        version: u64,
        key: SigningKey<'_>,
    ) -> Option<Signed<MemberEntry>> {
        let Self { peer, name, grants, removed } = self;
        let was_admin = last.and_then(|last| last.as_admin().map(|_| last.admin_since));
        let admin_since = if grants.role() == Role::Admin { was_admin.unwrap_or(version) } else { 0 };
        let entry = MemberEntry { mesh, peer, name, grants, version, removed, admin_since, by: key.signer() };
        Signed::new(entry, key)
    }
}
