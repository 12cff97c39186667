//! How many requests of each kind may be in flight. Each kind has its own bound, so that many requests of one kind do
//! not keep out the others.

use taskqueue_api::{ErrorCode, QueueError, RequestKind};

use crate::wire::{
    limits::{FRAME_BYTES_MAX, IN_FLIGHT_MAX, RETRY_AFTER_S, WAITS_MAX},
    terms::Terms,
};

const KINDS: usize = 4;

/// Returns how many bytes may be in flight before a request of this kind is refused.
///
/// Requests that wait have `waits_max`. Each further kind has additional room for one frame of the largest size.
pub(super) const fn bytes_max(kind: RequestKind, waits_max: usize) -> usize {
    match kind {
        RequestKind::Watches | RequestKind::Works => waits_max,
        RequestKind::Asks => waits_max + FRAME_BYTES_MAX,
        RequestKind::Keeps => waits_max + 2 * FRAME_BYTES_MAX,
    }
}

/// Requests in flight, by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts([usize; KINDS]);

impl Counts {
    pub(crate) fn add(&mut self, kind: RequestKind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count += 1;
        }
    }

    pub(crate) fn take(&mut self, kind: RequestKind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// Checks that a peer with these limits has room for one more request of the kind. The error is the bound that is
    /// reached.
    pub(crate) fn room(&self, kind: RequestKind, terms: Terms) -> Result<(), usize> {
        let mut reached = bounds(terms).into_iter().filter(|bound| bound.counts(kind) && self.sum(bound) >= bound.max);
        reached.next().map_or(Ok(()), |bound| Err(bound.max))
    }

    /// Checks that this end has room for one more request of the peer.
    ///
    /// This end always counts requests that wait apart from the others. A peer that counts all requests together keeps
    /// to a lower bound, so it passes these checks as well.
    pub(super) fn inbound_room(&self, kind: RequestKind) -> Result<(), QueueError> {
        let (bound, what) = match kind {
            RequestKind::Watches | RequestKind::Works => {
                (Bound { first: 0, last: 1, max: WAITS_MAX }, "requests of this peer that wait")
            }
            RequestKind::Asks => (Bound { first: 2, last: 2, max: IN_FLIGHT_MAX }, "requests of this peer in flight"),
            RequestKind::Keeps => (Bound { first: 3, last: 3, max: IN_FLIGHT_MAX }, "requests of this peer in flight"),
        };
        if self.sum(&bound) < bound.max { Ok(()) } else { Err(overloaded(bound.max, what)) }
    }

    fn sum(&self, bound: &Bound) -> usize {
        self.0.iter().skip(bound.first).take(bound.last + 1 - bound.first).sum()
    }
}

/// The bound on requests of the kinds from `first` to `last`, counted together.
#[derive(Debug)]
struct Bound {
    first: usize,
    last: usize,
    max: usize,
}

impl Bound {
    const fn counts(&self, kind: RequestKind) -> bool {
        self.first <= kind as usize && kind as usize <= self.last
    }
}

/// Returns the bounds that hold for a peer with these terms. Each kind leaves at least an eighth to the next one.
fn bounds(terms: Terms) -> [Bound; KINDS] {
    let bound = |first, kind: RequestKind, all: usize, eighths| Bound {
        first: first as usize,
        last: kind as usize,
        max: all * eighths / 8,
    };
    let all = terms.in_flight;
    match terms.waits {
        Some(waits) => [
            bound(RequestKind::Watches, RequestKind::Watches, waits, 7),
            bound(RequestKind::Watches, RequestKind::Works, waits, 8),
            bound(RequestKind::Asks, RequestKind::Asks, all, 7),
            bound(RequestKind::Asks, RequestKind::Keeps, all, 8),
        ],
        // The peer counts all kinds together.
        None => [
            bound(RequestKind::Watches, RequestKind::Watches, all, 5),
            bound(RequestKind::Watches, RequestKind::Works, all, 6),
            bound(RequestKind::Watches, RequestKind::Asks, all, 7),
            bound(RequestKind::Watches, RequestKind::Keeps, all, 8),
        ],
    }
}

/// Returns the error for a bound that is reached.
pub(super) fn overloaded(limit: usize, what: &str) -> QueueError {
    QueueError::overloaded(limit, what, RETRY_AFTER_S)
}

/// Whether the error says that a bound is reached.
pub(super) fn is_overloaded(error: &QueueError) -> bool {
    error.code == ErrorCode::Overloaded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::limits::IN_FLIGHT_MIN;

    fn fill(counts: &mut Counts, kind: RequestKind, terms: Terms) -> usize {
        let mut taken = 0;
        while counts.room(kind, terms).is_ok() {
            counts.add(kind);
            taken += 1;
        }
        taken
    }

    #[test]
    fn each_kind_finds_room_beside_the_ones_before() {
        let kinds = [RequestKind::Watches, RequestKind::Works, RequestKind::Asks, RequestKind::Keeps];
        let taken = |terms: Terms| {
            let mut counts = Counts::default();
            kinds.map(|kind| fill(&mut counts, kind, terms))
        };
        assert_eq!(taken(Terms::ours()), [1_792, 256, 896, 128]);
        // A peer that counts them together is never asked more than it takes.
        assert_eq!(taken(Terms::default()), [640, 128, 128, 128]);
        let least = Terms { in_flight: IN_FLIGHT_MIN, ..Terms::default() };
        assert_eq!(taken(least), [10, 2, 2, 2]);
        let mut counts = Counts::default();
        counts.add(RequestKind::Works);
        counts.take(RequestKind::Works);
        assert_eq!(counts, Counts::default());
    }
}
