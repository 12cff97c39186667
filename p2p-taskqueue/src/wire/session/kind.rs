//! What kinds of requests there are. Each has a bound of its own, so that many of one kind keep no other one out.

use crate::{
    ErrorCode, QueueError, Request,
    api::{Claim, Complete, Renew},
    wire::{
        limits::{FRAME_BYTES_MAX, IN_FLIGHT_MAX, RETRY_AFTER_S, WAITS_MAX},
        terms::Terms,
    },
};

/// What a request does, those first that have to leave room for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Waits for what others do: the end of a task, the answer of a tool, a peer that is found.
    Watches,
    /// Waits for work, or for word about the work under way.
    Works,
    /// Is answered at once.
    Asks,
    /// Keeps a lease or ends it, and is answered at once.
    Keeps,
}

const KINDS: usize = 4;

impl Kind {
    pub(crate) fn of(request: &Request) -> Self {
        match request {
            Request::At(at) => Self::of(&at.request),
            Request::Claim(_) | Request::ClaimMany(_) | Request::Renew(_) | Request::Complete(_) if waits(request) => {
                Self::Works
            }
            _ if waits(request) => Self::Watches,
            Request::Renew(_) | Request::Complete(_) | Request::Fail(_) | Request::Release(_) => Self::Keeps,
            _ => Self::Asks,
        }
    }

    /// Whether it waits for something to happen.
    pub(crate) const fn waits(self) -> bool {
        matches!(self, Self::Watches | Self::Works)
    }

    /// How many bytes there may be in flight before one of this kind is refused: beyond `waits_max`, which is for those that
    /// wait, each kind finds room for one frame of the largest size.
    pub(super) const fn bytes_max(self, waits_max: usize) -> usize {
        match self {
            Self::Watches | Self::Works => waits_max,
            Self::Asks => waits_max + FRAME_BYTES_MAX,
            Self::Keeps => waits_max + 2 * FRAME_BYTES_MAX,
        }
    }
}

/// Whether the request waits for something to happen.
pub(super) fn waits(request: &Request) -> bool {
    request.wait_s() > 0.0
}

/// Whether it keeps or ends a lease, at once or waiting for word, and has a small answer: then it goes ahead of others.
pub(super) fn is_urgent(request: &Request) -> bool {
    match request {
        Request::Renew(_) | Request::Fail(_) | Request::Release(_) => true,
        Request::Complete(complete) => complete.claim_next.is_none(),
        Request::At(at) => is_urgent(&at.request),
        _ => false,
    }
}

/// The same without its wait, where the wait is not what it is made for: a renewal or a completion that finds no room to wait
/// is made all the same, or its lease would be lost.
pub(crate) fn without_wait(request: &Request) -> Option<Request> {
    match request {
        Request::Renew(renew) if renew.wait_s > 0.0 => Some(Request::Renew(Renew { wait_s: 0.0, ..renew.clone() })),
        Request::Complete(complete) if waits(request) => {
            let claim_next = complete.claim_next.clone().map(|claim| Claim { wait_s: 0.0, ..claim });
            Some(Request::Complete(Complete { claim_next, ..complete.clone() }))
        }
        Request::At(at) => {
            let request = Box::new(without_wait(&at.request)?);
            Some(Request::At(crate::api::At { target: at.target.clone(), request }))
        }
        _ => None,
    }
}

/// The same for a peer that does not read: it would be given a task that it does not hear of.
pub(super) fn without_claim(request: Request) -> Request {
    match request {
        Request::Complete(complete) => Request::Complete(Complete { claim_next: None, ..complete }),
        other => other,
    }
}

/// Requests in flight, by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts([usize; KINDS]);

impl Counts {
    pub(crate) fn add(&mut self, kind: Kind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count += 1;
        }
    }

    pub(crate) fn take(&mut self, kind: Kind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether there is room for one more of the kind towards a peer that takes so much; the bound that is reached, if not.
    pub(crate) fn room(&self, kind: Kind, terms: Terms) -> Result<(), usize> {
        let mut reached = bounds(terms).into_iter().filter(|bound| bound.counts(kind) && self.sum(bound) >= bound.max);
        reached.next().map_or(Ok(()), |bound| Err(bound.max))
    }

    /// The same at the end that is asked, which counts what waits apart, whatever the peer knows of that: one that keeps to
    /// the bound of all together passes each of these.
    pub(super) fn inbound_room(&self, kind: Kind) -> Result<(), QueueError> {
        let (bound, what) = match kind {
            Kind::Watches | Kind::Works => {
                (Bound { first: 0, last: 1, max: WAITS_MAX }, "requests of this peer that wait")
            }
            Kind::Asks => (Bound { first: 2, last: 2, max: IN_FLIGHT_MAX }, "requests of this peer in flight"),
            Kind::Keeps => (Bound { first: 3, last: 3, max: IN_FLIGHT_MAX }, "requests of this peer in flight"),
        };
        if self.sum(&bound) < bound.max { Ok(()) } else { Err(overloaded(bound.max, what)) }
    }

    fn sum(&self, bound: &Bound) -> usize {
        self.0.iter().skip(bound.first).take(bound.last + 1 - bound.first).sum()
    }
}

/// How many there may be of these kinds together.
#[derive(Debug)]
struct Bound {
    first: usize,
    last: usize,
    max: usize,
}

impl Bound {
    const fn counts(&self, kind: Kind) -> bool {
        self.first <= kind as usize && kind as usize <= self.last
    }
}

/// Each kind leaves an eighth to the next one.
fn bounds(terms: Terms) -> [Bound; KINDS] {
    let bound = |first, kind: Kind, all: usize, eighths| Bound {
        first: first as usize,
        last: kind as usize,
        max: all * eighths / 8,
    };
    let all = terms.in_flight;
    match terms.waits {
        Some(waits) => [
            bound(Kind::Watches, Kind::Watches, waits, 7),
            bound(Kind::Watches, Kind::Works, waits, 8),
            bound(Kind::Asks, Kind::Asks, all, 7),
            bound(Kind::Asks, Kind::Keeps, all, 8),
        ],
        // All together.
        None => [
            bound(Kind::Watches, Kind::Watches, all, 5),
            bound(Kind::Watches, Kind::Works, all, 6),
            bound(Kind::Watches, Kind::Asks, all, 7),
            bound(Kind::Watches, Kind::Keeps, all, 8),
        ],
    }
}

/// A bound is reached.
pub(super) fn overloaded(limit: usize, what: &str) -> QueueError {
    QueueError::overloaded(limit, what, RETRY_AFTER_S)
}

/// Whether the refusal is one for a bound.
pub(super) fn is_overloaded(error: &QueueError) -> bool {
    error.code == ErrorCode::Overloaded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Fence, Operation as _, PeerId, TaskId,
        api::{At, Get, Target, Wait},
        wire::limits::IN_FLIGHT_MIN,
    };

    fn fill(counts: &mut Counts, kind: Kind, terms: Terms) -> usize {
        let mut taken = 0;
        while counts.room(kind, terms).is_ok() {
            counts.add(kind);
            taken += 1;
        }
        taken
    }

    #[test]
    fn each_kind_finds_room_beside_the_ones_before() {
        let kinds = [Kind::Watches, Kind::Works, Kind::Asks, Kind::Keeps];
        let taken = |terms: Terms| {
            let mut counts = Counts::default();
            kinds.map(|kind| fill(&mut counts, kind, terms))
        };
        assert_eq!(taken(Terms::ours()), [1_792, 256, 896, 128]);
        // A peer that counts them together is asked no more than it takes.
        assert_eq!(taken(Terms::default()), [640, 128, 128, 128]);
        let least = Terms { in_flight: IN_FLIGHT_MIN, ..Terms::default() };
        assert_eq!(taken(least), [10, 2, 2, 2]);
        let mut counts = Counts::default();
        counts.add(Kind::Works);
        counts.take(Kind::Works);
        assert_eq!(counts, Counts::default());
    }

    #[test]
    fn a_request_is_of_one_kind_wherever_it_is_asked() {
        let (task_id, fence) = (TaskId::from_bytes([1; 16]), Fence { epoch: 1, counter: 1 });
        let renew = |wait_s| Renew { wait_s, ..Renew::new(task_id, fence, 30.0) }.into_request();
        let complete = |wait_s| {
            let claim_next = Some(Claim { wait_s, ..Claim::new("w") });
            Complete { claim_next, ..Complete::new(task_id, fence, None) }.into_request()
        };
        for (request, kind) in [
            (Wait::one(task_id, 1.0).into_request(), Kind::Watches),
            (Wait::one(task_id, 0.0).into_request(), Kind::Asks),
            (renew(1.0), Kind::Works),
            (renew(0.0), Kind::Keeps),
            (complete(1.0), Kind::Works),
            (complete(0.0), Kind::Keeps),
            (Get { task_id }.into_request(), Kind::Asks),
        ] {
            assert_eq!(Kind::of(&request), kind, "{request:?}");
            let elsewhere = At::request(Target::peer(PeerId::random()), request.clone());
            assert_eq!(Kind::of(&elsewhere), kind, "{request:?}");
            assert_eq!(without_wait(&elsewhere).map(|request| waits(&request)), without_wait(&request).map(|_| false));
        }
        assert_eq!(Kind::of(&without_wait(&complete(1.0)).unwrap()), Kind::Keeps);
        assert!(is_urgent(&renew(1.0)) && !is_urgent(&complete(0.0)) && is_urgent(&without_claim(complete(1.0))));
    }
}
