use crate::Request;

/// What comes of asking the same thing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing is changed either time.
    Reads,
    /// The second time finds what the first has left, and leaves it so.
    Same,
    /// As [`Same`](Self::Same), as long as every task is known again, by its id or an idempotency key.
    Known,
    /// Something else.
    Differs,
}

impl Request {
    /// Says for every operation what comes of asking it twice. The one place that decides what is safe to repeat.
    #[must_use]
    pub const fn repeat(&self) -> Repeat {
        match self {
        Self::Get(_)
        | Self::GetMany(_)
        | Self::Wait(_)
        | Self::List(_)
        | Self::StatsQuery(_)
        | Self::StatusQuery(_)
        | Self::Peers(_)
        | Self::ListTools(_)
        | Self::CacheGet(_)
        | Self::CacheHas(_) => Repeat::Reads,
        Self::Submit(_) | Self::SubmitMany(_) => Repeat::Known,
        // A completion and its children are one transaction under one fence: whoever repeats it adds no child. A task that
        // it claimed besides would be lost until its lease ends.
        Self::Complete(complete) => {
            if complete.claim_next.is_none() {
                Repeat::Same
            } else {
                Repeat::Differs
            }
        }
        // These set something to a value, or extend a lease from now on.
        Self::Renew(_)
        | Self::Cancel(_)
        | Self::Answer(_)
        | Self::Pause(_)
        | Self::Resume(_)
        | Self::Limit(_)
        | Self::CacheSet(_) => Repeat::Same,
        // These hand out, take back, count or remove: the second answer is not the first one's.
        Self::Claim(_)
        | Self::ClaimMany(_)
        | Self::Fail(_)
        | Self::Release(_)
        | Self::Retry(_)
        | Self::Purge(_)
        | Self::CacheDelete(_)
        | Self::Heartbeat(_)
        | Self::CallTool(_)
        // No peer answers these.
        | Self::Discover(_)
        | Self::Invite(_)
        | Self::Join(_) => Repeat::Differs,
        // Only the node of this machine passes a request on. What a third node makes of a change that comes twice is not
        // for the session with this one to say.
        Self::At(at) => match at.request.repeat() {
            Repeat::Reads => Repeat::Reads,
            _ => Repeat::Differs,
        },
    }
    }
}
