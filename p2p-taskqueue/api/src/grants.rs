//! Roles: named sets of grants, for the members of a mesh and for the clients of a server.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    Grant,
    limits::{NAME_BYTES_MAX, ROLE_TYPES_MAX},
};

/// A name for what a member of the mesh, or a client of a server, may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Role {
    /// Everything, and to decide who belongs to the mesh.
    Admin,
    /// To submit, work on, read and manage all tasks.
    Member,
    /// To submit tasks, and to read and control its own.
    Agent,
    /// To work on tasks, of all types or of some.
    Worker,
}

impl Role {
    /// All roles, from the one that allows most.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Member, Self::Agent, Self::Worker];

    /// Returns the name, as JSON and the command line have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Agent => "agent",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tasks for which an operation is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// The operation is not allowed.
    No,
    /// Only for the caller's own tasks.
    Own,
    /// For all tasks.
    All,
}

/// What somebody may do: a role and, for a worker, the task types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grants {
    role: Role,
    /// Empty means every type.
    types: Vec<TypePattern>,
}

impl Grants {
    /// Returns the grants of a role. A worker may work on every type.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        Self { role, types: Vec::new() }
    }

    /// Returns the grants of a worker for these types only.
    ///
    /// # Errors
    ///
    /// [`GrantsError`] when there are no types or more than [`ROLE_TYPES_MAX`].
    pub fn worker(types: Vec<TypePattern>) -> Result<Self, GrantsError> {
        match types.len() {
            0 => Err(GrantsError::NoTypes),
            1..=ROLE_TYPES_MAX => Ok(Self { role: Role::Worker, types }),
            _ => Err(GrantsError::TooManyTypes),
        }
    }

    /// Returns the role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Returns the types on which a worker may work. Empty means every type.
    #[must_use]
    pub fn types(&self) -> &[TypePattern] {
        &self.types
    }

    /// Tells for which tasks an operation that needs `grant` is allowed.
    #[must_use]
    pub const fn allow(&self, grant: Grant) -> Allowed {
        match (self.role, grant) {
            (_, Grant::None)
            | (Role::Admin, _)
            | (Role::Member, Grant::Submit | Grant::Work | Grant::Read | Grant::Manage)
            | (Role::Worker, Grant::Work) => Allowed::All,
            (Role::Agent, Grant::Submit | Grant::Read) => Allowed::Own,
            (Role::Member | Role::Agent | Role::Worker, _) => Allowed::No,
        }
    }

    /// Tells whether a holder of these grants may work on tasks of this type.
    #[must_use]
    pub fn allow_type(&self, task_type: &str) -> bool {
        self.allow(Grant::Work) == Allowed::All
            && (self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(task_type)))
    }
}

impl fmt::Display for Grants {
    /// Writes the form that [`FromStr`] reads: `member`, or `worker:render.*,transcribe`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role.as_str())?;
        for (at, pattern) in self.types.iter().enumerate() {
            write!(f, "{}{pattern}", if at == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl FromStr for Grants {
    type Err = GrantsError;

    fn from_str(text: &str) -> Result<Self, GrantsError> {
        let (name, types) = text.split_once(':').map_or((text, None), |(name, types)| (name, Some(types)));
        let role = Role::ALL.into_iter().find(|role| role.as_str() == name);
        match (role.ok_or_else(|| GrantsError::UnknownRole(shown(name)))?, types) {
            (role, None) => Ok(Self::of(role)),
            (Role::Worker, Some(types)) => Self::worker(types.split(',').map(str::parse).collect::<Result<_, _>>()?),
            (role, Some(_)) => Err(GrantsError::TypesOfNoWorker(role)),
        }
    }
}

impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A pattern of task types: a type, or the beginning of types before a `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypePattern(String);

impl TypePattern {
    /// Tells whether the pattern covers the type.
    #[must_use]
    pub fn matches(&self, task_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => task_type.starts_with(beginning),
            None => task_type == self.0,
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TypePattern {
    type Err = GrantsError;

    fn from_str(text: &str) -> Result<Self, GrantsError> {
        let text = text.trim();
        let beginning = text.strip_suffix('*').unwrap_or(text);
        let is_clear = !beginning.contains(['*', ',', ':']) && !beginning.contains(char::is_control);
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !is_clear {
            return Err(GrantsError::BadType(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The reason why a text does not name grants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantsError {
    /// There is no such role.
    #[error("there is no role {0:?}: use admin, member, agent, worker, or worker:TYPE,… for some types only")]
    UnknownRole(String),
    /// Only a worker is limited to types.
    #[error("the role {0} is not limited to task types: only worker:TYPE,… is")]
    TypesOfNoWorker(Role),
    /// A text is not a task type.
    #[error("{0:?} is not a task type: write a type, or its beginning and a * at the end, such as render.*")]
    BadType(String),
    /// A worker was named with types, and none followed.
    #[error("worker: needs at least one task type, or no colon for all types")]
    NoTypes,
    /// There are too many types.
    #[error("a role may name up to {ROLE_TYPES_MAX} task types: use a pattern such as render.*")]
    TooManyTypes,
}

/// The first characters of a text, for a message.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

const SHOWN_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_what_they_write() {
        for text in
            ["admin", "member", "agent", "worker", "worker:transcribe", "worker:render.*,transcribe", "worker:*"]
        {
            let grants: Grants = text.parse().unwrap();
            assert_eq!(grants.to_string(), text);
            assert_eq!(serde_json::from_str::<Grants>(&serde_json::to_string(&grants).unwrap()).unwrap(), grants);
        }
    }

    #[test]
    fn a_mistake_is_told_with_the_way_that_was_meant() {
        for (text, told) in [
            ("boss", "admin, member, agent, worker"),
            ("", "admin, member, agent, worker"),
            ("member:render", "worker:TYPE"),
            ("worker:", "task type"),
            ("worker:a*b", "render.*"),
            ("worker:a,,b", "task type"),
        ] {
            let error = text.parse::<Grants>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        let many = format!("worker:{}", vec!["t"; ROLE_TYPES_MAX + 1].join(","));
        assert_eq!(many.parse::<Grants>(), Err(GrantsError::TooManyTypes));
    }

    #[test]
    fn a_pattern_covers_its_types_and_no_others() {
        let grants: Grants = "worker:render.*,ocr".parse().unwrap();
        for (task_type, allowed) in
            [("render.video", true), ("render.", true), ("render", false), ("ocr", true), ("ocr2", false), ("", false)]
        {
            assert_eq!(grants.allow_type(task_type), allowed, "{task_type}");
        }
        assert!(Grants::of(Role::Worker).allow_type("anything") && !Grants::of(Role::Agent).allow_type("anything"));
    }

    /// The table of section "Roles" in docs/reference.md, written once more.
    #[test]
    fn each_role_allows_what_its_description_says() {
        use Allowed::{All, No, Own};
        let columns = [Grant::None, Grant::Submit, Grant::Work, Grant::Read, Grant::Manage, Grant::Admin];
        for (role, expected) in [
            (Role::Admin, [All, All, All, All, All, All]),
            (Role::Member, [All, All, All, All, All, No]),
            (Role::Agent, [All, Own, No, Own, No, No]),
            (Role::Worker, [All, No, All, No, No, No]),
        ] {
            assert_eq!(columns.map(|grant| Grants::of(role).allow(grant)), expected, "{role}");
        }
    }
}
