use crate::{At, Repeat, Request, Submit, TaskId};

/// The properties of an operation that do not depend on its arguments. All other code reads them here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Who answers it.
    pub answered_by: AnsweredBy,
    /// Who may ask for it.
    pub open_to: OpenTo,
    /// What the caller must be allowed to do.
    pub grant: Grant,
    /// Whether the request carries payloads, a result or a value, and may therefore be that large.
    pub carries_content: bool,
    /// Whether the operation keeps or ends a lease. A worker would lose its task if such a request found no room.
    pub keeps_lease: bool,
}

/// Who answers an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The store of the tasks' owner. The queue over the store may add a wait, or notify a worker.
    Store,
    /// The queue over the store, which has a runtime to wait on.
    Queue,
    /// The node itself, as part of the mesh.
    Node,
}

/// Who may ask for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTo {
    /// Peers and clients of this machine.
    Everybody,
    /// Only clients of this machine, not peers.
    ThisMachine,
}

/// What a caller must be allowed to do. The [`Grants`](crate::Grants) of its role say whether it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Nothing in particular.
    None,
    /// Queue tasks, and control those tasks.
    Submit,
    /// Take tasks and report how they ended.
    Work,
    /// See the tasks of others.
    Read,
    /// Change settings that apply to everybody's tasks.
    Manage,
    /// Decide who belongs to the mesh.
    Admin,
}

/// The tasks whose owner has to answer when the request names no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// No task: the request is answered by the node that receives it.
    Here,
    /// The owner of this task.
    Task(TaskId),
    /// The owners of these tasks; each owner answers for its own tasks.
    Tasks(&'a [TaskId]),
}

/// What a request waits for, with the longest wait in seconds. The seconds are as the caller gave them and are not
/// checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Waits {
    /// The request is answered at once.
    No,
    /// For work, or for news about work that is running.
    ForWork(f64),
    /// For what others do: the end of a task, the answer of a tool, or a peer that is found.
    ForOthers(f64),
}

/// What a request adds to the store, and a full disk has no room for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Adds<'a> {
    /// Nothing.
    Nothing,
    /// These tasks.
    Tasks(&'a [Submit]),
    /// A value of the cache.
    Value,
}

impl Facts {
    /// The facts about passing a request on. The request that is passed on has its own facts as well.
    pub(crate) const PASSING_ON: Self = Self {
        name: "at",
        about: "Ask another peer.",
        answered_by: AnsweredBy::Node,
        open_to: OpenTo::ThisMachine,
        grant: Grant::None,
        carries_content: true,
        keeps_lease: false,
    };

    /// Finds the facts of the operation with this name. Passing a request on has no such name.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        Request::OPERATIONS.iter().find(|facts| facts.name == name)
    }
}

impl Waits {
    /// The longest wait, in seconds as the caller gave them.
    #[must_use]
    pub const fn seconds(self) -> f64 {
        match self {
            Self::No => 0.0,
            Self::ForWork(seconds) | Self::ForOthers(seconds) => seconds,
        }
    }
}

impl Request {
    /// Returns the request itself, or the request inside when it is for another peer.
    #[must_use]
    pub const fn inner(&self) -> &Self {
        match self {
            Self::At(At { request, .. }) => request,
            request => request,
        }
    }

    /// Whether the request may leave a change behind when the caller gives up its wait. If so, the caller does not know
    /// the outcome.
    #[must_use]
    pub fn changes_before_it_waits(&self) -> bool {
        // A claim that is given up returns any task that it was given.
        let inner = self.inner();
        let is_given_back = inner.hands_out() && !inner.facts().keeps_lease;
        !is_given_back && inner.repeat() != Repeat::Reads
    }

    /// The wait that the operation asks for, in seconds as the caller gave it. It is not checked and may be NaN or
    /// negative.
    #[must_use]
    pub fn wait_s(&self) -> f64 {
        self.waits_for().seconds()
    }
}
