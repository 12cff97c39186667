use std::time::Duration;

use taskqueue_api::{Request, limits::WAIT_S_MAX};

use crate::wire::limits::{LONG_POLL_MARGIN, REQUEST_TIMEOUT};

/// How long to wait for the answer to a request: the time that it names, else the time that all others have.
pub(super) fn timeout_of(request: &Request) -> Duration {
    match request {
        Request::StatusQuery(query) => seconds(query.timeout_s),
        // The node that passes it on has the same deadline, and its error says more than a timeout here.
        Request::At(at) => timeout_of(&at.request) + LONG_POLL_MARGIN,
        request => REQUEST_TIMEOUT.max(seconds(request.wait_s()) + LONG_POLL_MARGIN),
    }
}

/// A time that a caller asked for. NaN and negative numbers count as 0, and longer times as the longest.
pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.clamp(0.0, WAIT_S_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use taskqueue_api::{Claim, ClaimMany, Complete, Fence, Operation as _, TaskId, Wait};

    use super::*;

    #[test]
    fn a_claim_within_another_operation_has_its_time() {
        let claim = Claim { wait_s: 300.0, ..Claim::new("w") };
        let many = ClaimMany { claim: claim.clone(), max_tasks: 2 };
        let fence = Fence { epoch: 1, counter: 1 };
        let next = Complete { claim_next: Some(claim), ..Complete::new(TaskId::from_bytes([0; 16]), fence, None) };
        for request in [many.into_request(), next.into_request()] {
            assert_eq!(timeout_of(&request), Duration::from_secs(300) + LONG_POLL_MARGIN, "{}", request.name());
        }
    }

    #[test]
    fn what_is_no_time_does_not_overflow_one() {
        let timeout = |seconds| timeout_of(&Request::Wait(Wait::one(TaskId::from_bytes([0; 16]), seconds)));
        for odd in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(timeout(odd), REQUEST_TIMEOUT, "{odd}");
        }
        assert_eq!(timeout(f64::INFINITY), Duration::from_secs_f64(WAIT_S_MAX) + LONG_POLL_MARGIN);
    }
}
