use taskqueue_api::{ErrorCode, QueueError};

use super::{
    limits::{ADMINS_MAX, MEMBERS_MAX},
    name::{MachineName, ParseNameError},
    tickets::{NotInvited, TicketRefusal},
};

/// The reason why a node has no part in a mesh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// What was kept, or what another machine sent, is not what it should be.
    #[error("what is known of the mesh is damaged: {0}")]
    Damaged(String),
    /// The root key is that of another mesh.
    #[error("the root key is that of another mesh")]
    OtherRoot,
    /// The text cannot be the name of a machine.
    #[error("{name:?} cannot be the name of a machine: {error}")]
    Name {
        /// The text.
        name: String,
        /// What is wrong with it.
        #[source]
        error: ParseNameError,
    },
    /// The operating system has no randomness to give.
    #[error("failed to draw a random number")]
    Random(#[source] getrandom::Error),
    /// The entry of this machine could not be signed.
    #[error("the entry of this machine could not be signed")]
    Unsigned,
}

/// The reason why the members are not changed. Each message says what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum MembersError {
    /// A text means none of the machines, or several.
    #[error("{}", .0.message)]
    NotFound(Box<QueueError>),
    #[error("no machine of the mesh has the id {0}: `taskmesh members` lists them")]
    Unknown(String),
    #[error("this machine is not an admin of its mesh: ask for it on one that is (`taskmesh members` shows which)")]
    NotAdmin,
    #[error(
        "only the root key decides about admins, and takes back a machine that another admin removed: do it on the machine \
         that began the mesh, or run `taskmesh members restore` here with the recovery key"
    )]
    NeedsRoot,
    #[error("a mesh has up to {MEMBERS_MAX} members and {ADMINS_MAX} admins: remove one first")]
    Full,
    #[error("another machine is called {0} already: choose another name")]
    NameTaken(MachineName),
    #[error("{0}")]
    Name(#[from] ParseNameError),
    #[error("this is the machine itself: run `taskmesh leave` to take it out of the mesh")]
    Itself,
    #[error("this machine is alone in its mesh: there is nothing to leave")]
    Alone,
    #[error(
        "this machine is the last admin of its mesh: make another member an admin first, with `taskmesh members role NAME \
         admin`"
    )]
    LastAdmin,
    #[error(
        "{admin} has let in {}: say which of them stay with --keep NAME,… (or --keep all, --keep none)",
        .signed.join(", ")
    )]
    KeepWhich { admin: String, signed: Vec<String> },
    #[error("{0} is no member any more: nothing is to be done")]
    RemovedAlready(String),
    #[error("no random number can be drawn")]
    Random,
    #[error(transparent)]
    NotInvited(#[from] NotInvited),
    #[error(transparent)]
    Ticket(#[from] TicketRefusal),
    #[error("the change could not be kept on disk: {0}")]
    Unsaved(String),
}

impl From<MembersError> for QueueError {
    fn from(error: MembersError) -> Self {
        let code = match &error {
            MembersError::NotFound(error) => error.code,
            MembersError::Unknown(_) | MembersError::RemovedAlready(_) => ErrorCode::NotFound,
            MembersError::NotAdmin | MembersError::NeedsRoot => ErrorCode::Forbidden,
            MembersError::Full | MembersError::NotInvited(NotInvited::TooMany) => ErrorCode::LimitExceeded,
            MembersError::Ticket(_) => ErrorCode::Unauthorized,
            MembersError::Random => ErrorCode::Internal,
            MembersError::Unsaved(_) => ErrorCode::StorageError,
            _ => ErrorCode::InvalidArgument,
        };
        // The argument of the operation that has to be another one.
        let field = match &error {
            MembersError::NotFound(_)
            | MembersError::Unknown(_)
            | MembersError::RemovedAlready(_)
            | MembersError::Itself
            | MembersError::LastAdmin => "member",
            MembersError::KeepWhich { .. } => "keep",
            MembersError::NameTaken(_) | MembersError::Name(_) => "name",
            MembersError::NotInvited(NotInvited::Uses | NotInvited::Name) => "uses",
            _ => "",
        };
        let mut said = Self::new(code, error.to_string());
        said.field = Some(field.to_owned()).filter(|field| !field.is_empty());
        said
    }
}
