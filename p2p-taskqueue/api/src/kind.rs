use crate::{At, Claim, Complete, Renew, Request, Waits};

/// What a request does. The kinds that must leave room for the others come first.
///
/// Wherever requests are bounded, each kind has its own bound, so that many requests of one kind do not keep out
/// another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Waits for what others do: the end of a task, the answer of a tool, or a peer that is found.
    Watches,
    /// Waits for work, or for news about work that is running.
    Works,
    /// Is answered at once.
    Asks,
    /// Keeps a lease or ends it, and is answered at once.
    Keeps,
}

impl RequestKind {
    /// The kind of a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        match request.waits_for() {
            Waits::ForWork(seconds) if seconds > 0.0 => Self::Works,
            Waits::ForOthers(seconds) if seconds > 0.0 => Self::Watches,
            _ if request.inner().facts().keeps_lease => Self::Keeps,
            _ => Self::Asks,
        }
    }

    /// Whether it waits for something to happen.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Watches | Self::Works)
    }
}

impl Request {
    /// Whether the request waits for something to happen.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.wait_s() > 0.0
    }

    /// Whether the request goes ahead of others: it keeps or ends a lease, with or without a wait, and its answer is
    /// small.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.inner().facts().keeps_lease && !self.hands_out()
    }

    /// Removes the wait from a request whose main purpose is not to wait: a renewal or a completion.
    ///
    /// Such a request is made even when there is no room to wait, because its lease would be lost otherwise.
    #[must_use]
    pub fn without_wait(&self) -> Option<Self> {
        match self {
            Self::Renew(renew) if renew.wait_s > 0.0 => Some(Self::Renew(Renew { wait_s: 0.0, ..renew.clone() })),
            Self::Complete(complete) if self.waits() => {
                let claim_next = complete.claim_next.clone().map(|claim| Claim { wait_s: 0.0, ..claim });
                Some(Self::Complete(Complete { claim_next, ..complete.clone() }))
            }
            Self::At(at) => {
                let request = Box::new(at.request.without_wait()?);
                Some(Self::At(At { target: at.target.clone(), request }))
            }
            _ => None,
        }
    }

    /// Removes the claim from a completion, for a caller that does not read its answers. Such a caller would be given a
    /// task that it never hears of.
    #[must_use]
    pub fn without_claim(self) -> Self {
        match self {
            Self::Complete(complete) => Self::Complete(Complete { claim_next: None, ..complete }),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fence, Get, Operation as _, PeerId, Target, TaskId, Wait};

    #[test]
    fn a_request_is_of_one_kind_wherever_it_is_asked() {
        let (task_id, fence) = (TaskId::from_bytes([1; 16]), Fence { epoch: 1, counter: 1 });
        let renew = |wait_s| Renew { wait_s, ..Renew::new(task_id, fence, 30.0) }.into_request();
        let complete = |wait_s| {
            let claim_next = Some(Claim { wait_s, ..Claim::new("w") });
            Complete { claim_next, ..Complete::new(task_id, fence, None) }.into_request()
        };
        for (request, kind) in [
            (Wait::one(task_id, 1.0).into_request(), RequestKind::Watches),
            (Wait::one(task_id, 0.0).into_request(), RequestKind::Asks),
            (renew(1.0), RequestKind::Works),
            (renew(0.0), RequestKind::Keeps),
            (complete(1.0), RequestKind::Works),
            (complete(0.0), RequestKind::Keeps),
            (Get { task_id }.into_request(), RequestKind::Asks),
        ] {
            assert_eq!(RequestKind::of(&request), kind, "{request:?}");
            let elsewhere = At::request(Target::peer(PeerId::random()), request.clone());
            assert_eq!(RequestKind::of(&elsewhere), kind, "{request:?}");
            assert_eq!(elsewhere.without_wait().map(|request| request.waits()), request.without_wait().map(|_| false));
        }
        assert_eq!(RequestKind::of(&complete(1.0).without_wait().unwrap()), RequestKind::Keeps);
        assert!(renew(1.0).is_urgent() && !complete(0.0).is_urgent() && complete(1.0).without_claim().is_urgent());
    }
}
