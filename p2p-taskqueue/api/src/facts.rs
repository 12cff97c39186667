use crate::{At, Repeat, Request, Submit, TaskId};

/// What is true of an operation whatever it is asked with. Every place that needs to know reads it here.
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
    /// What whoever asks must be allowed to do.
    pub grant: Grant,
    /// Whether its request carries payloads, a result or a value, and may be as large as those.
    pub carries_content: bool,
    /// Whether it keeps or ends a lease, so that a worker would lose its task if it found no room.
    pub keeps_lease: bool,
}

/// Who answers an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The store of the tasks' owner. The queue over it may add a wait, or tell a worker.
    Store,
    /// The queue over the store, which has a runtime to wait on.
    Queue,
    /// A node of the mesh, of itself.
    Node,
}

/// Who may ask for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTo {
    /// Peers, and clients of the machine.
    Everybody,
    /// Clients of the machine alone, not peers.
    ThisMachine,
}

/// What whoever asks for an operation must be allowed to do. Today every peer that knows the mesh secret may do all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Nothing in particular.
    None,
    /// Queue tasks, and steer those.
    Submit,
    /// Take tasks and report how they ended.
    Work,
    /// See tasks of others.
    Read,
    /// Change what holds for everybody's tasks.
    Manage,
    /// Say who belongs to the mesh.
    Admin,
}

/// Which tasks lead to the peer that has to answer, when no target is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// None: it is answered where it is asked.
    Here,
    /// The owner of this task.
    Task(TaskId),
    /// The owners of these tasks, each for its own.
    Tasks(&'a [TaskId]),
}

/// What a request waits for, and how long at most: seconds as the caller gave them, not checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Waits {
    /// It is answered at once.
    No,
    /// For work, or for word about the work under way.
    ForWork(f64),
    /// For what others do: the end of a task, the answer of a tool, a peer that is found.
    ForOthers(f64),
}

/// What a request adds to what is kept, and a full disk has no room for.
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
    /// What is true of passing a request on, besides what is true of that request.
    pub(crate) const PASSING_ON: Self = Self {
        name: "at",
        about: "Ask another peer.",
        answered_by: AnsweredBy::Node,
        open_to: OpenTo::ThisMachine,
        grant: Grant::None,
        carries_content: true,
        keeps_lease: false,
    };

    /// The operation of this name; passing a request on is none.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        Request::OPERATIONS.iter().find(|facts| facts.name == name)
    }
}

impl Waits {
    /// How long at most, in seconds as the caller gave them.
    #[must_use]
    pub const fn seconds(self) -> f64 {
        match self {
            Self::No => 0.0,
            Self::ForWork(seconds) | Self::ForOthers(seconds) => seconds,
        }
    }
}

impl Request {
    /// The request itself, also when another peer is to be asked.
    #[must_use]
    pub const fn inner(&self) -> &Self {
        match self {
            Self::At(At { request, .. }) => request,
            request => request,
        }
    }

    /// Whether giving it up while it waits may leave a change behind, so that whoever ends the wait does not know what became of
    /// it.
    #[must_use]
    pub fn changes_before_it_waits(&self) -> bool {
        // A claim that is given up gives back what it may have been given.
        let inner = self.inner();
        let is_given_back = inner.hands_out() && !inner.facts().keeps_lease;
        !is_given_back && inner.repeat() != Repeat::Reads
    }

    /// How long the operation asks to wait, in seconds as its caller gave it: not checked, perhaps no time at all.
    #[must_use]
    pub fn wait_s(&self) -> f64 {
        self.waits_for().seconds()
    }
}
