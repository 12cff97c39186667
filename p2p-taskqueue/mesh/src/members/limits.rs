//! The bounds of members and rosters, each with its reason.

/// The most members that a roster has, and the most entries that the root key signs. A mesh of a small team has some
/// tens.
pub(crate) const MEMBERS_MAX: usize = 4_096;

/// The most entries of one admin's signature. An admin that floods the roster crowds out nothing but its own entries.
pub(crate) const SIGNED_BY_ADMIN_MAX: usize = 1_024;

/// The most admins that the root key makes. It bounds what a roster can hold, together with [`SIGNED_BY_ADMIN_MAX`].
pub(crate) const ADMINS_MAX: usize = 16;

/// The longest signed text, in bytes. It is checked before the text is parsed.
pub(crate) const SIGNED_BYTES_MAX: usize = 1_024;

/// The longest name of a machine: that of a label in DNS, where most names come from.
pub(crate) const MACHINE_NAME_BYTES_MAX: usize = 63;

/// The most secrets that a node keeps. A machine that was away comes back unless the secret was drawn anew this often
/// meanwhile, which takes as many removals.
pub(crate) const SECRETS_MAX: usize = 16;

/// The most open tickets of one node: more than a person gives out at a time.
pub(crate) const TICKETS_MAX: usize = 64;
