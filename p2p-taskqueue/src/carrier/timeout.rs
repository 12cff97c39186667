use std::time::Duration;

use crate::{
    Request,
    wire::limits::{LONG_POLL_MARGIN, REQUEST_TIMEOUT},
};

/// How long to wait for the answer to a request: its own time when it names one, else the common one.
pub(super) fn timeout_of(request: &Request) -> Duration {
    match request {
        Request::Wait(wait) => REQUEST_TIMEOUT.max(seconds(wait.timeout_s) + LONG_POLL_MARGIN),
        Request::Claim(claim) => REQUEST_TIMEOUT.max(seconds(claim.wait_s) + LONG_POLL_MARGIN),
        Request::StatusQuery(query) => seconds(query.timeout_s),
        // The node that passes it on has the same deadline, and its error says more than a timeout here.
        Request::At(at) => timeout_of(&at.request) + LONG_POLL_MARGIN,
        _ => REQUEST_TIMEOUT,
    }
}

/// A time that a caller asked for; what is no time is none.
pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
