//! Operations on the members of the mesh: who belongs to it, tickets, and taking a machine out.

use serde::{Deserialize, Serialize};

use super::{
    Grants, MachineNames, Multiaddr, PeerId, QueueError, Role,
    check::{Check, name, seconds, text},
    limits::{
        KEPT_MEMBERS_MAX, MESSAGE_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX, STATEMENTS_TOLD_MAX, TICKET_S_RANGE,
        TICKET_USES_MAX,
    },
};

/// A text that an admin of the mesh has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedText {
    /// The text, exactly as it was signed.
    pub text: String,
    /// The Ed25519 signature, in hexadecimal.
    pub signature: String,
}

/// Asks a node for the members of the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Members {}

impl Check for Members {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to [`Members`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembersListed {
    /// The name of the mesh: the public half of its root key, in hexadecimal.
    pub mesh: String,
    /// The node that answers.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub self_peer_id: PeerId,
    /// Its members, by their names.
    pub members: Vec<MachineInfo>,
}

impl MembersListed {
    /// Returns the machine that the text means, as [`MachineNames::find`] does.
    ///
    /// # Errors
    ///
    /// As [`MachineNames::find`].
    pub fn find(&self, text: &str) -> Result<PeerId, QueueError> {
        MachineNames::from(self).find(text)
    }
}

/// A member of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MachineInfo {
    /// Its name, which no other member has.
    pub name: String,
    /// Its peer id.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// What it may do: `admin`, `member`, `agent`, `worker`, or `worker:` and the task types.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub role: Grants,
    /// Who let it in or changed it last: the name of an admin, or `root key`.
    pub added_by: String,
    /// Whether the node that answers has a session with it. The node itself counts as connected.
    pub connected: bool,
    /// Where it can be reached.
    #[serde(default, deserialize_with = "super::place::addresses")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<Multiaddr>,
    /// When it was last heard of, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
    /// The version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Takes a machine out of the mesh. Its sessions end, its leases end, and the secret of the mesh is drawn anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveMember {
    /// The machine: its name, its peer id, or the beginning of its peer id.
    pub member: String,
    /// For an admin: the machines that it has let in and that stay. `["all"]` and `["none"]` say so of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<String>>,
}

impl Check for RemoveMember {
    fn check(&self) -> Result<(), QueueError> {
        name("member", &self.member)?;
        let keep = self.keep.as_deref().unwrap_or_default();
        if keep.len() > KEPT_MEMBERS_MAX {
            return Err(QueueError::over_limit("keep", keep.len(), KEPT_MEMBERS_MAX, "machines"));
        }
        keep.iter().try_for_each(|kept| name("keep", kept))
    }
}

/// The answer to [`RemoveMember`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberRemoved {
    /// The machine.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// The name that it had.
    pub name: String,
    /// The members that know of it, by their names.
    pub heard: Vec<String>,
    /// The members that do not know of it yet. They hear of it when they come.
    pub not_heard: Vec<String>,
}

/// Gives a machine another name or another role. With another role its sessions end and begin again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangeMember {
    /// The machine: its name, its peer id, or the beginning of its peer id.
    pub member: String,
    /// The new name: letters, digits, `-`, `_` and `.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new role: `admin`, `member`, `agent`, `worker`, or `worker:` and task types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub role: Option<Grants>,
}

impl Check for ChangeMember {
    fn check(&self) -> Result<(), QueueError> {
        name("member", &self.member)?;
        if self.name.is_none() && self.role.is_none() {
            return Err(QueueError::invalid("name", "say what to change: name, role, or both"));
        }
        self.name.iter().try_for_each(|chosen| name("name", chosen))
    }
}

/// The answer to [`ChangeMember`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberChanged {
    /// The machine.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// Its name.
    pub name: String,
    /// What it may do.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub role: Grants,
    /// The members that know of the change, by their names.
    pub heard: Vec<String>,
    /// The members that do not know of it yet. They hear of it when they come.
    pub not_heard: Vec<String>,
}

/// Tells a node what is new about the members. Every part of it is signed, so it does not matter who tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TellMembers {
    /// Entries of members.
    #[serde(default)]
    pub entries: Vec<SignedText>,
    /// Which secret is in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_notes: Vec<SignedText>,
    /// The secret in use, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl Check for TellMembers {
    fn check(&self) -> Result<(), QueueError> {
        let count = self.entries.len() + self.secret_notes.len();
        if count > STATEMENTS_TOLD_MAX {
            return Err(QueueError::over_limit("entries", count, STATEMENTS_TOLD_MAX, "statements"));
        }
        let mut all = self.entries.iter().chain(&self.secret_notes);
        all.try_for_each(|signed| text("entries", &signed.text, STATEMENT_TEXT_BYTES_MAX))
    }
}

/// The answer to [`TellMembers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersTold {
    /// Whether everything that was told is known now. If not, something before it is missing here.
    pub is_known: bool,
}

/// Asks the local node for a ticket by which another machine becomes a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Invite {
    /// What the newcomer may do: `admin`, `member`, `agent`, `worker`, or `worker:` and task types.
    #[serde(default = "default_role")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub role: Grants,
    /// How long the ticket can be used, in seconds.
    #[serde(default = "default_ticket_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 31_622_400)))]
    pub for_s: f64,
    /// How many machines may use it.
    #[serde(default = "default_uses")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    pub uses: u32,
    /// The name of the newcomer. Without it the newcomer is called as its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Default for Invite {
    fn default() -> Self {
        Self { role: default_role(), for_s: default_ticket_s(), uses: default_uses(), name: None }
    }
}

const fn default_role() -> Grants {
    Grants::of(Role::Member)
}

const fn default_ticket_s() -> f64 {
    3_600.0
}

const fn default_uses() -> u32 {
    1
}

impl Check for Invite {
    fn check(&self) -> Result<(), QueueError> {
        seconds("for_s", Some(self.for_s), TICKET_S_RANGE)?;
        if !(1..=TICKET_USES_MAX).contains(&self.uses) {
            return Err(QueueError::invalid("uses", format!("must be from 1 to {TICKET_USES_MAX}")));
        }
        self.name.iter().try_for_each(|chosen| name("name", chosen))
    }
}

/// The answer to an [`Invite`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Invitation {
    /// The text for `taskmesh join`.
    pub ticket: String,
    /// Who invites.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// The addresses of the inviting node in the ticket.
    #[serde(default, deserialize_with = "super::place::addresses")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<Multiaddr>,
    /// What the newcomer may do.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub role: Grants,
    /// When the ticket ends, in Unix seconds of the inviting machine's clock.
    pub expires_at: f64,
}

/// Makes the local node join the mesh of a ticket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Join {
    /// The text that `taskmesh invite` printed.
    pub ticket: String,
    /// The name of this machine in the mesh. Without it, it is called as its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether to leave a mesh that has other members.
    #[serde(default)]
    pub leave: bool,
    /// Whether the node goes on trying when the machine that invites cannot be reached, also after a restart. The answer is
    /// the error all the same.
    #[serde(default)]
    pub keep_trying: bool,
}

impl Check for Join {
    fn check(&self) -> Result<(), QueueError> {
        text("ticket", &self.ticket, MESSAGE_BYTES_MAX)?;
        self.name.iter().try_for_each(|chosen| name("name", chosen))
    }
}

/// The answer to a [`Join`]: this machine is a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Joined {
    /// The peer of the ticket.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    #[serde(with = "super::peer_text")]
    pub peer_id: PeerId,
    /// The name of this machine in the mesh.
    pub name: String,
    /// What this machine may do.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub role: Grants,
    /// Whether there is a connection to the peer of the ticket.
    pub connected: bool,
    /// The reason when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Takes the local node out of its mesh. It begins a mesh of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Leave {
    /// Whether to leave a mesh behind that has other members and no other admin.
    #[serde(default)]
    pub force: bool,
}

impl Check for Leave {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to [`Leave`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Left {
    /// The admin that has taken this machine out of the list of members. Without one, the machine stays on the list
    /// until an admin removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
}

/// Asks an admin's node to take the machine that asks out of the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeMeOut {}

impl Check for TakeMeOut {
    fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The answer to [`TakeMeOut`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOut {}
