//! The members of a mesh: who belongs to it, under which name, and with which grants.
//!
//! ```text
//! root key ──signs──▶ entries of admins ──sign──▶ entries of the other members
//!    │                                                     │
//!    └────────────── signs ─────────────▶ any entry ───────┴──▶ roster: merged alike by every node
//! ```
//!
//! Everything here is pure: no clock, no disk, no network. An entry is believed because of its signature, whoever passed
//! it on. Two nodes that have heard the same entries have the same roster, in whatever order they heard them.

mod changes;
mod entry;
mod error;
mod key;
pub(crate) mod limits;
mod membership;
mod mesh;
mod name;
mod roster;
mod secret;
mod signed;
mod tickets;

pub use error::MeshError;
pub use key::RootKey;
pub use mesh::Mesh;
pub use name::{ParseNameError, host_name};

pub(crate) use changes::{Keep, Wish};
pub(crate) use entry::MemberEntry;
pub(crate) use error::MembersError;
pub(crate) use key::{MeshId, key_in};
pub(crate) use limits::{ADMINS_MAX, MEMBERS_MAX, SIGNED_BY_ADMIN_MAX};
pub(crate) use membership::{Membership, Names, Standing, Statements, TakeError, TextId};
pub(crate) use mesh::Welcome;
pub(crate) use name::MachineName;
pub(crate) use secret::digest as digest_of;
pub(crate) use signed::{Signer, Unverified};
pub(crate) use tickets::{Invited, TicketId, TicketRefusal, TicketSecret, hex};

#[cfg(test)]
mod model_tests;
