//! The check of what a caller may do. The owner of the tasks makes it, before anything is read or changed.

use std::collections::BTreeSet;

use crate::{
    Adds, Allowed, At, Caller, Check as _, Complete, ErrorCode, Facts, GetMany, Grant, Grants, Operation, PeerId,
    QueueError, Request, Response, Route, StatsQuery, Target, TaskId, TaskQueue, TaskRecord,
};

/// What a caller may do, and which tasks are its own.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    grants: &'a Grants,
    own: Own<'a>,
}

/// The tasks that are a caller's own.
#[derive(Debug, Clone, Copy)]
enum Own<'a> {
    /// Those that this machine submitted.
    Machine(PeerId),
    /// Those that a server of this machine submitted in the name of this client.
    Client(&'a str),
}

/// A request that is allowed, and what remains to be seen to.
#[derive(Debug, Clone, PartialEq)]
struct Admitted {
    request: Request,
    /// The tasks that must be the caller's own.
    must_be_own: BTreeSet<TaskId>,
    /// Whether the answer may show the caller's own tasks only.
    shows_own: bool,
}

impl<'a> Guard<'a> {
    /// Returns the guard over the requests of a caller; `None` for this machine, which may do everything.
    #[must_use]
    pub fn of(caller: &'a Caller) -> Option<Self> {
        match caller {
            Caller::Local => None,
            Caller::Peer(member) => Some(Self { grants: &member.grants, own: Own::Machine(member.peer) }),
        }
    }

    /// Returns the guard over the requests that a server makes in the name of one of its clients.
    #[must_use]
    pub const fn of_client(name: &'a str, grants: &'a Grants) -> Self {
        Self { grants, own: Own::Client(name) }
    }

    /// Tells whether the caller may ask for an operation at all. Whether it may for these tasks is told by
    /// [`call`](Self::call) alone.
    #[must_use]
    pub fn allows(&self, facts: &Facts) -> bool {
        match self.grants.allow(facts.grant) {
            Allowed::All => true,
            // The numbers are about everybody's tasks.
            Allowed::Own => facts.name != StatsQuery::NAME,
            Allowed::No => false,
        }
    }

    /// Makes the request of `queue` if it is allowed. `read` is who reads the tasks that have to be the caller's own.
    /// They are read where the request goes.
    ///
    /// # Errors
    ///
    /// `forbidden` when the caller may not do this, `not_found` when a task is not its own, and the errors of `queue`.
    ///
    /// # Cancel safety
    ///
    /// As the request itself.
    pub async fn call(
        self,
        queue: &dyn TaskQueue,
        caller: &Caller,
        read: &Caller,
        request: Request,
    ) -> Result<Response, QueueError> {
        let Admitted { request, must_be_own, shows_own } = self.admit(request)?;
        if !must_be_own.is_empty() {
            // The ids were not bounded yet.
            request.check()?;
            let target = target_of(&request);
            for task_id in must_be_own {
                self.check_own(queue, read, &target, task_id).await?;
            }
        }
        let mut response = queue.call(caller, request).await?;
        if shows_own {
            self.show_own(&mut response);
        }
        Ok(response)
    }

    /// Refuses a task of somebody else as one that is not there. A task that is not there is left to the queue to
    /// refuse.
    async fn check_own(
        &self,
        queue: &dyn TaskQueue,
        read: &Caller,
        target: &Target,
        task_id: TaskId,
    ) -> Result<(), QueueError> {
        // One by one: records together may be larger than an answer.
        let get = GetMany { task_ids: vec![task_id] }.into_request();
        let got = GetMany::answer(queue.call(read, At::request(target.clone(), get)).await?)?;
        match got.tasks.iter().all(|task| self.owns(task)) {
            true => Ok(()),
            false => Err(QueueError::new(ErrorCode::NotFound, format!("no task {task_id}"))),
        }
    }

    /// Takes the tasks of others out of an answer, as if they were not there.
    fn show_own(&self, response: &mut Response) {
        match response {
            Response::Listed(listed) => listed.tasks.retain(|task| self.owns(task)),
            Response::GotMany(got) => {
                let missing = &mut got.missing;
                got.tasks.retain(|task| {
                    let is_own = self.owns(task);
                    missing.extend((!is_own).then_some(task.task_id));
                    is_own
                });
            }
            _ => {}
        }
    }

    fn owns(&self, task: &TaskRecord) -> bool {
        match self.own {
            Own::Machine(peer) => task.submitted_by == Some(peer),
            Own::Client(name) => task.submitter.as_deref() == Some(name),
        }
    }

    /// Decides whether the request is allowed, as far as it can be told without a look at any task.
    fn admit(&self, request: Request) -> Result<Admitted, QueueError> {
        let asked = request.inner();
        if !self.allows(asked.facts()) {
            let needed = asked.facts().grant;
            return Err(match self.grants.allow(needed) {
                Allowed::No => self.forbidden(&format!("{} needs the right to {}", asked.name(), right(needed))),
                _ => self.forbidden("the numbers are about everybody's tasks"),
            });
        }
        self.check_children(asked)?;
        let mut request = request;
        self.narrow_claim(&mut request)?;
        let asked = request.inner();
        if self.grants.allow(asked.facts().grant) != Allowed::Own {
            return Ok(Admitted { request, must_be_own: BTreeSet::new(), shows_own: false });
        }
        let shows_own = matches!(asked, Request::List(_) | Request::GetMany(_));
        let mut must_be_own: BTreeSet<TaskId> = match asked.route() {
            _ if shows_own => BTreeSet::new(),
            Route::Task(id) => BTreeSet::from([id]),
            Route::Tasks(ids) => ids.iter().copied().collect(),
            Route::Here => BTreeSet::new(),
        };
        // A task that comes after another one tells when that one has ended, and how.
        if let Adds::Tasks(submits) = asked.adds() {
            must_be_own.extend(submits.iter().flat_map(|submit| &submit.after));
        }
        Ok(Admitted { request: self.in_own_space(request), must_be_own, shows_own })
    }

    /// Leaves the task types in a claim that the caller may work on. So a worker of several types gets tasks of those, and
    /// none of the others. A claim of no such type is refused.
    fn narrow_claim(&self, request: &mut Request) -> Result<(), QueueError> {
        let claim = match request {
            Request::At(At { request, .. }) => return self.narrow_claim(request),
            Request::Claim(claim) | Request::Complete(Complete { claim_next: Some(claim), .. }) => claim,
            Request::ClaimMany(many) => &mut many.claim,
            _ => return Ok(()),
        };
        if self.grants.types().is_empty() {
            return Ok(());
        }
        let types = &mut claim.supported_task_types;
        let Some(first) = types.first().cloned() else {
            return Err(self.forbidden("a claim has to name the task types"));
        };
        types.retain(|named| self.grants.allow_type(named));
        if types.is_empty() {
            return Err(self.forbidden(&format!("tasks of type {first:?} are for others")));
        }
        Ok(())
    }

    /// Refuses a completion that adds tasks, from a caller that may not submit.
    fn check_children(&self, request: &Request) -> Result<(), QueueError> {
        let adds = matches!(request, Request::Complete(complete) if !complete.submit.is_empty());
        if adds && self.grants.allow(Grant::Submit) == Allowed::No {
            return Err(self.forbidden("a completion that adds tasks needs the right to submit"));
        }
        Ok(())
    }

    /// Moves the keys of the cache into the caller's own space.
    fn in_own_space(&self, request: Request) -> Request {
        let space = match self.own {
            Own::Machine(peer) => peer.to_base58(),
            Own::Client(name) => name.to_owned(),
        };
        // With its length before it, no name of a space is the beginning of another one.
        let own_key = |key: &mut String| *key = format!("/own/{}/{space}/{key}", space.len());
        let mut request = request;
        let asked = match &mut request {
            Request::At(at) => &mut *at.request,
            asked => asked,
        };
        match asked {
            Request::CacheGet(get) => own_key(&mut get.key),
            Request::CacheHas(has) => own_key(&mut has.key),
            Request::CacheSet(set) => own_key(&mut set.key),
            Request::CacheDelete(delete) => own_key(&mut delete.key),
            _ => {}
        }
        request
    }

    fn forbidden(&self, why: &str) -> QueueError {
        let message = format!("not allowed for {}: {why}. An admin changes what it may do", self.grants);
        QueueError::new(ErrorCode::Forbidden, message)
    }
}

/// Returns where a request goes.
fn target_of(request: &Request) -> Target {
    match request {
        Request::At(At { target, .. }) => target.clone(),
        _ => Target::default(),
    }
}

/// Returns what a grant allows, as a person would say it.
const fn right(grant: Grant) -> &'static str {
    match grant {
        Grant::None => "ask",
        Grant::Submit => "submit tasks",
        Grant::Work => "work on tasks",
        Grant::Read => "read tasks",
        Grant::Manage => "manage the queue",
        Grant::Admin => "decide who belongs to the mesh",
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
